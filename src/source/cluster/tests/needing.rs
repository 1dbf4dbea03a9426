//! Objects that something shown needs: waited for, whatever else is known of their kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use futures_util::future::join_all;

use super::super::fake::*;
use crate::object::{Kind, Namespace};
use crate::source::{Scope, Source as _};
use crate::store::{Known, Refusal};

/// A server that refuses every list and knows no object but, from the time it is told so, `web`.
async fn without_lists() -> (Fake, Arc<AtomicBool>) {
    let made = Arc::new(AtomicBool::new(false));
    let now = made.clone();
    let fake = Fake::start(move |seen| match (seen.target.contains("fieldSelector"), now.load(SeqCst)) {
        _ if seen.target.contains("limit=") => status(403, "Forbidden", ""),
        (true, true) => watch(&[event("ADDED", &secret("web", "5", "NQ=="))]),
        (true, false) => watch(&[]),
        (false, true) => ok(&secret("web", "5", "NQ==")),
        (false, false) => status(404, "NotFound", seen.target.rsplit('/').next().unwrap()),
    })
    .await;
    (fake, made)
}

fn all() -> Scope {
    Scope { namespace: None, kinds: vec![Kind::Secret], selector: None }
}

#[tokio::test]
async fn in_a_view_of_names_a_needed_object_is_waited_for_and_a_guessed_one_is_not() {
    let (fake, made) = without_lists().await;
    let (cluster, store) = fake.cluster().await;
    cluster.list(all()).await.unwrap();
    cluster.look(Namespace::new("prod").unwrap(), Kind::Secret).await.unwrap();
    assert!(matches!(cluster.follow(id("guess")).await, Err(Refusal::NotFound { .. })));
    // The same name, guessed before and after it is needed.
    assert!(matches!(cluster.follow(id("web")).await, Err(Refusal::NotFound { .. })));
    assert!(matches!(cluster.need(id("web")).await, Err(Refusal::NotFound { .. })));
    assert!(matches!(cluster.follow(id("web")).await, Err(Refusal::NotFound { .. })));
    made.store(true, SeqCst);
    until("the object", || matches!(store.get(&id("web")), Some(Known::Loaded(_)))).await;
    assert_eq!(fake.count("name%3Dguess"), 0, "nobody needs that one");
    for seen in fake.seen().iter().filter(|seen| seen.target.contains("web")) {
        assert!(seen.target.ends_with("/secrets/web") || seen.target.contains("fieldSelector=metadata.name%3Dweb"));
    }
}

#[tokio::test]
async fn what_is_guessed_at_and_needed_at_the_same_time_is_waited_for() {
    let (fake, made) = without_lists().await;
    let (cluster, store) = fake.cluster().await;
    cluster.list(all()).await.unwrap();
    cluster.look(Namespace::new("prod").unwrap(), Kind::Secret).await.unwrap();
    let (guessed, needed) = tokio::join!(cluster.follow(id("web")), cluster.need(id("web")));
    assert!(guessed.is_err() && needed.is_err());
    made.store(true, SeqCst);
    until("the object", || store.get(&id("web")).is_some()).await;
}

#[tokio::test]
async fn what_is_needed_is_waited_for_by_name_when_its_listing_is_refused_from_then_on() {
    let refused = Arc::new(AtomicBool::new(false));
    let now = refused.clone();
    let fake = Fake::start(move |seen| match seen.target.contains("fieldSelector") {
        true => watch(&[event("ADDED", &secret("web", "5", "NQ=="))]),
        false if seen.target.ends_with("/web") => status(404, "NotFound", "web"),
        false if now.load(SeqCst) => status(403, "Forbidden", ""),
        false if seen.is_watch() => watch(&[]),
        false => ok(&page("10", "", &[])),
    })
    .await;
    let (cluster, store) = fake.cluster().await;
    cluster.list(Scope { namespace: Some(Namespace::new("prod").unwrap()), ..all() }).await.unwrap();
    assert!(matches!(cluster.need(id("web")).await, Err(Refusal::NotFound { .. })));
    assert_eq!(cluster.status().requests.gets, 0, "the listing knows");
    refused.store(true, SeqCst);
    until("the object, by its name", || matches!(store.get(&id("web")), Some(Known::Loaded(_)))).await;
}

#[tokio::test]
async fn what_nobody_needs_any_more_is_not_waited_for() {
    let (fake, _) = without_lists().await;
    let (cluster, _) = fake.cluster().await;
    assert!(cluster.need(id("web")).await.is_err());
    until("the watch", || cluster.status().requests.open_watches == 1).await;
    cluster.forget(&id("web"));
    until("its end", || cluster.status().requests.open_watches == 0).await;
}

#[tokio::test]
async fn of_many_objects_all_are_fetched_before_the_first_is_watched() {
    let fake = Fake::start(|seen| {
        let name = seen.target.rsplit(['/', 'D']).next().unwrap().split('&').next().unwrap();
        let object = secret(name, "5", "NQ==");
        if seen.is_watch() { watch(&[event("ADDED", &object)]) } else { ok(&object) }
    })
    .await;
    let (cluster, _) = fake.cluster().await;
    let ids: Vec<_> = (0..40).map(|number| id(&format!("s{number}"))).collect();
    let answers = join_all(ids.iter().map(|id| cluster.need(id.clone()))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    until("all watches", || cluster.status().requests.open_watches == 40).await;
    let before = fake.seen().iter().take_while(|seen| !seen.is_watch()).count();
    // Eight are under way at once, and those may arrive in any order.
    assert!((33..=40).contains(&before), "{before} fetches before the first watch");
}
