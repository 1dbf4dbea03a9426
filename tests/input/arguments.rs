//! Sources, keys, options and kubeconfigs that cannot be meant or used.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::{PLANTED, mount_refused, refused, sandbox};
use crate::support::user::ROOT;

#[test]
fn a_source_that_cannot_be_meant_is_refused() {
    for (source, parts) in [
        ("mysecret", &["\"mysecret\"", "secret/NAME"][..]),
        ("", &["secret/NAME"]),
        ("pvc/s", &["\"pvc\"", "use secret, cm"]),
        ("a/b/c/d/e", &["NAMESPACE/KIND/NAME"]),
        ("secret/", &["object name", "lower-case"]),
        ("secret/S", &["object name", "lower-case"]),
        ("secret/s?watch=true", &["object name"]),
        ("secret/..", &["object name"]),
        ("ns/a.b", &["namespace", "at most 63"]),
        ("Prod/secret/s", &["namespace"]),
        ("secret/s/key", &["names a key", "cat, ls and tree"]),
        ("secret/a\nb", &["object name"]),
    ] {
        mount_refused(&[source, "mnt"], 2, parts);
    }
    let long = format!("secret/{}", "x".repeat(300));
    mount_refused(&[&long, "mnt"], 2, &["at most 253"]);
    let sandbox = sandbox();
    let source = OsStr::from_bytes(b"secret/\xff");
    refused(
        &sandbox,
        ROOT,
        &[OsStr::new("mount"), OsStr::new("-f"), OsStr::new("good.yaml"), source, OsStr::new("mnt")],
        2,
        &["UTF-8"],
    );
}

#[test]
fn a_key_that_cannot_exist_is_refused() {
    let sandbox = sandbox();
    for verb in ["cat", "ls", "tree"] {
        for key in ["..", "a/b", "a b", "..data", &"k".repeat(254)] {
            let source = format!("default/secret/s/{key}");
            refused(
                &sandbox,
                ROOT,
                &["", "-f", "good.yaml", &source].map(|word| OsStr::new(if word.is_empty() { verb } else { word })),
                2,
                &[],
            );
        }
        let args = [verb, "-f", "good.yaml", "secret/s/other"].map(OsStr::new);
        refused(&sandbox, ROOT, &args, 4, &["has no key other", "it has: key"]);
    }
}

#[test]
fn options_that_make_no_sense_are_refused_with_an_example() {
    for (option, value, parts) in [
        ("--mode", "8", &["--mode", "octal", "0400"][..]),
        ("--mode", "rw", &["octal"]),
        ("--dir-mode", "07777", &["--dir-mode", "octal"]),
        ("--uid", "me", &["--uid"]),
        ("--gid", "-1", &["--gid"]),
        ("--kinds", "secrets,nodes", &["nodes", "secrets, configmaps or pods"]),
        ("--kinds", "", &["--kinds"]),
        ("--timeout", "5", &["--timeout", "500ms"]),
        ("--timeout", "0s", &["500ms"]),
        ("--poll", "often", &["--poll", "1m30s"]),
        ("--layout", "nice", &["--layout", "kubelet, flat"]),
        ("--owner", "you", &["--owner", "me, kubelet"]),
        ("--mount-with", "magic", &["--mount-with", "fusermount"]),
        ("--namespace", "A_B", &["namespace", "lower-case"]),
        ("--nonsense", "x", &["--nonsense"]),
        ("--selector", "a in b", &["selector"]),
        ("--selector", "=", &["selector"]),
        ("--selector", "a=b,,", &["selector"]),
    ] {
        mount_refused(&[&format!("{option}={value}"), "secret/s", "mnt"], 2, parts);
    }
    mount_refused(&["--context", "x", "secret/s", "mnt"], 2, &["--context", "--filename"]);
    mount_refused(&["-l", "a=b", "secret/s", "mnt"], 2, &["-l", "ns/NAMESPACE"]);
    mount_refused(&["-l", "a=b", "deploy/d", "mnt"], 2, &["-l", "ns/NAMESPACE"]);
    mount_refused(&["--private", "secret/s", "mnt"], 2, &["COMMAND"]);
    mount_refused(&[], 2, &["DIR"]);
    mount_refused(&["secret/s", "mnt", "more"], 2, &["more"]);
}

#[test]
fn an_object_that_is_not_there_is_refused() {
    mount_refused(&["secret/other", "mnt"], 4, &["default/secret/other", "good.yaml"]);
    mount_refused(&["-n", "prod", "secret/s", "mnt"], 4, &["prod/secret/s"]);
    mount_refused(&["cm/s", "mnt"], 4, &["default/cm/s"]);
}

#[test]
fn a_kubeconfig_that_cannot_be_used_is_refused() {
    let sandbox = sandbox();
    let kubeconfig = |server: &str| {
        serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": PLANTED}}],
            "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
        })
        .to_string()
    };
    let mount = |args: &[&str], code: i32, parts: &[&str]| {
        let all = ["mount"].into_iter().chain(args.iter().copied()).chain(["secret/s", "mnt"]).map(OsStr::new);
        refused(&sandbox, ROOT, &all.collect::<Vec<_>>(), code, parts);
    };
    // Port 1 of the loopback: nobody listens there.
    sandbox.write("config", kubeconfig("https://127.0.0.1:1"));
    mount(&["--kubeconfig", "config"], 6, &["127.0.0.1:1"]);
    mount(&["--kubeconfig", "config", "--context", "other"], 3, &["other"]);
    mount(&["--kubeconfig", "missing"], 3, &["missing"]);
    sandbox.write("config", kubeconfig("not a url"));
    mount(&["--kubeconfig", "config"], 3, &[]);
    sandbox.write("config", format!("apiVersion: v1\nkind: Config\nusers:\n- name: u\n  user: {{token: \"{PLANTED}\n"));
    mount(&["--kubeconfig", "config"], 3, &["config"]);
    // No kubeconfig at all, and no pod around us.
    mount(&[], 3, &["-f"]);
}
