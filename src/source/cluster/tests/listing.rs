//! Names by metadata, and the values of listed objects.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::super::ClusterOptions;
use super::super::fake::*;
use crate::object::{Kind, Namespace};
use crate::source::{Scope, Source as _};
use crate::store::{Access, Change, Known, Refusal, Store};

fn prod() -> Scope {
    Scope { namespace: Some(Namespace::new("prod").unwrap()), kinds: vec![Kind::Secret], selector: None }
}

fn names(store: &Store) -> Vec<String> {
    store.names(Kind::Secret, &Namespace::new("prod").unwrap()).iter().map(|name| name.to_string()).collect()
}

/// The senders of the watches so far.
type Feeds = Arc<Mutex<Vec<UnboundedSender<String>>>>;

/// A server with lists, GETs and fed watches.
async fn served(
    list: impl Fn(&str) -> Answer + Send + Sync + 'static,
    get: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> (Fake, Feeds) {
    let feeds = Feeds::default();
    let handle = feeds.clone();
    let fake = Fake::start(move |seen| {
        if seen.is_watch() {
            let (sender, chunks) = unbounded_channel();
            feeds.lock().unwrap().push(sender);
            return vec![watch_head(), Step::Chunks(chunks)];
        }
        match seen.target.split_once('?') {
            Some((_, query)) => list(query),
            None => get(seen.target.rsplit('/').next().unwrap()),
        }
    })
    .await;
    (fake, handle)
}

async fn send(feeds: &Feeds, event: &Json) {
    until("the watch", || !feeds.lock().unwrap().is_empty()).await;
    feeds.lock().unwrap().last().unwrap().send(format!("{event}\n")).unwrap();
}

#[tokio::test]
async fn names_come_in_pages_without_values_and_are_kept_current() {
    let list = |query: &str| match query.contains("continue=") {
        false => ok(&page("10", "a+b=", &[partial("a", "1"), partial("b", "2")])),
        true => ok(&page("10", "", &[partial("c", "3")])),
    };
    let (fake, feeds) = served(list, |_| panic!("no value was wanted")).await;
    let (cluster, store) = fake.cluster().await;
    cluster.list(prod()).await.unwrap();
    assert_eq!(names(&store), ["a", "b", "c"]);
    assert_eq!(fake.count("continue=a%2Bb%3D"), 1);
    send(&feeds, &event("ADDED", &partial("d", "11"))).await;
    send(&feeds, &event("DELETED", &partial("a", "12"))).await;
    send(&feeds, &event("MODIFIED", &partial("b", "13"))).await;
    until("d without a", || names(&store) == ["b", "c", "d"]).await;
    until("b's version", || &*store.get(&id("b")).unwrap().meta().version == "13").await;
    for seen in fake.seen() {
        assert!(seen.headers.contains("accept: application/json;as=PartialObjectMetadata"), "{}", seen.headers);
        assert!(!seen.is_watch() || seen.target.contains("resourceVersion=10"), "{}", seen.target);
    }
}

#[tokio::test]
async fn a_whole_cluster_is_two_lists_and_two_watches() {
    let list = |_: &str| ok(&page("10", "", &[]));
    let (fake, _feeds) = served(list, |_| vec![]).await;
    let (cluster, _) = fake.cluster().await;
    let scope = Scope { namespace: None, selector: Some("app=web".into()), ..prod() };
    cluster.list(scope.clone()).await.unwrap();
    cluster.list(scope).await.unwrap();
    until("the watches", || fake.count("watch=1") == 2).await;
    assert_eq!(fake.count("/api/v1/namespaces?limit=2000"), 1, "namespaces are not selected by label");
    assert_eq!(fake.count("/api/v1/secrets?limit=2000&labelSelector=app%3Dweb"), 1);
    assert_eq!(fake.count("labelSelector"), 2);
    assert_eq!(fake.seen().len(), 4);
}

#[tokio::test]
async fn a_view_of_the_cluster_does_not_wait_for_the_last_of_many_names() {
    let (release, rest) = unbounded_channel();
    let rest = Mutex::new(Some(rest));
    let fake = Fake::start(move |seen| {
        let namespaces = seen.target.starts_with("/api/v1/namespaces");
        match (seen.is_watch(), namespaces, seen.target.contains("continue=")) {
            (true, ..) => watch(&[]),
            (_, true, _) => {
                let prod = json!({"metadata": {"name": "prod", "uid": "u", "resourceVersion": "1"}});
                ok(&page("5", "", &[prod]))
            }
            (_, _, false) => ok(&page("5", "more", &[partial("a", "1")])),
            (_, _, true) => vec![watch_head(), Step::Chunks(rest.lock().unwrap().take().unwrap())],
        }
    })
    .await;
    let options = ClusterOptions { timeout: Duration::from_secs(30), ..fake.options() };
    let (cluster, store) = fake.cluster_with(&options).await;
    cluster.list(Scope { namespace: None, ..prod() }).await.unwrap();
    let prod = Namespace::new("prod").unwrap();
    assert_eq!(
        (store.access(&prod, Kind::Secret), names(&store).len()),
        (Access::Unread, 0),
        "no part is taken for all"
    );
    let look = cluster.look(prod.clone(), Kind::Secret);
    let finish = async {
        tokio::task::yield_now().await;
        release.send(page("5", "", &[partial("b", "2")]).to_string()).unwrap();
        drop(release);
    };
    let (looked, ()) = tokio::join!(look, finish);
    looked.unwrap();
    assert_eq!(names(&store), ["a", "b"]);
    assert_eq!(store.access(&prod, Kind::Secret), Access::Listed);
    assert_eq!(fake.count("/api/v1/namespaces/prod"), 0, "no list for the namespace alone");
    assert_eq!(fake.count("/api/v1/secrets?limit="), 2);
}

#[tokio::test]
async fn namespaces_come_and_go() {
    let namespace = |name: &str, version: &str| {
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"name": name, "uid": "u", "resourceVersion": version}})
    };
    let fake = Fake::start(move |seen| {
        let namespaces = seen.target.starts_with("/api/v1/namespaces");
        match (namespaces, seen.is_watch()) {
            (true, false) => ok(&page("5", "", &[namespace("prod", "1"), namespace("test", "2")])),
            (true, true) => watch(&[event("ADDED", &namespace("new", "6")), event("DELETED", &namespace("test", "7"))]),
            (false, false) => ok(&page("5", "", &[])),
            (false, true) => watch(&[]),
        }
    })
    .await;
    let (cluster, store) = fake.cluster().await;
    cluster.list(Scope { namespace: None, ..prod() }).await.unwrap();
    until("new without test", || {
        store.namespaces().iter().map(|namespace| namespace.to_string()).collect::<Vec<_>>() == ["new", "prod"]
    })
    .await;
}

#[tokio::test]
async fn values_are_fetched_once_and_again_when_the_listing_reports_a_change() {
    let version = Arc::new(Mutex::new("1"));
    let now = version.clone();
    let list = |_: &str| ok(&page("10", "", &[partial("web", "1"), partial("other", "2")]));
    let (fake, feeds) = served(list, move |name| ok(&secret(name, *now.lock().unwrap(), ""))).await;
    let (cluster, store) = fake.cluster().await;
    cluster.list(prod()).await.unwrap();
    cluster.follow(id("web")).await.unwrap();
    cluster.follow(id("web")).await.unwrap();
    assert_eq!(cluster.status().requests.gets, 1);
    assert!(matches!(store.get(&id("other")), Some(Known::Named(_))));

    *version.lock().unwrap() = "11";
    send(&feeds, &event("MODIFIED", &partial("web", "11"))).await;
    // Nobody wants the values of this one.
    send(&feeds, &event("MODIFIED", &partial("other", "12"))).await;
    until("version 11", || &*store.get(&id("web")).unwrap().meta().version == "11").await;
    until("version 12", || &*store.get(&id("other")).unwrap().meta().version == "12").await;
    assert_eq!(cluster.status().requests.gets, 2);
    // Its own report of what a GET has shown already costs nothing.
    send(&feeds, &event("MODIFIED", &partial("web", "11"))).await;
    send(&feeds, &event("DELETED", &partial("web", "13"))).await;
    until("the deletion", || store.get(&id("web")).is_none()).await;
    assert_eq!(cluster.status().requests.gets, 2);
    *version.lock().unwrap() = "14";
    send(&feeds, &event("ADDED", &partial("web", "14"))).await;
    until("it is there again, loaded", || matches!(store.get(&id("web")), Some(Known::Loaded(_)))).await;
}

#[tokio::test]
async fn a_name_that_is_not_listed_is_not_asked_for() {
    let list = |_: &str| ok(&page("10", "", &[partial("web", "1")]));
    let (fake, _feeds) = served(list, |_| panic!("it was asked for")).await;
    let (cluster, _) = fake.cluster().await;
    cluster.list(prod()).await.unwrap();
    assert!(matches!(cluster.follow(id("nope")).await, Err(Refusal::NotFound { .. })));
    assert_eq!(cluster.status().requests.gets, 0);
}

#[tokio::test]
async fn an_answer_from_before_a_deletion_does_not_bring_the_object_back() {
    let gets = Arc::new(AtomicUsize::new(0));
    let counter = gets.clone();
    let list = |_: &str| ok(&page("10", "", &[partial("web", "1")]));
    let get = move |name: &str| {
        counter.fetch_add(1, SeqCst);
        let mut steps = vec![Step::Wait(Duration::from_millis(150))];
        steps.extend(ok(&secret(name, "1", "")));
        steps
    };
    let (fake, feeds) = served(list, get).await;
    let (cluster, store) = fake.cluster().await;
    cluster.list(prod()).await.unwrap();
    let deletion = async {
        until("the GET", || gets.load(SeqCst) == 1).await;
        send(&feeds, &event("DELETED", &partial("web", "11"))).await;
    };
    let (answer, ()) = tokio::join!(cluster.follow(id("web")), deletion);
    assert!(matches!(answer, Err(Refusal::NotFound { .. })), "{answer:?}");
    assert!(store.get(&id("web")).is_none());
}

#[tokio::test]
async fn reports_during_a_get_lead_to_one_more_get() {
    let gets = Arc::new(AtomicUsize::new(0));
    let counter = gets.clone();
    let list = |_: &str| ok(&page("10", "", &[partial("web", "1")]));
    let get = move |name: &str| {
        let version = (10 + counter.fetch_add(1, SeqCst) * 10).to_string();
        let mut steps = vec![Step::Wait(Duration::from_millis(100))];
        steps.extend(ok(&secret(name, &version, "")));
        steps
    };
    let (fake, feeds) = served(list, get).await;
    let (cluster, store) = fake.cluster().await;
    cluster.list(prod()).await.unwrap();
    let changes = async {
        until("the GET", || gets.load(SeqCst) == 1).await;
        for version in 11..=20 {
            send(&feeds, &event("MODIFIED", &partial("web", &version.to_string()))).await;
        }
    };
    let (answer, ()) = tokio::join!(cluster.follow(id("web")), changes);
    assert_eq!(&*answer.unwrap().meta.version, "10");
    until("version 20", || &*store.get(&id("web")).unwrap().meta().version == "20").await;
    assert_eq!(gets.load(SeqCst), 2);
}

#[tokio::test]
async fn a_relist_tells_what_changed_and_nothing_else() {
    let lists = AtomicUsize::new(0);
    let list = move |_: &str| match lists.fetch_add(1, SeqCst) {
        0 => ok(&page("10", "", &[partial("same", "1"), partial("web", "2"), partial("gone", "3")])),
        _ => ok(&page("90", "", &[partial("same", "1"), partial("web", "80")])),
    };
    let gets = AtomicUsize::new(0);
    let get = move |name: &str| match name {
        "web" if gets.fetch_add(1, SeqCst) > 0 => ok(&secret(name, "80", "")),
        "web" => ok(&secret(name, "2", "")),
        _ => ok(&secret(name, if name == "same" { "1" } else { "3" }, "")),
    };
    let (fake, feeds) = served(list, get).await;
    let (cluster, store) = fake.cluster().await;
    cluster.list(prod()).await.unwrap();
    for name in ["same", "web", "gone"] {
        cluster.follow(id(name)).await.unwrap();
    }
    while store.take_change().is_some() {}
    let expired = json!({"kind": "Status", "code": 410, "reason": "Expired"});
    send(&feeds, &event("ERROR", &expired)).await;
    until("version 80", || store.get(&id("web")).is_some_and(|known| &*known.meta().version == "80")).await;
    let changes: Vec<_> = std::iter::from_fn(|| store.take_change()).collect();
    assert_eq!(changes, [Change::Object(id("gone")), Change::Object(id("web"))]);
    until("the new watch", || fake.count("resourceVersion=90") == 1).await;
}

#[tokio::test]
async fn a_list_whose_pages_expire_is_begun_anew() {
    let lists = AtomicUsize::new(0);
    let list = move |query: &str| match (query.contains("continue="), lists.fetch_add(1, SeqCst)) {
        (false, 0) => ok(&page("10", "old", &[partial("a", "1"), partial("dead", "2")])),
        (true, 1) => status(410, "Expired", ""),
        (false, _) => ok(&page("20", "new", &[partial("a", "1")])),
        (true, _) => ok(&page("20", "", &[partial("b", "3")])),
    };
    let (fake, _feeds) = served(list, |_| vec![]).await;
    let (cluster, store) = fake.cluster().await;
    cluster.list(prod()).await.unwrap();
    assert_eq!(names(&store), ["a", "b"]);
}

#[tokio::test]
async fn pages_that_are_too_long_are_asked_for_in_smaller_ones() {
    let list = |query: &str| match query.contains("limit=2000") {
        true => vec![Step::Send(head(200, "application/json", "Content-Length: 99999999")), Step::Hang],
        false => ok(&page("20", "", &[partial("b", "3")])),
    };
    let (fake, _feeds) = served(list, |_| vec![]).await;
    let (cluster, store) = fake.cluster().await;
    cluster.list(prod()).await.unwrap();
    assert_eq!((names(&store), fake.count("limit=200&"), fake.count("limit=200")), (vec!["b".to_owned()], 0, 2));
}

#[tokio::test]
async fn of_a_list_that_is_refused_each_name_may_still_be_read() {
    let fake = Fake::start(|seen| match seen.is_watch() || seen.target.contains('?') {
        true => status(403, "Forbidden", ""),
        false => ok(&secret("web", "1", "")),
    })
    .await;
    let (cluster, store) = fake.cluster().await;
    cluster.list(prod()).await.unwrap();
    assert_eq!(store.access(&id("web").namespace, Kind::Secret), Access::ByName);
    assert!(cluster.follow(id("web")).await.is_ok());
}

#[tokio::test]
async fn an_interrupted_watch_goes_on_unless_versions_went_backwards() {
    for (current, lists_in_full) in [("70", 1), ("60", 2)] {
        let fake = Fake::start(move |seen| match (seen.is_watch(), seen.connection) {
            // The first watch breaks off behind a bookmark.
            (true, 1) => {
                let line = format!("{}\n", bookmark("70"));
                let chunk = format!("{:x}\r\n{line}\r\n", line.len()).into_bytes();
                vec![watch_head(), Step::Send(chunk), Step::Close]
            }
            (true, _) => watch(&[event("ADDED", &partial("b", "71"))]),
            (false, _) if seen.target.contains("limit=1") => ok(&page(current, "x", &[partial("a", "1")])),
            (false, 1) => ok(&page("10", "", &[partial("a", "1"), partial("c", "2")])),
            (false, _) => ok(&page(current, "", &[partial("a", "1")])),
        })
        .await;
        let (cluster, store) = fake.cluster().await;
        cluster.list(prod()).await.unwrap();
        let expected: &[&str] = if lists_in_full == 1 { &["a", "b", "c"] } else { &["a", "b"] };
        until("the names", || names(&store) == expected).await;
        assert_eq!(fake.count("limit=2000"), lists_in_full);
        assert!(fake.count("resourceVersion=70") >= 1);
        drop(cluster);
    }
}

#[tokio::test]
async fn a_namespace_that_was_not_asked_for_is_not_believed() {
    let list = |_: &str| {
        let mut stranger = partial("web", "1");
        stranger["metadata"]["namespace"] = "other".into();
        ok(&page("10", "", &[stranger]))
    };
    let (fake, _feeds) = served(list, |_| vec![]).await;
    let (cluster, store) = fake.cluster().await;
    assert!(matches!(cluster.list(prod()).await, Err(Refusal::Unavailable { .. })));
    assert!(names(&store).is_empty());
}
