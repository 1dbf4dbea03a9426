//! With which rights a mount works, and which requests it makes: the API server's own audit log tells.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Mounted, stage};
use crate::support::api::Api;
use crate::support::cluster::Namespace;
use crate::support::events::Watch;
use crate::support::kubeconfig::Context;
use crate::support::{wait_for, wait_until};

/// A request as RBAC sees it: verb, resource, namespace, name, and the code of its answer.
pub(super) type Asked = (String, String, String, String, u64);

/// All that the user has asked so far.
pub(super) fn asked(namespace: &Namespace, user: &str) -> Vec<Asked> {
    let entries = namespace.cluster.audit(|entry| entry["user"]["username"] == user);
    // A watch has an entry for its beginning and one for its end.
    let mut seen = BTreeSet::new();
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let once = entries.into_iter().filter(|entry| seen.insert(text(&entry["auditID"])));
    once.map(|entry| {
        let object = &entry["objectRef"];
        let code = entry["responseStatus"]["code"].as_u64().unwrap_or(0);
        let resource = text(&object["resource"]);
        (text(&entry["verb"]), resource, text(&object["namespace"]), text(&object["name"]), code)
    })
    .collect()
}

/// Waits until the user has made a request that `wanted` picks, and returns all there are then.
#[track_caller]
fn asked_until(namespace: &Namespace, user: &str, wanted: impl Fn(&Asked) -> bool) -> Vec<Asked> {
    wait_for("a request in the audit log", || {
        let asked = asked(namespace, user);
        asked.iter().any(&wanted).then_some(asked)
    })
}

/// A user who may do nothing yet, and the context to do it in.
pub(super) fn nobody(namespace: &Namespace) -> (String, Context) {
    let user = namespace.user();
    let context = namespace.context_of(&user);
    (user, context)
}

#[test]
fn a_named_mount_needs_get_and_watch_on_that_name_and_asks_for_nothing_else() {
    let (namespace, secrets) = stage();
    secrets.create("mine", &[("k", "1")]);
    secrets.create("other", &[("k", "1")]);
    let (user, context) = nobody(&namespace);
    namespace.allow(&user, "get,watch", &["mine"]);
    let mounted = Mounted::new(context, &["secret/mine"]);
    assert_eq!(mounted.read("k"), "1");
    let mut root = Watch::new(&mounted.seen);
    secrets.set("mine", &[("k", "2")]);
    root.wait_for("MOVED_TO ..data");
    assert_eq!(mounted.read("k"), "2");
    secrets.delete("mine");
    wait_until("the deletion", || mounted.try_read("k") == Err(libc::ENOENT));
    secrets.create("mine", &[("k", "3")]);
    wait_until("the new one", || mounted.try_read("k") == Ok("3".into()));

    let asked = asked_until(&namespace, &user, |(verb, ..)| verb == "watch");
    let expected = |verb: &str| (verb.into(), "secrets".into(), namespace.name.clone(), "mine".into(), 200);
    let (get, watch): (Asked, Asked) = (expected("get"), expected("watch"));
    assert!(asked.contains(&get) && asked.contains(&watch), "{asked:?}");
    assert!(asked.iter().all(|one| *one == get || *one == watch), "{asked:?}");
}

#[test]
fn with_get_alone_a_named_mount_polls() {
    let (namespace, secrets) = stage();
    secrets.create("mine", &[("k", "1")]);
    let (user, context) = nobody(&namespace);
    namespace.allow(&user, "get", &["mine"]);
    let mounted = Mounted::new(context, &["--poll", "1s", "secret/mine"]);
    assert_eq!(mounted.read("k"), "1");
    let mut root = Watch::new(&mounted.seen);
    secrets.set("mine", &[("k", "2")]);
    root.wait_for("MOVED_TO ..data");
    assert_eq!(mounted.read("k"), "2");
    secrets.delete("mine");
    wait_until("the deletion", || mounted.try_read("k") == Err(libc::ENOENT));
    secrets.create("mine", &[("k", "3")]);
    wait_until("the new one", || mounted.try_read("k") == Ok("3".into()));

    let asked = asked_until(&namespace, &user, |(verb, ..)| verb == "watch");
    let count = |wanted: &str| asked.iter().filter(|(verb, ..)| verb == wanted).count();
    for (verb, resource, in_namespace, name, code) in &asked {
        assert_eq!((resource.as_str(), in_namespace, name.as_str()), ("secrets", &namespace.name, "mine"), "{asked:?}");
        match verb.as_str() {
            "get" => assert!([200, 404].contains(code), "{asked:?}"),
            "watch" => assert_eq!(*code, 403, "{asked:?}"),
            _ => panic!("not needed: {asked:?}"),
        }
    }
    // What was refused is not asked for again and again.
    assert!(count("watch") <= 1 + count("get") / 10, "{asked:?}");
}

#[test]
fn the_right_to_watch_is_used_when_it_comes() {
    let (namespace, secrets) = stage();
    secrets.create("mine", &[("k", "1")]);
    let (user, context) = nobody(&namespace);
    namespace.allow(&user, "get", &["mine"]);
    let mounted = Mounted::new(context, &["--poll", "100ms", "secret/mine"]);
    asked_until(&namespace, &user, |(verb, .., code)| verb == "watch" && *code == 403);
    namespace.allow(&user, "watch", &["mine"]);
    asked_until(&namespace, &user, |(verb, .., code)| verb == "watch" && *code == 200);
    secrets.set("mine", &[("k", "2")]);
    wait_until("the update", || mounted.try_read("k") == Ok("2".into()));
}

#[test]
fn a_namespaces_view_asks_for_that_namespace_alone() {
    let (namespace, secrets) = stage();
    secrets.create("s", &[("k", "1")]);
    let (user, context) = nobody(&namespace);
    namespace.allow(&user, "get,list,watch", &[]);
    let view = Mounted::new(context, &[&format!("ns/{}", namespace.name)]);
    assert_eq!(view.names(""), ["s"]);
    assert_eq!(view.read("s/k"), "1");
    secrets.create("later", &[("k", "2")]);
    wait_until("the new one", || view.try_read("later/k") == Ok("2".into()));

    let asked = asked_until(&namespace, &user, |(verb, .., name, _)| verb == "get" && name == "later");
    for (verb, resource, in_namespace, name, code) in &asked {
        assert_eq!((resource.as_str(), in_namespace, *code), ("secrets", &namespace.name, 200), "{asked:?}");
        assert_eq!(verb == "get", !name.is_empty(), "{asked:?}");
    }
    let count = |wanted: &str| asked.iter().filter(|(verb, ..)| verb == wanted).count();
    assert_eq!((count("list"), count("watch"), count("get")), (1, 1, 2), "{asked:?}");
}

#[test]
fn without_mounting_one_request_is_made_for_one_value() {
    let (namespace, secrets) = stage();
    secrets.create("mine", &[("k", "1")]);
    let (user, context) = nobody(&namespace);
    namespace.allow(&user, "get", &["mine"]);
    let site = super::Site::new(&[context]);
    assert_eq!(crate::support::succeed(site.secretfs().args(["cat", "secret/mine/k"])), "1");
    let asked = asked_until(&namespace, &user, |(verb, ..)| verb == "get");
    let gets = asked.iter().filter(|(verb, ..)| verb == "get").count();
    // Following begins at once, and ends with the command.
    assert!(gets == 1 && asked.iter().all(|(verb, .., name, _)| name == "mine" && verb != "list"), "{asked:?}");
}

/// What was refused at first is learned all the same, also that it is not there.
#[test]
fn a_pods_optional_secret_may_turn_out_not_to_exist_once_that_may_be_known() {
    let (namespace, secrets) = stage();
    secrets.create("here", &[("k", "1")]);
    let (user, context) = nobody(&namespace);
    namespace.allow(&user, "get,watch", &["here"]);
    namespace.kubectl(&["create", "role", "pods", "--verb=get,watch", "--resource=pods"]);
    namespace.kubectl(&["create", "rolebinding", "pods", "--role=pods", &format!("--user={user}")]);
    let api = Api::of(namespace.cluster);
    let metadata = json!({"namespace": namespace.name, "name": "default"});
    api.create(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}));
    let sources = ["here", "absent"].map(|name| json!({"secret": {"name": name, "optional": name == "absent"}}));
    api.create(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace.name, "name": "web-0"},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [{"name": "v", "projected": {"sources": sources}}],
        },
    }));
    let mounted = Mounted::new(context, &["--poll", "1s", "pod/web-0"]);
    assert_eq!(mounted.try_read("c/v/k"), Err(libc::ENOENT), "it is not known what the volume has");
    namespace.allow(&user, "get", &["absent"]);
    wait_until("the volume", || mounted.try_read("c/v/k") == Ok("1".into()));
}
