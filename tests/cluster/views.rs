//! Names that come and go in the view of a namespace and of the cluster.

use super::{Mounted, stage};
use crate::support::cluster::{Cluster, namespace};
use crate::support::events::Watch;
use crate::support::{succeed, wait_until};

#[test]
fn objects_come_and_go_in_a_namespaces_directory() {
    let (namespace, secrets) = stage();
    secrets.create("first", &[("k", "1")]);
    let view = Mounted::new(namespace.context(), &[&format!("ns/{}", namespace.name)]);
    // Asked for before it exists: its absence must not be remembered.
    assert_eq!(view.try_read("later/k"), Err(libc::ENOENT));
    assert_eq!(view.names(""), ["first"]);
    let mut root = Watch::new(&view.seen);

    namespace.kubectl(&["create", "secret", "generic", "later", "--from-literal=k=2"]);
    let seen = root.wait_for("CREATE|ISDIR later");
    assert!(seen.iter().all(|event| event.ends_with(" later")), "{seen:?}");
    assert_eq!(view.names(""), ["first", "later"]);
    assert_eq!(view.read("later/k"), "2");

    root.clear();
    namespace.kubectl(&["delete", "secret", "later"]);
    assert_eq!(root.wait_for("DELETE|ISDIR later"), ["DELETE|ISDIR later"]);
    assert_eq!(view.try_read("later/k"), Err(libc::ENOENT));

    // Under the same name again, and not the old one.
    root.clear();
    namespace.kubectl(&["create", "secret", "generic", "later", "--from-literal=k=3"]);
    root.wait_for("CREATE|ISDIR later");
    assert_eq!(view.read("later/k"), "3");
}

#[test]
fn an_object_in_a_view_is_followed_once_it_was_read() {
    let (namespace, secrets) = stage();
    secrets.create("read", &[("k", "1")]);
    secrets.create("unread", &[("k", "1")]);
    let view = Mounted::new(namespace.context(), &[]);
    let dir = |name: &str| format!("{}/{name}", namespace.name);
    let key = |name: &str| format!("{}/{name}/k", namespace.name);
    assert_eq!(view.read(&key("read")), "1");
    let mut read = Watch::new(&view.path(&dir("read")));
    secrets.set("read", &[("k", "2"), ("new", "3")]);
    secrets.set("unread", &[("k", "2")]);
    let seen = read.wait_for("DELETE|ISDIR ..TS");
    assert!(seen.contains(&"MOVED_TO ..data".into()) && seen.contains(&"CREATE new".into()), "{seen:?}");
    assert_eq!((view.read(&key("read")), view.read(&key("unread"))), ("2".into(), "2".into()));
}

#[test]
fn a_secret_replaced_by_another_of_its_name_is_the_other() {
    let (namespace, secrets) = stage();
    secrets.create("s", &[("k", "old"), ("gone", "1")]);
    let view = Mounted::new(namespace.context(), &[&format!("ns/{}", namespace.name)]);
    assert_eq!(view.read("s/k"), "old");
    // Too fast for anybody to see it gone.
    secrets.delete("s");
    secrets.create("s", &[("k", "new")]);
    wait_until("the new one", || view.try_read("s/k") == Ok("new".into()));
    assert_eq!(view.try_read("s/gone"), Err(libc::ENOENT));
}

/// Deletes a namespace for good. Nobody here but the test does what the namespace controller does: with its objects
/// gone, it takes the finalizer away.
fn delete_namespace(cluster: &Cluster, name: &str) {
    succeed(cluster.kubectl().args(["delete", "namespace", name, "--wait=false"]));
    let dir = crate::support::tempdir();
    let file = dir.path().join("namespace.json");
    let body = serde_json::json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {"finalizers": []},
    });
    std::fs::write(&file, body.to_string()).expect("write");
    let path = format!("/api/v1/namespaces/{name}/finalize");
    succeed(cluster.kubectl().args(["replace", "--raw", &path, "-f"]).arg(&file));
}

#[test]
fn namespaces_come_and_go_in_the_clusters_directory() {
    let (here, _) = stage();
    let view = Mounted::new(here.context(), &[]);
    let mut root = Watch::new(&view.seen);

    let later = namespace();
    let name = later.name.as_str();
    root.wait_for(&format!("CREATE|ISDIR {name}"));
    assert_eq!(view.names(name), [""; 0]);
    let mut inside = Watch::new(&view.path(name));
    later.secret("s", &[("k", "1")]);
    inside.wait_for("CREATE|ISDIR s");
    assert_eq!(view.read(&format!("{name}/s/k")), "1");

    later.kubectl(&["delete", "secret", "s"]);
    inside.wait_for("DELETE|ISDIR s");
    delete_namespace(later.cluster, name);
    root.wait_for(&format!("DELETE|ISDIR {name}"));
    assert!(!view.names("").contains(&name.to_owned()));
    assert_eq!(view.try_read(&format!("{name}/s/k")), Err(libc::ENOENT));
    inside.wait_for("DELETE_SELF");
    assert!(view.names("").contains(&here.name));
}

#[test]
fn a_namespaces_view_ends_with_nothing_but_is_not_ended_by_it() {
    let (namespace, secrets) = stage();
    secrets.create("s", &[("k", "1")]);
    let view = Mounted::new(namespace.context(), &[&format!("ns/{}", namespace.name)]);
    assert_eq!(view.read("s/k"), "1");
    let mut root = Watch::new(&view.seen);
    secrets.delete("s");
    root.wait_for("DELETE|ISDIR s");
    delete_namespace(namespace.cluster, &namespace.name);
    assert_eq!(view.names(""), [""; 0]);
    // Made again, it is followed as before.
    succeed(namespace.cluster.kubectl().args(["create", "namespace", &namespace.name]));
    secrets.create("again", &[("k", "2")]);
    root.wait_for("CREATE|ISDIR again");
    assert_eq!(view.read("again/k"), "2");
}
