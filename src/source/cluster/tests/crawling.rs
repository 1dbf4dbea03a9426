//! Who reads everything is served by pages, who reads a little is not.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use serde_json::{Value as Json, json};

use super::super::Cluster;
use super::super::fake::*;
use crate::object::{Kind, Name, Namespace, ObjectId};
use crate::source::{Scope, Source as _};
use crate::store::{Known, Store};

/// Namespaces with so many Secrets each.
type Places = Vec<(&'static str, usize)>;

/// What a server of these has been asked for, and how it behaves.
#[derive(Default)]
struct Record {
    /// Objects that were sent with their values in pages.
    in_pages: AtomicUsize,
    pages: AtomicUsize,
    gets: AtomicUsize,
    /// Lists of the whole cluster are refused.
    refuses_cluster: AtomicBool,
    /// Pages of values are not answered.
    holds_pages: AtomicBool,
    /// Pages of values show an older state than the names.
    old_pages: AtomicBool,
    values_asked: Mutex<Vec<String>>,
}

fn ids(places: &Places) -> Vec<ObjectId> {
    let id = |namespace: &str, number: usize| ObjectId {
        namespace: Namespace::new(namespace).unwrap(),
        kind: Kind::Secret,
        name: Name::new(&format!("s{number:04}")).unwrap(),
    };
    places.iter().flat_map(|(namespace, count)| (0..*count).map(move |number| id(namespace, number))).collect()
}

fn metadata(id: &ObjectId, version: usize) -> Json {
    json!({"name": id.name.as_str(), "namespace": id.namespace.as_str(), "uid": format!("uid-{id}"),
        "resourceVersion": version.to_string()})
}

fn whole(id: &ObjectId, version: usize) -> Json {
    json!({"kind": "Secret", "apiVersion": "v1", "metadata": metadata(id, version), "data": {"key": "dmFsdWU="}})
}

/// Answers as an API server does, in the order of its keys.
async fn served(places: &Places) -> (Fake, Arc<Record>) {
    let record = Arc::<Record>::default();
    let shared = record.clone();
    let namespaces: Vec<Json> = places
        .iter()
        .map(|(name, _)| {
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"name": name, "uid": "u", "resourceVersion": "1"}})
        })
        .collect();
    let mut all = ids(places);
    all.sort_by_key(|id| format!("{}/{}", id.namespace, id.name));
    let fake = Fake::start(move |seen| {
        if seen.is_watch() {
            return watch(&[]);
        }
        let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
        let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let parts: Vec<&str> = path.split('/').skip(3).collect();
        let of = |namespace: Option<&str>| {
            let metadata_only = seen.headers.contains("PartialObjectMetadata");
            let wanted = |id: &&ObjectId| namespace.is_none_or(|namespace| id.namespace.as_str() == namespace);
            let limit: usize = parameter("limit").unwrap().parse().unwrap();
            let from: usize = parameter("continue").map_or(0, |token| token.parse().unwrap());
            let rest: Vec<&ObjectId> = all.iter().filter(wanted).skip(from).collect();
            let items = rest.iter().take(limit);
            let next = if rest.len() > limit { (from + limit).to_string() } else { String::new() };
            if metadata_only {
                let items: Vec<Json> = items.map(|id| json!({"metadata": metadata(id, 2)})).collect();
                return ok(&page("10", &next, &items));
            }
            shared.pages.fetch_add(1, SeqCst);
            shared.values_asked.lock().unwrap().push(seen.target.clone());
            if shared.holds_pages.load(SeqCst) {
                return vec![Step::Hang];
            }
            let version = if shared.old_pages.load(SeqCst) { 1 } else { 2 };
            let items: Vec<Json> = items.map(|id| whole(id, version)).collect();
            shared.in_pages.fetch_add(items.len(), SeqCst);
            ok(&json!({"kind": "SecretList", "apiVersion": "v1", "items": items,
                "metadata": {"resourceVersion": "10", "continue": next}}))
        };
        match parts[..] {
            ["namespaces"] => ok(&page("5", "", &namespaces)),
            ["secrets"] if shared.refuses_cluster.load(SeqCst) => status(403, "Forbidden", ""),
            ["secrets"] => of(None),
            ["namespaces", namespace, "secrets"] => of(Some(namespace)),
            ["namespaces", namespace, "secrets", name] => {
                shared.gets.fetch_add(1, SeqCst);
                let id = ObjectId {
                    namespace: Namespace::new(namespace).unwrap(),
                    kind: Kind::Secret,
                    name: Name::new(name).unwrap(),
                };
                ok(&whole(&id, 2))
            }
            _ => panic!("{path}"),
        }
    })
    .await;
    (fake, record)
}

async fn view(fake: &Fake) -> (Cluster, Arc<Store>) {
    let (cluster, store) = fake.cluster().await;
    cluster.list(Scope { namespace: None, kinds: vec![Kind::Secret], selector: None }).await.unwrap();
    (cluster, store)
}

async fn read(cluster: &Cluster, id: &ObjectId) {
    let object = cluster.follow(id.clone()).await.unwrap();
    assert_eq!((object.id(), object.data_bytes()), (id, 5));
}

async fn read_all(cluster: &Cluster, ids: &[ObjectId]) {
    for id in ids {
        read(cluster, id).await;
    }
}

fn counts(record: &Record) -> (usize, usize) {
    (record.gets.load(SeqCst), record.pages.load(SeqCst))
}

const TEN: [(&str, usize); 10] =
    [("a", 70), ("b", 70), ("c", 70), ("c-d", 70), ("d", 70), ("e", 70), ("f", 70), ("g", 70), ("h", 70), ("i", 70)];

#[tokio::test]
async fn a_crawl_of_the_cluster_goes_on_in_the_clusters_list() {
    let places = TEN.to_vec();
    let (fake, record) = served(&places).await;
    let (cluster, _) = view(&fake).await;
    let lists = cluster.status().requests.lists;
    read_all(&cluster, &ids(&places)).await;
    // Four GETs and a page for each of a and b. Then what comes before c-d and c is skipped by names, and 560 objects are
    // two pages. (c-d is after c for a reader, and before it for the server.)
    assert_eq!(counts(&record), (8, 4), "{:?}", record.values_asked.lock().unwrap());
    assert_eq!(cluster.status().requests.lists - lists, 5);
    assert_eq!(record.in_pages.load(SeqCst), 700);
}

#[tokio::test]
async fn who_asks_at_once_for_the_same_is_served_by_the_same_requests() {
    let places = TEN.to_vec();
    let (fake, record) = served(&places).await;
    let (cluster, _) = view(&fake).await;
    for id in ids(&places) {
        let three = tokio::join!(cluster.follow(id.clone()), cluster.follow(id.clone()), cluster.follow(id.clone()));
        assert!(three.0.is_ok() && three.1.is_ok() && three.2.is_ok());
    }
    assert_eq!(counts(&record), (8, 4));
}

#[tokio::test]
async fn where_the_cluster_may_not_be_listed_each_namespace_is_a_page() {
    let places = TEN.to_vec();
    let (fake, record) = served(&places).await;
    record.refuses_cluster.store(true, SeqCst);
    let (cluster, _) = view(&fake).await;
    for (namespace, _) in &places {
        cluster.look(Namespace::new(namespace).unwrap(), Kind::Secret).await.unwrap();
    }
    read_all(&cluster, &ids(&places)).await;
    assert_eq!(counts(&record), (8, 10));
}

#[tokio::test]
async fn any_order_is_served_at_a_page_for_each_namespace() {
    let places = TEN.to_vec();
    let (fake, record) = served(&places).await;
    let (cluster, _) = view(&fake).await;
    let mut backwards = ids(&places);
    backwards.reverse();
    for namespace in backwards.chunks_mut(70) {
        namespace.reverse();
    }
    read_all(&cluster, &backwards).await;
    assert_eq!(counts(&record), (8, 10));
}

#[tokio::test]
async fn small_namespaces_are_gone_through_too() {
    let names: Vec<String> = (100..200).map(|number| format!("n{number}")).collect();
    let places: Places = names.iter().map(|name| (&*name.clone().leak(), 3)).collect();
    let (fake, record) = served(&places).await;
    let (cluster, _) = view(&fake).await;
    read_all(&cluster, &ids(&places)).await;
    // The sixteenth read, the first in the sixth namespace, begins the pages.
    assert_eq!(counts(&record), (15, 1));
}

#[tokio::test]
async fn a_few_reads_here_and_there_bring_nothing_else() {
    let names: Vec<String> = (100..150).map(|number| format!("n{number}")).collect();
    let places: Places = names.iter().map(|name| (&*name.clone().leak(), 20)).collect();
    let (fake, record) = served(&places).await;
    let (cluster, store) = view(&fake).await;
    let some: Vec<ObjectId> = ids(&places).chunks(20).flat_map(|namespace| namespace[3..7].to_vec()).collect();
    read_all(&cluster, &some).await;
    assert_eq!(counts(&record), (200, 0));
    assert_eq!(store.summary().loaded, 200);
}

#[tokio::test]
async fn who_stops_reading_everything_stops_the_pages() {
    let names: Vec<String> = (100..200).map(|number| format!("n{number}")).collect();
    let places: Places = names.iter().map(|name| (&*name.clone().leak(), 100)).collect();
    let (fake, record) = served(&places).await;
    let (cluster, _) = view(&fake).await;
    let all = ids(&places);
    read_all(&cluster, &all[..250]).await;
    // From now on one in each namespace.
    let some: Vec<ObjectId> = all[300..].chunks(100).map(|namespace| namespace[42].clone()).collect();
    read_all(&cluster, &some).await;
    let (read, in_pages) = (250 + some.len(), record.in_pages.load(SeqCst));
    assert!(in_pages <= 2 * read + 1000, "{in_pages} objects came in pages for {read}");
    let (gets, pages) = counts(&record);
    assert!(gets >= 80 && pages <= 4, "{gets} GETs, {pages} pages");
}

#[tokio::test]
async fn many_readers_at_once_do_not_fetch_more_than_one_after_another() {
    let names: Vec<String> = (100..150).map(|number| format!("n{number}")).collect();
    let places: Places = names.iter().map(|name| (&*name.clone().leak(), 100)).collect();
    let (fake, record) = served(&places).await;
    let (cluster, _) = view(&fake).await;
    let some: Vec<ObjectId> = ids(&places).chunks(100).flat_map(|namespace| namespace[..6].to_vec()).collect();
    futures_util::future::join_all(some.iter().map(|id| read(&cluster, id))).await;
    let in_pages = record.in_pages.load(SeqCst);
    assert!(in_pages <= 2 * some.len() + 1000, "{in_pages} objects came in pages for {}", some.len());
}

#[tokio::test]
async fn a_jump_to_the_end_does_not_fetch_what_lies_between() {
    let places = vec![("big", 5000)];
    let (fake, record) = served(&places).await;
    let (cluster, _) = view(&fake).await;
    let all = ids(&places);
    read_all(&cluster, &all[..10]).await;
    read(&cluster, &all[4999]).await;
    assert_eq!(counts(&record), (5, 1));
}

#[tokio::test]
async fn a_page_that_is_older_than_the_names_is_not_shown() {
    let places = vec![("a", 30)];
    let (fake, record) = served(&places).await;
    record.old_pages.store(true, SeqCst);
    let (cluster, store) = view(&fake).await;
    for id in ids(&places) {
        assert_eq!(&*cluster.follow(id.clone()).await.unwrap().meta.version, "2");
        assert!(matches!(store.get(&id), Some(Known::Loaded(object)) if &*object.meta.version == "2"));
    }
    assert_eq!(record.gets.load(SeqCst), 30);
}

#[tokio::test]
async fn a_page_that_does_not_come_is_replaced_by_a_get() {
    let places = vec![("a", 6)];
    let (fake, record) = served(&places).await;
    record.holds_pages.store(true, SeqCst);
    let (cluster, _) = view(&fake).await;
    read_all(&cluster, &ids(&places)).await;
    assert_eq!(record.gets.load(SeqCst), 6);
}
