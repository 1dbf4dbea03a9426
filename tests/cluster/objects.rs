//! What SOURCE and the options lead to, with and without mounting.

use std::process::Command;

use serde_json::json;

use super::{Mounted, Secrets, Site, names, secret, stage};
use crate::support::cluster::{cluster, namespace};
use crate::support::events::Watch;
use crate::support::kubeconfig::{Context, kubeconfig};
use crate::support::mount::{Mount, Way};
use crate::support::{fail, run, subdir, succeed, wait_until};

const KEY: &str = "my-super-secret-key";
const VALUE: &str = "some-base64-encoded-payload";

#[test]
fn the_readmes_secret_is_read_by_cat_with_no_newline() {
    let (namespace, secrets) = stage();
    secrets.create("mysecret", &[(KEY, VALUE)]);
    let site = Site::new(&[namespace.context()]);

    let one = subdir(site.path(), "mysec");
    succeed(site.secretfs().args(["mount", "secret/mysecret", "./mysec"]));
    let _ended = Mount::of(&one);
    let cat = |path: &str| run(Command::new("cat").arg(path).current_dir(site.path())).stdout;
    assert_eq!(cat(&format!("./mysec/{KEY}")), VALUE.as_bytes());

    let all = subdir(site.path(), "k8s");
    succeed(site.secretfs().args(["mount", "./k8s"]));
    let _ended = Mount::of(&all);
    assert_eq!(cat(&format!("./k8s/{}/mysecret/{KEY}", namespace.name)), VALUE.as_bytes());

    succeed(site.secretfs().args(["umount", "./mysec"]));
    succeed(site.secretfs().args(["umount", "./k8s"]));
    assert_eq!((names(&one), names(&all)), (vec![], vec![]));
}

#[test]
fn every_form_of_source_leads_to_its_object() {
    let (here, secrets) = stage();
    let there = namespace();
    secrets.create("s", &[("k", "here")]);
    secrets.api.create(&secret(&there.name, "s", &[("k", "there")]));
    let config_map = |namespace: &str, value: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": namespace},
            "data": {"k": value}})
    };
    secrets.api.create(&config_map(&here.name, "here's map"));
    secrets.api.create(&config_map(&there.name, "there's map"));

    let there = there.name.as_str();
    let (full_secret, full_map) = (format!("{there}/secret/s"), format!("{there}/cm/c"));
    let (ns_here, ns_there) = (format!("ns/{}", here.name), format!("namespace/{there}"));
    let site = Site::new(&[here.context()]);
    for (number, (args, path, value)) in [
        (&["secret/s"][..], "k", "here"),
        (&["-n", there, "secret/s"], "k", "there"),
        (&["-n", there, "secrets/s"], "k", "there"),
        (&[&full_secret], "k", "there"),
        (&["-n", &here.name, &full_secret], "k", "there"),
        (&["cm/c"], "k", "here's map"),
        (&["-n", there, "configmap/c"], "k", "there's map"),
        (&[&full_map], "k", "there's map"),
        (&[&ns_here], "s/k", "here"),
        (&[&ns_there], "s/k", "there"),
        (&["--kinds", "configmaps", &ns_there], "c/k", "there's map"),
    ]
    .into_iter()
    .enumerate()
    {
        let mount = site.mount_at(&format!("mnt{number}"), args);
        assert_eq!(std::fs::read_to_string(mount.path(path)).expect(path), value, "{args:?}");
    }
}

#[test]
fn a_config_map_shows_binary_data_beside_its_text() {
    let (namespace, secrets) = stage();
    secrets.api.create(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "both", "namespace": namespace.name},
        "data": {"text": "Grüße\n", "empty": ""}, "binaryData": {"binary": "AP+ADQo="},
    }));
    let mounted = Mounted::new(namespace.context(), &["cm/both"]);
    let bytes = |name: &str| std::fs::read(mounted.path(name)).expect(name);
    assert_eq!(bytes("text"), "Grüße\n".as_bytes());
    assert_eq!(bytes("empty"), b"");
    assert_eq!(bytes("binary"), [0, 0xff, 0x80, b'\r', b'\n']);
}

#[test]
fn several_kinds_are_shown_one_level_deeper() {
    let (namespace, secrets) = stage();
    secrets.create("same", &[("k", "secret")]);
    secrets.api.create(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "same", "namespace": namespace.name},
        "data": {"k": "map"},
    }));
    let ns = namespace.name.as_str();
    let view = Mounted::new(namespace.context(), &["--kinds", "secrets,configmaps", &format!("ns/{ns}")]);
    assert_eq!(view.names(""), ["configmaps", "secrets"]);
    assert_eq!(view.names("secrets"), ["same"]);
    assert_eq!((view.read("secrets/same/k"), view.read("configmaps/same/k")), ("secret".into(), "map".into()));

    let cluster = Mounted::new(namespace.context(), &["--kinds", "configmaps,secrets"]);
    assert_eq!(cluster.names(ns), ["configmaps", "secrets"]);
    assert_eq!(cluster.read(&format!("{ns}/secrets/same/k")), "secret");
    assert_eq!(cluster.read(&format!("{ns}/configmaps/same/k")), "map");
}

#[test]
fn a_selector_shows_what_matches_now() {
    let (namespace, secrets) = stage();
    let labelled = |name: &str, app: &str| {
        let mut object = secret(&namespace.name, name, &[("k", name)]);
        object["metadata"]["labels"] = json!({"app": app});
        object
    };
    secrets.api.create(&labelled("a", "web"));
    secrets.api.create(&labelled("b", "db"));
    let view = Mounted::new(namespace.context(), &["-l", "app in (web,api)", &format!("ns/{}", namespace.name)]);
    assert_eq!(view.names(""), ["a"]);
    assert_eq!(view.try_read("b/k"), Err(libc::ENOENT));

    let mut root = Watch::new(&view.seen);
    secrets.api.replace(&labelled("b", "api"));
    root.wait_for("CREATE|ISDIR b");
    assert_eq!(view.read("b/k"), "b");
    secrets.api.replace(&labelled("a", "none"));
    root.wait_for("DELETE|ISDIR a");
    assert_eq!(view.names(""), ["b"]);
}

/// Two contexts that differ in their namespace.
fn two_contexts() -> (Site, [Context; 2]) {
    let (first, secrets) = stage();
    let second = namespace();
    secrets.create("s", &[("k", "first")]);
    secrets.api.create(&secret(&second.name, "s", &[("k", "second")]));
    let contexts = [("first", first), ("second", second)]
        .map(|(name, namespace)| Context { name: name.into(), ..namespace.context() });
    (Site::new(&contexts), contexts)
}

#[test]
fn context_and_kubeconfig_choose_the_cluster() {
    let (site, [_, second]) = two_contexts();
    let other = site.path().join("other");
    std::fs::write(&other, kubeconfig(&[second])).expect("write");
    let other = other.to_str().expect("UTF-8");
    let read = |mount: &Mount| std::fs::read_to_string(mount.path("k")).expect("read");

    assert_eq!(read(&site.mount_at("current", &["secret/s"])), "first");
    assert_eq!(read(&site.mount_at("context", &["--context", "second", "secret/s"])), "second");
    assert_eq!(read(&site.mount_at("file", &["--kubeconfig", other, "secret/s"])), "second");
    // As kubectl: what does not exist is skipped, the first word on something counts.
    let list = format!("/nonexistent/kubeconfig:{other}:{}", site.kubeconfig.display());
    let cat = |args: &[&str]| succeed(site.secretfs().env("KUBECONFIG", &list).arg("cat").args(args).arg("secret/s/k"));
    assert_eq!(cat(&[]), "second");
    assert_eq!(cat(&["--context", "first"]), "first");
}

#[test]
fn use_context_moves_no_mount() {
    let (site, [first, second]) = two_contexts();
    let old = site.mount_at("old", &["secret/s"]);
    let read = |mount: &Mount| std::fs::read_to_string(mount.path("k")).expect("read");
    assert_eq!(read(&old), "first");

    let cluster = cluster();
    succeed(cluster.kubectl().env("KUBECONFIG", &site.kubeconfig).args(["config", "use-context", "second"]));
    assert_eq!(read(&site.mount_at("new", &["secret/s"])), "second");
    assert_eq!(read(&old), "first");
    // It follows what it was made for, and nothing else.
    let mut root = Watch::new(&old.seen);
    let secrets = Secrets::of(cluster, &second.namespace);
    secrets.set("s", &[("k", "second, changed")]);
    secrets.api.replace(&secret(&first.namespace, "s", &[("k", "first, changed")]));
    root.wait_for("MOVED_TO ..data");
    assert_eq!(read(&old), "first, changed");
}

#[test]
fn cat_ls_and_tree_need_no_mount_and_only_cat_prints_values() {
    let (namespace, secrets) = stage();
    let value = "planted-by-cat-ls-and-tree";
    secrets.create("one", &[("key", value)]);
    secrets.create("two", &[("a", value), ("b", "")]);
    secrets.api.create(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map", "namespace": namespace.name},
        "binaryData": {"binary": "AP+A"},
    }));
    let site = Site::new(&[namespace.context()]);
    let bytes = |args: &[&str]| {
        let output = run(site.secretfs().args(args));
        assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {output:?}");
        output.stdout
    };
    let text = |args: &[&str]| String::from_utf8(bytes(args)).expect("UTF-8");
    assert_eq!(text(&["cat", "secret/one/key"]), value);
    assert_eq!(text(&["cat", "secret/one"]), value);
    assert_eq!(text(&["cat", "secret/two/b"]), "");
    assert_eq!(bytes(&["cat", "cm/map/binary"]), [0, 0xff, 0x80]);

    let ns = namespace.name.as_str();
    let of_ns = format!("ns/{ns}");
    let listings = [
        (text(&["ls", &of_ns]), "one\ntwo\n".to_owned()),
        (text(&["ls", "secret/two"]), "a\nb\n".to_owned()),
        (
            text(&["ls", "--kinds", "secrets,configmaps", &of_ns]),
            "secrets/one\nsecrets/two\nconfigmaps/map\n".to_owned(),
        ),
        (text(&["tree", &of_ns]), format!("{ns}\n├── one\n└── two\n")),
        (text(&["tree", "secret/two"]), format!("{ns}/secret/two\n├── a ({} bytes)\n└── b (0 bytes)\n", value.len())),
    ];
    for (printed, expected) in listings {
        assert_eq!(printed, expected);
    }
    for printed in [text(&["ls"]), text(&["tree"])] {
        assert!(printed.contains(ns), "{printed}");
        assert!(!printed.contains(value), "{printed}");
    }
}

#[test]
fn an_ordinary_user_mounts_a_cluster_too() {
    let (namespace, secrets) = stage();
    secrets.create("s", &[("k", "old")]);
    for way in [Way::Fusermount, Way::Private] {
        secrets.set("s", &[("k", "old")]);
        let site = Site::new(&[namespace.context()]);
        let point = subdir(site.path(), "mnt");
        let config = site.kubeconfig.to_str().expect("UTF-8").to_owned();
        let mount = Mount::by(way, &["--kubeconfig", &config, "secret/s"], &point);
        let read = || mount.user.does(|| std::fs::read_to_string(mount.path("k"))).ok();
        assert_eq!(read().as_deref(), Some("old"), "{way:?}");
        secrets.set("s", &[("k", "new")]);
        wait_until("the update", || read().as_deref() == Some("new"));
        mount.end();
    }
}

#[test]
fn the_namespace_is_the_contexts_or_default() {
    let (namespace, secrets) = stage();
    secrets.create("s", &[("k", "v")]);
    // A context without a namespace means "default", where this Secret is not.
    let site = Site::new(&[Context { namespace: String::new(), ..namespace.context() }]);
    let (code, said) = fail(site.secretfs().args(["cat", "secret/only-elsewhere/k"]));
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("default/secret/only-elsewhere"), "{said}");
    assert_eq!(succeed(site.secretfs().args(["cat", "-n", &namespace.name, "secret/s/k"])), "v");
}
