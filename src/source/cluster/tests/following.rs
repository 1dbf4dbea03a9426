//! One object followed by named requests.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::super::fake::*;
use crate::source::Source as _;
use crate::store::{Change, Known, Refusal, Store};

fn version(store: &Store) -> Option<String> {
    store.get(&id("web")).map(|known| known.meta().version.to_string())
}

/// A server whose first watch is fed by the test; GET shows version 1.
async fn fed() -> (Fake, Arc<Mutex<Option<UnboundedSender<String>>>>) {
    let feed: Arc<Mutex<Option<UnboundedSender<String>>>> = Arc::default();
    let handle = feed.clone();
    let fake = Fake::start(move |seen| match seen.is_watch() {
        true => {
            let (sender, chunks) = unbounded_channel();
            *feed.lock().unwrap() = Some(sender);
            vec![watch_head(), Step::Chunks(chunks)]
        }
        false => ok(&secret("web", "1", "MQ==")),
    })
    .await;
    (fake, handle)
}

#[tokio::test]
async fn changes_arrive_however_their_lines_are_cut() {
    let (fake, feed) = fed().await;
    let (cluster, store) = fake.cluster().await;
    cluster.follow(id("web")).await.unwrap();
    until("the watch", || feed.lock().unwrap().is_some()).await;
    let send = |text: &str| feed.lock().unwrap().as_ref().unwrap().send(text.to_owned()).unwrap();

    let first = format!("{}\n", event("ADDED", &secret("web", "1", "MQ==")));
    let second = format!("{}\n", event("MODIFIED", &secret("web", "2", "Mg==")));
    let third = format!("{}\n", event("MODIFIED", &secret("web", "3", "Mw==")));
    send(&first);
    let (a, b) = second.split_at(40);
    send(a);
    send(b);
    until("version 2", || version(&store).as_deref() == Some("2")).await;
    send(&format!("\n{third}{}\n", event("DELETED", &secret("web", "4", "Mw=="))));
    until("the deletion", || store.get(&id("web")).is_none()).await;
    assert!(matches!(cluster.follow(id("web")).await, Err(Refusal::NotFound { .. })));
    send(&format!("{}\n", event("ADDED", &secret("web", "5", "NQ=="))));
    until("version 5", || version(&store).as_deref() == Some("5")).await;
    assert_eq!(cluster.follow(id("web")).await.unwrap().data().values().next().unwrap().as_bytes(), b"5");
    assert_eq!((fake.count("watch=1"), cluster.status().requests.gets), (1, 1), "all by one watch");
    assert_eq!(cluster.status().requests.open_watches, 1);
}

#[tokio::test]
async fn only_that_name_is_asked_for() {
    let (fake, feed) = fed().await;
    let (cluster, _) = fake.cluster().await;
    cluster.follow(id("web")).await.unwrap();
    until("the watch", || feed.lock().unwrap().is_some()).await;
    for seen in fake.seen() {
        let named = seen.target == "/api/v1/namespaces/prod/secrets/web"
            || seen.target.starts_with("/api/v1/namespaces/prod/secrets?watch=1&")
                && seen.target.contains("fieldSelector=metadata.name%3Dweb");
        assert!(named, "{}", seen.target);
        assert!(!seen.target.contains("resourceVersion"), "{}", seen.target);
    }
}

#[tokio::test]
async fn the_same_version_again_is_no_change() {
    let (fake, feed) = fed().await;
    let (cluster, store) = fake.cluster().await;
    cluster.follow(id("web")).await.unwrap();
    assert_eq!(store.take_change(), Some(Change::Object(id("web"))));
    until("the watch", || feed.lock().unwrap().is_some()).await;
    let events = [event("ADDED", &secret("web", "1", "MQ==")), event("MODIFIED", &secret("web", "2", "Mg=="))];
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    feed.lock().unwrap().as_ref().unwrap().send(lines).unwrap();
    store.next_change().await;
    assert_eq!(version(&store).as_deref(), Some("2"), "the first change is the second event's");
}

#[tokio::test]
async fn a_watch_that_ends_goes_on_from_its_bookmark() {
    let fake = Fake::start(|seen| match seen.is_watch() {
        true if seen.target.contains("resourceVersion=77") => watch(&[event("MODIFIED", &secret("web", "78", ""))]),
        true => watch(&[event("ADDED", &secret("web", "1", "")), bookmark("77")]),
        false => ok(&secret("web", "1", "")),
    })
    .await;
    let (cluster, store) = fake.cluster().await;
    cluster.follow(id("web")).await.unwrap();
    until("version 78", || version(&store).as_deref() == Some("78")).await;
    assert_eq!(cluster.status().requests.gets, 1);
    let connections = fake.seen().iter().map(|seen| seen.connection).max();
    assert_eq!(connections, Some(1), "one connection serves one watch after the other");
}

#[tokio::test]
async fn a_version_that_is_gone_is_asked_for_anew() {
    // 410 inside the watch, as the API server does it, and as a status, as a gateway may.
    for in_stream in [true, false] {
        let gets = Arc::new(AtomicUsize::new(0));
        let counter = gets.clone();
        let fake = Fake::start(move |seen| match seen.is_watch() {
            true if seen.target.contains("resourceVersion=77") && in_stream => {
                let expired = serde_json::json!({"kind": "Status", "code": 410, "reason": "Expired"});
                watch(&[event("ERROR", &expired)])
            }
            true if seen.target.contains("resourceVersion=77") => status(410, "Gone", ""),
            true => watch(&[bookmark("77")]),
            false => {
                let version = if counter.fetch_add(1, SeqCst) == 0 { "1" } else { "100" };
                ok(&secret("web", version, ""))
            }
        })
        .await;
        let (cluster, store) = fake.cluster().await;
        cluster.follow(id("web")).await.unwrap();
        until("version 100", || version(&store).as_deref() == Some("100")).await;
    }
}

#[tokio::test]
async fn a_deletion_between_the_get_and_the_watch_is_seen() {
    let gets = AtomicUsize::new(0);
    let fake = Fake::start(move |seen| match seen.is_watch() {
        true => watch(&[bookmark("9")]),
        false if gets.fetch_add(1, SeqCst) == 0 => ok(&secret("web", "1", "")),
        false => status(404, "NotFound", "web"),
    })
    .await;
    let (cluster, store) = fake.cluster().await;
    cluster.follow(id("web")).await.unwrap();
    until("the deletion", || store.get(&id("web")).is_none()).await;
}

#[tokio::test]
async fn an_object_that_is_not_there_yet_appears() {
    let (fake, feed) = {
        let feed: Arc<Mutex<Option<UnboundedSender<String>>>> = Arc::default();
        let handle = feed.clone();
        let fake = Fake::start(move |seen| match seen.is_watch() {
            true => {
                let (sender, chunks) = unbounded_channel();
                *feed.lock().unwrap() = Some(sender);
                vec![watch_head(), Step::Chunks(chunks)]
            }
            false => status(404, "NotFound", "web"),
        })
        .await;
        (fake, handle)
    };
    let (cluster, store) = fake.cluster().await;
    assert!(matches!(cluster.follow(id("web")).await, Err(Refusal::NotFound { .. })));
    assert!(matches!(cluster.follow(id("web")).await, Err(Refusal::NotFound { .. })));
    assert_eq!(cluster.status().requests.gets, 1, "the watch would have told");
    until("the watch", || feed.lock().unwrap().is_some()).await;
    let line = format!("{}\n", event("ADDED", &secret("web", "5", "NQ==")));
    feed.lock().unwrap().as_ref().unwrap().send(line).unwrap();
    until("the object", || matches!(store.get(&id("web")), Some(Known::Loaded(_)))).await;
}

#[tokio::test]
async fn what_may_not_be_watched_is_polled() {
    let gets = AtomicUsize::new(0);
    let fake = Fake::start(move |seen| match seen.is_watch() {
        true => status(403, "Forbidden", "web"),
        false => ok(&secret("web", &gets.fetch_add(1, SeqCst).to_string(), "")),
    })
    .await;
    let (cluster, store) = fake.cluster().await;
    cluster.follow(id("web")).await.unwrap();
    until("version 3", || version(&store).as_deref() == Some("3")).await;
    assert_eq!(fake.count("watch=1"), 1, "a refused watch is not tried with every poll");
    until("another try", || fake.count("watch=1") == 2).await;
}

#[tokio::test]
async fn rights_that_come_later_take_effect() {
    let allowed = Arc::new(AtomicBool::new(false));
    let switch = allowed.clone();
    let fake = Fake::start(move |seen| match switch.load(SeqCst) {
        false => status(403, "Forbidden", "web"),
        true if seen.is_watch() => watch(&[]),
        true => ok(&secret("web", "1", "")),
    })
    .await;
    let (cluster, store) = fake.cluster().await;
    assert!(matches!(cluster.follow(id("web")).await, Err(Refusal::Forbidden { .. })));
    allowed.store(true, SeqCst);
    until("the object", || store.get(&id("web")).is_some()).await;
}

#[tokio::test]
async fn an_outage_deletes_nothing_and_a_deletion_meanwhile_is_seen_after_it() {
    type Outage = fn() -> Answer;
    let outages: [Outage; 6] = [
        || vec![Step::Close],
        || vec![Step::Hang],
        || status(500, "InternalError", ""),
        || answer(404, "text/html", "<html>"),
        || status(401, "Unauthorized", ""),
        || answer(502, "text/html", "<html>"),
    ];
    let each = outages.into_iter().map(|outage| async move {
        // 0: all is well; 1: outage; 2: the object is gone.
        let phase = Arc::new(AtomicUsize::new(0));
        let now = phase.clone();
        let fake = Fake::start(move |seen| match now.load(SeqCst) {
            0 if seen.is_watch() => watch(&[event("ADDED", &secret("web", "1", "")), bookmark("7")]),
            0 => ok(&secret("web", "1", "")),
            1 => outage(),
            _ if seen.is_watch() => watch(&[]),
            _ => status(404, "NotFound", "web"),
        })
        .await;
        let (cluster, store) = fake.cluster().await;
        cluster.follow(id("web")).await.unwrap();
        phase.store(1, SeqCst);
        until("trouble", || cluster.status().trouble.is_some()).await;
        assert!(matches!(store.get(&id("web")), Some(Known::Loaded(_))), "an outage deleted it");
        assert!(cluster.follow(id("web")).await.is_ok(), "what is known is answered");
        phase.store(2, SeqCst);
        until("the deletion", || store.get(&id("web")).is_none()).await;
        until("no trouble", || cluster.status().trouble.is_none()).await;
    });
    futures_util::future::join_all(each).await;
}

#[tokio::test]
async fn a_watch_that_stalls_is_noticed_and_replaced() {
    let fake = Fake::start(|seen| match seen.is_watch() {
        true if seen.connection == 1 => vec![watch_head(), Step::Hang],
        true => watch(&[event("ADDED", &secret("web", "2", ""))]),
        false => ok(&secret("web", if seen.connection == 1 { "1" } else { "2" }, "")),
    })
    .await;
    let (cluster, store) = fake.cluster().await;
    cluster.follow(id("web")).await.unwrap();
    until("version 2", || version(&store).as_deref() == Some("2")).await;
}

#[tokio::test]
async fn recovery_from_a_black_hole_does_not_wait_for_the_deadline() {
    let dark = Arc::new(AtomicBool::new(false));
    let now = dark.clone();
    let fake = Fake::start(move |seen| match now.load(SeqCst) {
        true => vec![Step::Hang],
        false if seen.is_watch() => watch(&[event("ADDED", &secret("web", "1", "")), bookmark("7")]),
        false => ok(&secret("web", "1", "")),
    })
    .await;
    let options = super::super::ClusterOptions { timeout: Duration::from_secs(20), ..fake.options() };
    let (cluster, _) = fake.cluster_with(&options).await;
    cluster.follow(id("web")).await.unwrap();
    until("the watch", || fake.count("watch=1") == 1).await;
    dark.store(true, SeqCst);
    until("two attempts in the dark", || fake.count("watch=1") >= 3).await;
    assert_eq!(cluster.status().requests.open_watches, 0);
    dark.store(false, SeqCst);
    until("a watch", || cluster.status().requests.open_watches == 1).await;
}

#[tokio::test]
async fn endless_lines_do_not_take_endless_memory() {
    let fake = Fake::start(|seen| match seen.is_watch() {
        true => {
            let mut steps = vec![watch_head()];
            let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20)).into_bytes();
            steps.extend((0..12).map(|_| Step::Send(chunk.clone())));
            steps.push(Step::Hang);
            steps
        }
        false => ok(&secret("web", "1", "")),
    })
    .await;
    let (cluster, store) = fake.cluster().await;
    cluster.follow(id("web")).await.unwrap();
    // The watch is given up and tried again.
    until("another watch", || fake.count("watch=1") >= 2).await;
    assert!(store.get(&id("web")).is_some());
}

#[tokio::test]
async fn dropping_the_source_ends_its_connections() {
    let (fake, feed) = fed().await;
    let (cluster, store) = fake.cluster().await;
    cluster.follow(id("web")).await.unwrap();
    until("the watch", || feed.lock().unwrap().is_some()).await;
    drop(cluster);
    until("nobody holds the store", || Arc::strong_count(&store) == 1).await;
    let sender = feed.lock().unwrap().take().unwrap();
    until("the server's side ends", || sender.send("\n".to_owned()).is_err()).await;
}
