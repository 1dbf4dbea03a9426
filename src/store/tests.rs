use std::time::SystemTime;

use super::*;
use crate::object::{Body, Data, Key, Value};

fn ns(name: &str) -> Namespace {
    Namespace::new(name).unwrap()
}

fn id(namespace: &str, name: &str) -> ObjectId {
    ObjectId { namespace: ns(namespace), kind: Kind::Secret, name: Name::new(name).unwrap() }
}

fn meta(namespace: &str, name: &str, version: &str) -> Meta {
    let created = SystemTime::UNIX_EPOCH;
    Meta { id: id(namespace, name), uid: "u".into(), version: version.into(), created }
}

fn object(namespace: &str, name: &str, version: &str) -> Object {
    let data = [(Key::new("k").unwrap(), Value::copy_of(version.as_bytes()))];
    Object { meta: meta(namespace, name, version), body: Body::Data(Data { values: data.into(), ..Data::default() }) }
}

fn changes(store: &Store) -> Vec<Change> {
    std::iter::from_fn(|| store.take_change()).collect()
}

#[test]
fn a_burst_is_one_change_and_shows_the_last_state() {
    let store = Store::new();
    for version in 0..1000 {
        store.put(object("a", "s", &version.to_string()));
        store.put(object("a", "t", &version.to_string()));
    }
    assert_eq!(changes(&store), [Change::Object(id("a", "s")), Change::Object(id("a", "t"))]);
    assert_eq!(&*store.get(&id("a", "s")).unwrap().meta().version, "999");
}

#[test]
fn a_listing_removes_what_is_not_in_it_and_nothing_else() {
    let store = Store::new();
    store.set_names(Kind::Secret, None, [meta("a", "s", "1"), meta("a", "t", "1"), meta("b", "s", "1")]);
    changes(&store);
    store.set_names(Kind::Secret, Some(&ns("a")), [meta("a", "t", "1"), meta("a", "u", "1")]);
    assert_eq!(changes(&store), [Change::Object(id("a", "s")), Change::Object(id("a", "u"))]);
    assert_eq!(store.names(Kind::Secret, &ns("a")), [Name::new("t").unwrap(), Name::new("u").unwrap()]);
    assert!(store.get(&id("b", "s")).is_some(), "another namespace was not listed");
    store.set_names(Kind::ConfigMap, None, []);
    assert!(store.get(&id("b", "s")).is_some(), "another kind was listed");
}

#[test]
fn values_stay_until_newer_ones_are_here() {
    let store = Store::new();
    store.put(object("a", "s", "1"));
    changes(&store);
    store.put_name(meta("a", "s", "2"));
    store.set_names(Kind::Secret, None, [meta("a", "s", "3")]);
    assert!(matches!(store.get(&id("a", "s")), Some(Known::Loaded(object)) if &*object.meta.version == "1"));
    assert_eq!(changes(&store), []);
}

#[test]
fn a_new_version_of_a_name_is_no_change() {
    let store = Store::new();
    store.put_name(meta("a", "s", "1"));
    changes(&store);
    store.put_name(meta("a", "s", "2"));
    assert_eq!(changes(&store), []);
    assert_eq!(&*store.get(&id("a", "s")).unwrap().meta().version, "2");
}

#[test]
fn a_namespace_goes_after_its_objects() {
    let store = Store::new();
    store.set_namespaces([ns("a"), ns("b")]);
    store.put(object("a", "s", "1"));
    changes(&store);
    store.set_namespaces([ns("b")]);
    assert_eq!(changes(&store), [Change::Object(id("a", "s")), Change::Namespace(ns("a"))]);
    assert_eq!((store.namespaces(), store.get(&id("a", "s")).is_none()), (vec![ns("b")], true));
}

#[test]
fn lists_say_nothing_about_what_is_hidden() {
    let store = Store::new();
    let kind = id("a", "s").kind;
    store.hide(&id("a", "s"));
    store.put(object("a", "s", "1"));
    store.put(object("a", "t", "1"));
    changes(&store);
    store.set_names(kind, None, []);
    assert!(store.get(&id("a", "s")).is_some() && store.get(&id("a", "t")).is_none());
    assert_eq!(store.names(kind, &ns("a")), []);
    changes(&store);
    // It is known still, and is looked at once it is in a list, or in none again.
    store.unhide(&id("a", "s"));
    assert_eq!(changes(&store), [Change::Object(id("a", "s"))]);
    assert_eq!(store.names(kind, &ns("a")), [id("a", "s").name]);
    store.unhide(&id("a", "s"));
    assert_eq!(changes(&store), []);
    store.hide(&id("a", "s"));
    assert_eq!(changes(&store), [Change::Object(id("a", "s"))]);
    // Whoever removes it knows that it is gone; the next one of its name is hidden as well.
    store.remove(&id("a", "s"));
    store.put(object("a", "s", "2"));
    assert_eq!(store.names(kind, &ns("a")), []);
}

#[test]
fn what_is_known_is_counted() {
    let store = Store::new();
    store.set_namespaces([ns("a")]);
    store.put_name(meta("a", "s", "1"));
    store.put(object("a", "t", "12345"));
    assert_eq!(store.summary(), Summary { namespaces: 1, objects: 2, loaded: 1, bytes: 5 });
}

#[tokio::test]
async fn the_reader_wakes_for_each_change() {
    let store = Store::new();
    let reader = tokio::spawn({
        let store = store.clone();
        async move { [store.next_change().await, store.next_change().await] }
    });
    store.put(object("a", "s", "1"));
    tokio::task::yield_now().await;
    store.remove(&id("a", "s"));
    store.add_namespace(ns("b"));
    let seen = reader.await.unwrap();
    assert_eq!(seen[0], Change::Object(id("a", "s")));
}
