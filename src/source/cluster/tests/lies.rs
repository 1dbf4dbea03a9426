//! A server that lies: a clear word about it, nothing shown, nothing kept, and no more read than an object can have.

use serde_json::{Value as Json, json};
use tokio::sync::mpsc::unbounded_channel;

use super::super::fake::*;
use crate::source::Source as _;
use crate::store::{Refusal, Store};

/// What the reader of an object is told when this is the answer.
async fn told(answer: impl Fn() -> Answer + Send + Sync + 'static) -> String {
    let fake = Fake::start(move |seen| if seen.is_watch() { watch(&[]) } else { answer() }).await;
    let (cluster, store) = fake.cluster().await;
    let refusal = cluster.follow(id("web")).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Unavailable { .. }), "{refusal:?}");
    assert!(knows_nothing(&store));
    refusal.to_string()
}

fn knows_nothing(store: &Store) -> bool {
    store.get(&id("web")).is_none() && store.summary().bytes == 0
}

/// The Secret that is asked for, but for this part of it.
fn altered(pointer: &'static str, value: Json) -> impl Fn() -> Answer {
    move || {
        let mut object = secret("web", "1", "aGk=");
        *object.pointer_mut(pointer).unwrap() = value.clone();
        ok(&object)
    }
}

#[tokio::test]
async fn each_lie_about_an_object_is_named() {
    for (pointer, value, word) in [
        ("/kind", json!("ConfigMap"), "not a Secret of API version v1"),
        ("/apiVersion", json!("v2"), "not a Secret of API version v1"),
        ("/metadata/uid", Json::Null, "a Secret without metadata.uid"),
        ("/metadata/resourceVersion", json!(""), "a Secret without metadata.resourceVersion"),
        ("/metadata/namespace", json!("planted"), "another object than the one asked for"),
        ("/metadata/name", json!("planted"), "another object than the one asked for"),
        ("/metadata/name", json!("../planted"), "a Secret with an invalid metadata.name"),
        ("/metadata", json!(["planted"]), "not a valid Secret in JSON"),
        ("/data/key", json!("planted!"), "a Secret with an invalid data"),
        ("/data/key", json!(7), "not a valid Secret in JSON"),
        ("/data", json!({"../planted": "aGk="}), "a Secret with an invalid key"),
    ] {
        let told = told(altered(pointer, value)).await;
        assert!(told.contains(word) && !told.contains("planted"), "{pointer}: {told}");
    }
}

#[tokio::test]
async fn what_is_no_text_or_nested_without_end_is_refused() {
    let with = |bytes: Vec<u8>| {
        move || {
            let text = secret("web", "1", "@@").to_string();
            let (before, after) = text.split_once("\"@@\"").unwrap();
            let body = [before.as_bytes(), &bytes, after.as_bytes()].concat();
            let head = head(200, "application/json", &format!("Content-Length: {}", body.len()));
            vec![Step::Send(head), Step::Send(body)]
        }
    };
    for bytes in [b"\"planted\xff\"".to_vec(), b"\"\\ud800\"".to_vec(), "[".repeat(100_000).into_bytes()] {
        let told = told(with(bytes)).await;
        assert!(told.contains("not a valid Secret in JSON") && !told.contains("planted"), "{told}");
    }
}

const MEBIBYTE: usize = 1 << 20;

#[tokio::test]
async fn a_lying_server_is_refused_with_bounded_memory() {
    // A length that is too large is refused before anything of the body is read.
    let announced = || {
        let length = format!("Content-Length: {}", 100 * MEBIBYTE);
        vec![Step::Send(head(200, "application/json", &length)), Step::Hang]
    };
    let word = "longer than 8388608 bytes";
    let text = told(announced).await;
    assert!(text.contains(word), "{text}");

    // A body that just goes on is left when it is longer than an object can be.
    let (send, left) = unbounded_channel();
    for _ in 0..100 {
        send.send(" ".repeat(MEBIBYTE)).unwrap();
    }
    drop(send);
    let left = std::sync::Mutex::new(Some(left));
    let text = told(move || {
        let chunks = left.lock().unwrap().take().map(Step::Chunks);
        [watch_head()].into_iter().chain(chunks).collect()
    })
    .await;
    assert!(text.contains(word), "{text}");
}

#[tokio::test]
async fn a_watch_that_lies_keeps_what_is_known() {
    let lies = [
        event("MODIFIED", &secret("other", "2", "cGxhbnRlZA==")),
        event("MODIFIED", &secret("web", "2", "planted!")),
        event("PLANTED", &secret("web", "2", "cGxhbnRlZA==")),
        event("DELETED", &secret("other", "2", "")),
        event("DELETED", &json!({"kind": "Secret", "metadata": {"name": "web"}})),
        json!({"type": "ERROR", "object": "planted"}),
        json!("planted"),
    ];
    for lie in lies {
        let shown = lie.to_string();
        let fake = Fake::start(move |seen| match seen.is_watch() {
            true => watch(std::slice::from_ref(&lie)),
            false => ok(&secret("web", "1", "aGk=")),
        })
        .await;
        let (cluster, store) = fake.cluster().await;
        cluster.follow(id("web")).await.unwrap();
        // It is asked for again, since the watch is not believed.
        until(&shown, || fake.count("/secrets/web") >= 2).await;
        let known = cluster.follow(id("web")).await.unwrap();
        assert_eq!(known.data().values().next().unwrap().as_bytes(), b"hi", "{shown}");
        assert_eq!(store.summary().loaded, 1);
    }
}
