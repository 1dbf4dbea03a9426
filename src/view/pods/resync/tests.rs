use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::future::BoxFuture;
use serde_json::json;

use super::*;
use crate::object::{Kind, Name, Namespace, ObjectId, object_from_json};
use crate::source::{Scope, Source};
use crate::store::{Known, Refusal, Store};
use crate::tree::Ino;
use crate::view::{Options, Shape, Strict};
use crate::volume::{Layout, Owner, Ownership};

/// What is in the store is all there is.
struct Shelf(Arc<Store>);

impl Source for Shelf {
    fn list(&self, _scope: Scope) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async { Ok(()) })
    }

    fn follow(&self, id: ObjectId) -> BoxFuture<'_, Result<Arc<Object>, Refusal>> {
        Box::pin(async move {
            match self.0.get(&id) {
                Some(Known::Loaded(object)) => Ok(object),
                _ => Err(Refusal::NotFound { what: id.to_string() }),
            }
        })
    }

    fn describe(&self) -> String {
        "a shelf".into()
    }
}

fn object(kind: Kind, version: u32, of: serde_json::Value) -> Object {
    let mut object = json!({
        "apiVersion": kind.api_version(), "kind": kind.api_kind(),
        "metadata": {"namespace": "ns", "name": "x", "uid": "u", "resourceVersion": version.to_string()},
    });
    object.as_object_mut().unwrap().extend(of.as_object().unwrap().clone());
    object_from_json(kind, object.to_string().as_bytes()).unwrap()
}

fn pod(version: u32) -> Object {
    let spec = json!({
        "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "s", "mountPath": "/s"}]}],
        "volumes": [{"name": "s", "secret": {"secretName": "x"}}],
    });
    object(Kind::Pod, version, json!({"spec": spec}))
}

fn secret(version: u32) -> Object {
    object(Kind::Secret, version, json!({"data": {"k": BASE64_STANDARD.encode(version.to_string())}}))
}

/// What that version of it holds.
fn value(version: u32) -> Option<Vec<u8>> {
    Some(version.to_string().into_bytes())
}

/// A view of the pod, and what is known.
async fn view(updates: Option<Duration>, known: &[Object]) -> (Arc<View>, Arc<Store>) {
    let store = Store::new();
    known.iter().for_each(|object| drop(store.put(object.clone())));
    let options = Options {
        strict: Strict { updates, ..Strict::default() },
        ..Options::new(Layout::Flat, Ownership::of(Owner::Kubelet), Duration::from_secs(9))
    };
    let id = ObjectId { namespace: Namespace::new("ns").unwrap(), kind: Kind::Pod, name: Name::new("x").unwrap() };
    let view = View::new(Shape::Pod(id), options, store.clone(), Arc::new(Shelf(store.clone())));
    view.load().await.unwrap();
    (view, store)
}

/// The value that the pod's volume shows.
fn shown(view: &View) -> Option<Vec<u8>> {
    let file = ["c", "s", "k"].iter().try_fold(Ino::ROOT, |dir, name| view.tree.child(dir, name))?;
    view.tree.read(file).ok().map(|value| value.as_bytes().to_vec())
}

/// Takes an object, and all that has changed by that.
async fn learn(view: &Arc<View>, store: &Store, object: Object) {
    store.put(object);
    while let Some(change) = store.take_change() {
        view.take(change).await;
    }
}

#[tokio::test]
async fn an_update_shows_when_the_pod_changes_or_its_time_has_come() {
    let (view, store) = view(Some(Duration::from_secs(2)), &[pod(1), secret(1)]).await;
    learn(&view, &store, secret(2)).await;
    assert_eq!(shown(&view), value(1));
    learn(&view, &store, pod(2)).await;
    assert_eq!(shown(&view), value(2));
    learn(&view, &store, secret(3)).await;
    assert_eq!(shown(&view), value(2));
    // Nobody says anything but the clock.
    while shown(&view) != value(3) {
        let change = tokio::time::timeout(Duration::from_secs(20), store.next_change()).await;
        view.take(change.expect("the time comes")).await;
    }
    learn(&view, &store, secret(4)).await;
    assert_eq!(shown(&view), value(3), "that was a sync");
}

#[tokio::test]
async fn a_pod_that_lacks_something_gets_it_at_once() {
    let (view, store) = view(Some(SYNC_PERIOD), &[pod(1)]).await;
    assert_eq!(shown(&view), None);
    learn(&view, &store, secret(1)).await;
    assert_eq!(shown(&view), value(1));
    learn(&view, &store, secret(2)).await;
    assert_eq!(shown(&view), value(1));
}

#[tokio::test]
async fn otherwise_an_update_shows_at_once() {
    let (view, store) = view(None, &[pod(1), secret(1)]).await;
    learn(&view, &store, secret(2)).await;
    assert_eq!(shown(&view), value(2));
}

#[test]
fn a_pod_is_synced_after_60_to_90_seconds_or_when_it_is_another() {
    let meta = |version| pod(version).meta;
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    for (chance, seconds) in [(0.0, 60), (0.5, 75), (1.0, 90)] {
        let mut resync = Resync::default();
        assert!(resync.is_due(&meta(1), start), "a new pod");
        assert_eq!(resync.done(&meta(1), start, SYNC_PERIOD, chance), at(seconds));
        assert!(!resync.is_due(&meta(1), start) && !resync.is_due(&meta(1), at(seconds - 1)));
        assert!(resync.is_due(&meta(1), at(seconds)));
        assert!(resync.is_due(&meta(2), at(1)), "it has changed");
        let other = Meta { uid: "other".into(), ..meta(1) };
        assert!(resync.is_due(&other, at(1)), "another one of its name");
    }
}
