//! TestMakePayload of pkg/volume/secret/secret_test.go and pkg/volume/configmap/configmap_test.go, which the projected
//! plugin's tests repeat.

use serde_json::{Value as Json, json};

use crate::object::Kind;
use crate::pod::testing::{Known, collected, id, listed, refused, with_volume};
use crate::pod::{Have, Problem, needs};

/// The same source as a volume of its own and as the only one of a projected volume.
fn each_way(kind: Kind, source: &Json, mode: u32) -> [Json; 2] {
    let (field, name) = if kind == Kind::Secret { ("secret", "secretName") } else { ("configMap", "name") };
    let mut alone = source.clone();
    alone[name] = json!("o");
    alone["defaultMode"] = json!(mode);
    let mut projection = source.clone();
    projection["name"] = json!("o");
    [json!({field: alone}), json!({"projected": {"defaultMode": mode, "sources": [{field: projection}]}})]
}

#[test]
fn keys_become_files() {
    let foo_bar = json!([{"key": "foo", "path": "path/to/foo.txt"}]);
    let both = json!([{"key": "foo", "path": "path/to/foo.txt"}, {"key": "bar", "path": "path/to/bar.bin"}]);
    let modes = json!([{"key": "foo", "path": "foo.txt", "mode": 0o444}, {"key": "bar", "path": "bar.bin"}]);
    let absent = json!([{"key": "zab", "path": "path/to/foo.txt"}]);
    let twice = json!([{"key": "foo", "path": "x"}, {"key": "bar", "path": "x"}, {"key": "foo", "path": "y"}]);
    let unclean = json!([{"key": "foo", "path": "a//b"}, {"key": "bar", "path": "./a/b/"}]);
    let table = [
        ("no items", json!({}), listed(&[("bar", "bar", 0o644), ("foo", "foo", 0o644)])),
        ("an empty list is none", json!({"items": []}), listed(&[("bar", "bar", 0o644), ("foo", "foo", 0o644)])),
        ("one of two", json!({"items": foo_bar}), listed(&[("path/to/foo.txt", "foo", 0o644)])),
        (
            "both",
            json!({"items": both}),
            listed(&[("path/to/bar.bin", "bar", 0o644), ("path/to/foo.txt", "foo", 0o644)]),
        ),
        ("mode of an item", json!({"items": modes}), listed(&[("bar.bin", "bar", 0o644), ("foo.txt", "foo", 0o444)])),
        ("an absent key", json!({"items": absent, "optional": true}), listed(&[])),
        ("the later item wins", json!({"items": twice}), listed(&[("x", "bar", 0o644), ("y", "foo", 0o644)])),
        ("also in another spelling", json!({"items": unclean}), listed(&[("a/b", "bar", 0o644)])),
    ];
    for kind in Kind::DATA {
        let known = Known::default().data(kind, "o", &[("foo", "foo"), ("bar", "bar")]);
        for (what, source, expected) in &table {
            for volume in each_way(kind, source, 0o644) {
                assert_eq!(collected(&with_volume(volume), &known).as_ref(), Ok(expected), "{kind:?}, {what}");
            }
        }
    }
}

#[test]
fn the_mode_is_the_volumes_or_0644() {
    let known = Known::default().data(Kind::Secret, "o", &[("k", "v")]);
    for volume in each_way(Kind::Secret, &json!({}), 0o400) {
        assert_eq!(collected(&with_volume(volume), &known), Ok(listed(&[("k", "v", 0o400)])));
    }
    let left_out = [
        json!({"secret": {"secretName": "o"}}),
        // A projection has no mode of its own.
        json!({"projected": {"sources": [{"secret": {"name": "o", "defaultMode": 0o400}}]}}),
    ];
    for volume in left_out {
        assert_eq!(collected(&with_volume(volume), &known), Ok(listed(&[("k", "v", 0o644)])));
    }
    let too_many = json!({"secret": {"secretName": "o", "defaultMode": 0o1644}});
    let problem = Problem::BadMode { path: "k".into(), mode: 0o1644 };
    assert_eq!(refused(&with_volume(too_many), &known), [problem]);
}

#[test]
fn what_is_absent_is_told_unless_it_is_optional() {
    for kind in Kind::DATA {
        let missing = Problem::Missing { object: id(kind, "o") };
        for volume in each_way(kind, &json!({}), 0o644) {
            assert_eq!(refused(&with_volume(volume), &Known::default()), std::slice::from_ref(&missing));
        }
        for volume in each_way(kind, &json!({"optional": true}), 0o644) {
            assert_eq!(collected(&with_volume(volume), &Known::default()), Ok(vec![]));
        }
        let known = Known::default().data(kind, "o", &[("foo", "1")]);
        let items =
            json!({"items": [{"key": "a", "path": "a"}, {"key": "foo", "path": "b"}, {"key": "../c", "path": "c"}]});
        let key = |key: &str| Problem::MissingKey { object: id(kind, "o"), key: key.into() };
        for volume in each_way(kind, &items, 0o644) {
            assert_eq!(refused(&with_volume(volume), &known), [key("a"), key("../c")]);
        }
    }
}

#[test]
fn optional_forgives_nothing_but_absence() {
    let source = json!({"optional": true});
    for volume in each_way(Kind::Secret, &source, 0o644) {
        let refusal = Have::Refused("ns/secret/o: access denied".into());
        let known = Known::default().without(Kind::Secret, "o", refusal);
        assert_eq!(
            refused(&with_volume(volume.clone()), &known),
            [Problem::Refused("ns/secret/o: access denied".into())]
        );
        let known = Known::default().without(Kind::Secret, "o", Have::Unknown);
        assert_eq!(refused(&with_volume(volume), &known), [Problem::Unknown { what: "ns/secret/o".into() }]);
    }
}

#[test]
fn a_name_that_no_object_can_have_is_absent() {
    let named = |name: &str, optional| with_volume(json!({"secret": {"secretName": name, "optional": optional}}));
    let bad = |name: &str| Problem::BadName { kind: Kind::Secret, name: name.into() };
    assert_eq!(refused(&named("A/../b", false), &Known::default()), [bad("A/../b")]);
    assert_eq!(collected(&named("A/../b", true), &Known::default()), Ok(vec![]));
    assert_eq!(refused(&named("", true), &Known::default()), [bad("")]);
    let subject = named("A/../b", false);
    assert!(needs(&subject, &subject.pod.spec.volumes[0]).objects.is_empty());
}

#[test]
fn bad_paths_are_all_told() {
    let items = json!({"items": [
        {"key": "k", "path": "../a"}, {"key": "k", "path": "/b"}, {"key": "k", "path": ""}, {"key": "k", "path": "fine"},
    ]});
    let known = Known::default().data(Kind::ConfigMap, "o", &[("k", "v")]);
    for volume in each_way(Kind::ConfigMap, &items, 0o644) {
        let problems = refused(&with_volume(volume), &known).into_iter();
        let path = |problem| match problem {
            Problem::BadPath { path, .. } => path,
            other => panic!("{other}"),
        };
        let paths: Vec<String> = problems.map(path).collect();
        assert_eq!(paths, ["../a", "/b", ""]);
    }
}

/// KEP-5936, `ResolvesFsUser`: the item's user, then the volume's.
#[test]
fn users_are_the_items_or_the_volumes() {
    let known = Known::default().data(Kind::Secret, "o", &[("k", "v")]);
    let file = |path: &str, user| (path.to_owned(), "v".to_owned(), 0o644, user);
    let items = json!([{"key": "k", "path": "a", "user": 5}, {"key": "k", "path": "b"}]);
    let alone = |items: Json| json!({"secret": {"secretName": "o", "defaultUser": 7, "items": items}});
    let projected =
        |items: Json| json!({"projected": {"defaultUser": 7, "sources": [{"secret": {"name": "o", "items": items}}]}});
    for volume in [alone(items.clone()), projected(items)] {
        assert_eq!(collected(&with_volume(volume), &known), Ok(vec![file("a", Some(5)), file("b", Some(7))]));
    }
    for volume in [alone(json!([])), projected(json!([]))] {
        assert_eq!(collected(&with_volume(volume), &known), Ok(vec![file("k", Some(7))]));
    }
}
