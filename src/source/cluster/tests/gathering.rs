//! Sets of whole objects.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use serde_json::json;

use super::super::fake::*;
use crate::object::{Kind, Name, Namespace, ObjectId};
use crate::source::{Set, Source as _};
use crate::store::{Known, Refusal, Store};

fn pods() -> Set {
    Set::PodsOf { node: Name::new("n1").unwrap(), selector: None }
}

fn names(store: &Store) -> Vec<String> {
    store.names(Kind::Pod, &Namespace::new("prod").unwrap()).iter().map(|name| name.to_string()).collect()
}

#[tokio::test]
async fn the_pods_of_a_node_come_whole_in_pages_and_are_kept_current() {
    let fake = Fake::start(|seen| match seen.is_watch() {
        true => watch(&[
            event("ADDED", &pod("d", "11", "n1")),
            event("DELETED", &pod("a", "12", "n1")),
            event("MODIFIED", &pod("b", "13", "n1")),
        ]),
        false if seen.target.contains("continue=") => ok(&pod_page("10", "", &[pod("c", "3", "n1")])),
        false => ok(&pod_page("10", "more", &[pod("a", "1", "n1"), pod("b", "2", "n1")])),
    })
    .await;
    let (cluster, store) = fake.cluster().await;
    cluster.gather(pods()).await.unwrap();
    cluster.gather(pods()).await.unwrap();
    until("d without a", || names(&store) == ["b", "c", "d"]).await;
    let Some(Known::Loaded(b)) = store.get(&pod_id("b")) else { panic!("b is here as a whole") };
    assert_eq!(b.pod().unwrap().spec.node_name, "n1");
    // Whoever asks for one of them gets it from here.
    assert!(cluster.need(pod_id("d")).await.is_ok());
    for seen in fake.seen() {
        assert!(seen.target.starts_with("/api/v1/pods?"), "{}", seen.target);
        assert!(seen.target.contains("fieldSelector=spec.nodeName%3Dn1"), "{}", seen.target);
        assert!(seen.headers.contains("accept: application/json\r\n"), "{}", seen.headers);
        assert!(!seen.is_watch() || seen.target.contains("resourceVersion=1"), "{}", seen.target);
    }
    assert_eq!(fake.count("limit="), 2, "one list, however many ask");
}

#[tokio::test]
async fn after_a_410_the_set_is_listed_again_and_what_is_gone_goes() {
    let lists = AtomicUsize::new(0);
    let fake = Fake::start(move |seen| match seen.is_watch() {
        true if seen.target.contains("resourceVersion=10") => {
            watch(&[event("ERROR", &json!({"kind": "Status", "code": 410, "reason": "Expired"}))])
        }
        true => watch(&[]),
        false if lists.fetch_add(1, SeqCst) == 0 => {
            ok(&pod_page("10", "", &[pod("a", "1", "n1"), pod("b", "2", "n1")]))
        }
        false => ok(&pod_page("20", "", &[pod("b", "15", "n1")])),
    })
    .await;
    let (cluster, store) = fake.cluster().await;
    // What somebody else put there stays.
    let other = crate::object::object_from_json(Kind::Pod, pod("other", "1", "n2").to_string().as_bytes());
    store.put(other.unwrap());
    cluster.gather(pods()).await.unwrap();
    until("a to go", || names(&store) == ["b", "other"]).await;
    assert_eq!(&*store.get(&pod_id("b")).unwrap().meta().version, "15");
}

#[tokio::test]
async fn a_refusal_is_told_and_asked_about_again() {
    let asked = AtomicUsize::new(0);
    let fake = Fake::start(move |seen| match seen.is_watch() {
        true => watch(&[]),
        false if asked.fetch_add(1, SeqCst) < 2 => status(403, "Forbidden", ""),
        false => ok(&pod_page("10", "", &[pod("a", "1", "n1")])),
    })
    .await;
    let (cluster, store) = fake.cluster().await;
    let refusal = cluster.gather(pods()).await.unwrap_err();
    assert!(
        matches!(refusal, Refusal::Forbidden { .. }) && refusal.to_string().contains("pods on node n1"),
        "{refusal}"
    );
    until("the pods, by a later poll", || names(&store) == ["a"]).await;
    cluster.gather(pods()).await.unwrap();
}

#[tokio::test]
async fn an_outage_removes_nothing_and_a_right_that_is_taken_away_everything() {
    let phase = Arc::new(AtomicUsize::new(0));
    let now = phase.clone();
    let fake = Fake::start(move |seen| match now.load(SeqCst) {
        0 if seen.is_watch() => watch(&[]),
        0 => ok(&pod_page("10", "", &[pod("a", "1", "n1")])),
        1 => answer(502, "text/html", "<html>"),
        _ => status(403, "Forbidden", ""),
    })
    .await;
    let (cluster, store) = fake.cluster().await;
    cluster.gather(pods()).await.unwrap();
    phase.store(1, SeqCst);
    until("trouble", || cluster.status().trouble.is_some()).await;
    assert_eq!(names(&store), ["a"], "an outage deleted it");
    phase.store(2, SeqCst);
    until("the withdrawal", || names(&store).is_empty()).await;
    assert!(store.is_withdrawn(&pod_id("a")));
}

#[tokio::test]
async fn all_trust_bundles_are_known_by_one_list_those_of_signers_too() {
    let bundle = |name: &str, version: &str| {
        json!({"kind": "ClusterTrustBundle", "apiVersion": "certificates.k8s.io/v1",
            "metadata": {"name": name, "uid": "u", "resourceVersion": version},
            "spec": {"signerName": "example.com/signer", "trustBundle": "PEM"}})
    };
    let fake = Fake::start(move |seen| match seen.is_watch() {
        true => watch(&[event("ADDED", &bundle("later", "11"))]),
        false => ok(&json!({"kind": "ClusterTrustBundleList", "apiVersion": "certificates.k8s.io/v1",
                "metadata": {"resourceVersion": "10"}, "items": [bundle("example.com:signer:a", "1")]})),
    })
    .await;
    let (cluster, store) = fake.cluster().await;
    cluster.gather(Set::TrustBundles).await.unwrap();
    let id = |name| ObjectId {
        namespace: Namespace::none(),
        kind: Kind::ClusterTrustBundle,
        name: Name::of(Kind::ClusterTrustBundle, name).unwrap(),
    };
    assert!(cluster.need(id("example.com:signer:a")).await.is_ok());
    until("the other one", || store.get(&id("later")).is_some()).await;
    assert!(matches!(cluster.need(id("missing")).await, Err(Refusal::NotFound { .. })));
    for seen in fake.seen() {
        assert!(seen.target.starts_with("/apis/certificates.k8s.io/v1/clustertrustbundles?"), "{}", seen.target);
    }
}
