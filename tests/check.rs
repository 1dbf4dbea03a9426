//! `secretfs check`: what would keep a pod from starting or give it wrong files, from manifests, from the API server, and on the
//! node itself, where the kubelet's own code has written the volumes.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::cluster::{Namespace, namespace};
use crate::support::kubeconfig::kubeconfig;
use crate::support::referee::Referee;
use crate::support::{run, said, secretfs, tempdir};

/// What `secretfs check ARGS -o json` has said, and its exit code.
struct Checked {
    code: i32,
    findings: Vec<Value>,
    text: String,
}

impl Checked {
    /// Rule, volume and object of each finding.
    fn rules(&self) -> Vec<&str> {
        self.findings.iter().map(|finding| finding["rule"].as_str().expect("a rule")).collect()
    }

    #[track_caller]
    fn one(&self, rule: &str) -> &Value {
        let mut of = self.findings.iter().filter(|finding| finding["rule"] == rule);
        let one = of.next().unwrap_or_else(|| panic!("no {rule} in {}", self.text));
        assert!(of.next().is_none(), "{rule} is told twice in {}", self.text);
        one
    }
}

#[track_caller]
fn check(kubeconfig: Option<&Path>, args: &[&str]) -> Checked {
    let mut command = secretfs();
    if let Some(path) = kubeconfig {
        command.env("KUBECONFIG", path);
    }
    let output = run(command.args(["check", "-o", "json"]).args(args));
    let text = said(&output);
    let findings = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {text}"));
    Checked { code: output.status.code().expect("a code"), findings, text }
}

/// Checks `deploy/web` of these manifests.
#[track_caller]
fn check_manifests(objects: &[Value], args: &[&str]) -> Checked {
    let dir = tempdir();
    let path = write(&dir, objects);
    check(None, &[&["-f", path.to_str().expect("UTF-8"), "deploy/web"], args].concat())
}

fn write(dir: &tempfile::TempDir, objects: &[Value]) -> PathBuf {
    let path = dir.path().join("all.json");
    std::fs::write(&path, json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()).expect("write");
    path
}

/// A Deployment `web` with one container.
fn deployment(mounts: Value, volumes: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "i", "volumeMounts": mounts}], "volumes": volumes},
        }},
    })
}

fn secret(name: &str, values: &[(&str, &str)]) -> Value {
    let data: serde_json::Map<_, _> = values.iter().map(|(key, value)| ((*key).into(), json!(value))).collect();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})
}

fn mount(name: &str, path: &str) -> Value {
    json!({"name": name, "mountPath": path})
}

fn part(name: &str, path: &str, sub_path: &str) -> Value {
    json!({"name": name, "mountPath": path, "subPath": sub_path})
}

#[test]
fn nothing_is_said_about_a_workload_that_is_right() {
    let volumes = json!([{"name": "v", "secret": {"secretName": "s"}}, {"name": "tmp", "emptyDir": {}}]);
    let web = deployment(json!([mount("v", "/v"), mount("tmp", "/tmp")]), volumes);
    let checked =
        check_manifests(&[web, secret("s", &[("user", "jane"), ("password", "correct horse")])], &["--strict"]);
    assert_eq!((checked.code, checked.rules()), (0, vec![]), "{}", checked.text);
}

#[test]
fn each_error_is_told_with_its_rule_and_an_exit_code_of_its_own() {
    let whole = || json!([mount("v", "/v")]);
    let of_secret = |source: Value| json!([{"name": "v", "secret": source}]);
    let two = |first: Value, second: Value| json!([{"name": "v", "projected": {"sources": [first, second]}}]);
    let item = |path: &str| json!({"secret": {"name": "s", "items": [{"key": "k", "path": path}]}});
    let also = |name: &str| json!([{"name": "v", "secret": {"secretName": "s"}}, {"name": name, "secret": {"secretName": "t"}}]);
    for (rule, mounts, volumes) in [
        ("missing-object", whole(), of_secret(json!({"secretName": "none"}))),
        ("missing-key", whole(), of_secret(json!({"secretName": "s", "items": [{"key": "none", "path": "p"}]}))),
        ("bad-name", whole(), of_secret(json!({"secretName": "A_B"}))),
        ("bad-path", whole(), of_secret(json!({"secretName": "s", "items": [{"key": "k", "path": "../p"}]}))),
        ("bad-mode", whole(), of_secret(json!({"secretName": "s", "defaultMode": 4096}))),
        ("conflicting-paths", whole(), two(item("a"), item("a/b"))),
        ("unknown-volume", json!([mount("none", "/v")]), json!([])),
        ("conflicting-mounts", json!([mount("v", "/v"), mount("w", "/v")]), also("w")),
        ("bad-mount-path", json!([mount("v", "/")]), of_secret(json!({"secretName": "s"}))),
        ("bad-subpath", json!([part("v", "/v", "../k")]), of_secret(json!({"secretName": "s"}))),
        ("bad-subpath", json!([part("v", "/v", "k/none")]), of_secret(json!({"secretName": "s"}))),
        ("mount-below-file", json!([part("v", "/v", "k"), mount("w", "/v/w")]), also("w")),
        ("missing-subpath", json!([mount("v", "/v"), mount("w", "/v/k"), part("v", "/p", "k")]), also("w")),
        ("missing-subpath", json!([part("v", "/v", "none")]), of_secret(json!({"secretName": "s"}))),
        ("file-on-directory", json!([mount("v", "/etc/app"), part("w", "/etc/app/extra", "k")]), also("w")),
    ] {
        let objects = [deployment(mounts, volumes), secret("s", &[("k", "1")]), secret("t", &[("k", "1")])];
        let checked = check_manifests(&objects, &[]);
        let finding = checked.one(rule);
        assert_eq!(
            (&finding["severity"], &finding["subject"]),
            (&json!("error"), &json!("default/deploy/web")),
            "{rule}"
        );
        let errors = checked.findings.iter().filter(|finding| finding["severity"] == "error").count();
        assert_eq!((errors, checked.code), (1, 9), "{rule}: {}", checked.text);
    }
    let generation = deployment(json!([part("v", "/v", "..data")]), of_secret(json!({"secretName": "s"})));
    assert_eq!(check_manifests(&[generation, secret("s", &[("k", "1")])], &[]).code, 0);
    let volumes = of_secret(json!({"secretName": "none", "optional": true}));
    assert_eq!(check_manifests(&[deployment(whole(), volumes)], &[]).code, 0);
}

#[test]
fn a_variable_that_needs_what_is_not_there_is_an_error() {
    let mut web = deployment(json!([]), json!([]));
    let from = |name: &str, key: &str, optional: bool| json!({"name": "V", "valueFrom": {"secretKeyRef": {"name": name, "key": key, "optional": optional}}});
    for (env, env_from, rule) in [
        (json!([from("s", "none", false)]), json!([]), Some("missing-key")),
        (json!([from("none", "k", false)]), json!([]), Some("missing-object")),
        (json!([from("s", "none", true), from("none", "k", true)]), json!([]), None),
        (json!([from("s", "k", false)]), json!([{"configMapRef": {"name": "none"}}]), Some("missing-object")),
        (json!([]), json!([{"secretRef": {"name": "s"}}, {"secretRef": {"name": "none", "optional": true}}]), None),
    ] {
        let container = &mut web["spec"]["template"]["spec"]["containers"][0];
        (container["env"], container["envFrom"]) = (env, env_from);
        let checked = check_manifests(&[web.clone(), secret("s", &[("k", "1")])], &[]);
        assert_eq!(checked.rules(), rule.into_iter().collect::<Vec<_>>(), "{}", checked.text);
        assert_eq!(checked.code, if rule.is_some() { 9 } else { 0 });
    }
}

#[test]
fn what_looks_like_a_mistake_is_a_warning_that_shows_no_value() {
    let values = [("user", "planted-user"), ("password", "planted-password\n"), ("twice", "cGxhbnRlZC10d2ljZQ==")];
    let sources =
        json!([{"secret": {"name": "s"}}, {"secret": {"name": "s", "items": [{"key": "user", "path": "user"}]}}]);
    let volumes = json!([
        {"name": "v", "projected": {"sources": sources}},
        {"name": "w", "secret": {"secretName": "s"}},
    ]);
    let mounts = json!([mount("v", "/v"), mount("w", "/v/user"), part("w", "/one", "user")]);
    let objects = [deployment(mounts, volumes), secret("s", &values)];
    let checked = check_manifests(&objects, &[]);
    assert_eq!(checked.code, 0, "{}", checked.text);
    for (rule, subject) in [
        ("odd-newline", "default/secret/s"),
        ("encoded-twice", "default/secret/s"),
        ("path-twice", "default/deploy/web"),
        ("hidden-key", "default/deploy/web"),
        ("subpath-never-updated", "default/deploy/web"),
    ] {
        let finding = checked.one(rule);
        assert_eq!((&finding["severity"], &finding["subject"]), (&json!("warning"), &json!(subject)), "{rule}");
    }
    assert_eq!(checked.findings.len(), 5, "{}", checked.text);
    assert!(checked.one("odd-newline")["message"].as_str().is_some_and(|text| text.contains("\"password\"")));
    let strict = check_manifests(&objects, &["--strict"]);
    assert_eq!(strict.code, 9);
    for planted in values.iter().map(|(_, value)| value.trim()).chain(["planted-twice"]) {
        assert!(!checked.text.contains(planted), "{}", checked.text);
        assert!(!checked.text.contains(&BASE64_STANDARD.encode(planted)), "{}", checked.text);
    }
}

#[test]
fn what_cannot_be_checked_is_named() {
    let certificate = json!({"podCertificate": {"signerName": "example.com/s", "keyType": "ED25519"}});
    let volumes = json!([
        {"name": "host", "hostPath": {"path": "/etc"}},
        {"name": "cert", "projected": {"sources": [certificate, {"secret": {"name": "none"}}]}},
    ]);
    let checked = check_manifests(&[deployment(json!([mount("host", "/h"), mount("cert", "/c")]), volumes)], &[]);
    let notes = checked.findings.iter().filter(|finding| finding["severity"] == "note");
    let volumes: Vec<&Value> = notes.map(|finding| &finding["volume"]).collect();
    assert_eq!(volumes, ["cert", "host"], "{}", checked.text);
    // The rest of the volume is checked all the same.
    assert_eq!(checked.one("missing-object")["object"], "default/secret/none");
}

#[test]
fn a_line_for_each_finding_and_all_of_a_manifest_from_standard_input() {
    let volumes = json!([{"name": "v", "secret": {"secretName": "none"}}]);
    let objects = [deployment(json!([mount("v", "/v")]), volumes), secret("unused", &[("k", "1\n")])];
    let dir = tempdir();
    let path = write(&dir, &objects);
    let mut command = secretfs();
    command.args(["check", "-f", "-"]).stdin(std::fs::File::open(path).expect("open"));
    let output = run(&mut command);
    let lines = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = lines.lines().collect();
    let expected = [
        "error default/deploy/web volume v: default/secret/none does not exist: create it, or mark the reference to it as optional",
        "warning default/secret/unused: the value of \"k\" ends in a newline",
    ];
    assert_eq!(lines.len(), 2, "{}", said(&output));
    assert!(lines.iter().zip(expected).all(|(line, expected)| line.starts_with(expected)), "{}", said(&output));
    assert_eq!(output.status.code(), Some(9));
    assert!(String::from_utf8_lossy(&output.stderr).contains("errors: 1, warnings: 1"));

    let (code, said) = crate::support::fail(secretfs().args(["check", "--kubelet-dir", "/nonexistent", "node/n1"]));
    assert!(code == 3 && said.contains("--kubelet-dir /nonexistent"), "{said}");
}

/// A pod `web` with one projected volume `v` of a Secret, a ConfigMap and a token.
fn pod(namespace: &str, name: &str) -> Value {
    let token = json!({"serviceAccountToken": {"path": "token", "audience": "vault"}});
    let sources = json!([{"secret": {"name": "s"}}, {"configMap": {"name": "c"}}, token]);
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "nodeName": namespace, "serviceAccountName": "web", "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [{"name": "v", "projected": {"sources": sources}}],
        },
    })
}

/// What that pod needs.
fn make(namespace: &Namespace, api: &Api) {
    let ns = namespace.name.as_str();
    let in_namespace = |mut object: Value| {
        object["metadata"]["namespace"] = json!(ns);
        object
    };
    api.create(&in_namespace(secret("s", &[("password", "old")])));
    for (kind, name) in [("ConfigMap", "c"), ("ServiceAccount", "web")] {
        api.create(&in_namespace(json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}})));
    }
}

#[test]
fn a_live_pod_is_checked_with_the_rights_of_the_caller() {
    let namespace = namespace();
    let (ns, api) = (namespace.name.as_str(), Api::of(namespace.cluster));
    make(&namespace, &api);
    api.create(&pod(ns, "web"));
    let admin = namespace.cluster.kubeconfig();
    let args = ["-n", ns, "pod/web"];
    let good = check(Some(&admin), &args);
    assert_eq!((good.code, good.rules()), (0, vec![]), "{}", good.text);

    // Somebody who may read the pod, and its Secret without watching it.
    let (user, dir) = (namespace.user(), tempdir());
    let theirs = dir.path().join("kubeconfig");
    std::fs::write(&theirs, kubeconfig(&[namespace.context_of(&user)])).expect("write");
    namespace.allow(&user, "get", &["s"]);
    namespace.kubectl(&["create", "role", "pods", "--verb=get,watch", "--resource=pods"]);
    namespace.kubectl(&["create", "rolebinding", "pods", "--role=pods", &format!("--user={user}")]);
    let seen = crate::support::wait_for("the rights", || {
        let output = run(secretfs().env("KUBECONFIG", &theirs).args(["check", "-o", "json"]).args(args));
        (output.status.code() == Some(9)).then(|| check(Some(&theirs), &args))
    });
    assert_eq!(seen.one("not-readable")["volume"], "v", "{}", seen.text);
    let rights: Vec<&str> = seen
        .findings
        .iter()
        .filter(|finding| finding["rule"] == "missing-right")
        .map(|finding| finding["message"].as_str().expect("a message"))
        .collect();
    let expected = ["create serviceaccounts/token web", "watch configmaps c", "watch secrets s"];
    assert_eq!(rights.len(), expected.len(), "{}", seen.text);
    assert!(
        rights.iter().zip(expected).all(|(right, part)| right.starts_with(&format!("you may not {part} in"))),
        "{rights:?}"
    );

    // An immutable object that was made anew after the pod.
    let mut again = secret("s", &[("password", "new")]);
    (again["metadata"]["namespace"], again["immutable"]) = (json!(ns), json!(true));
    crate::support::wait_until("a later second", || {
        api.delete(&again);
        api.create(&again);
        check(Some(&admin), &args).rules() == ["immutable-recreated"]
    });

    // A workload's account is missing.
    let mut web = deployment(json!([]), json!([]));
    web["metadata"]["namespace"] = json!(ns);
    web["spec"]["template"]["spec"]["serviceAccountName"] = json!("nobody");
    web["spec"]["template"]["spec"]["automountServiceAccountToken"] = json!(false);
    api.create(&web);
    let checked = check(Some(&admin), &["-n", ns, "deploy/web"]);
    assert_eq!(checked.one("missing-object")["object"], json!(format!("{ns}/sa/nobody")));
}

#[test]
fn on_the_node_it_tells_which_pods_still_see_old_content_and_since_when() {
    let namespace = namespace();
    let (ns, api) = (namespace.name.as_str(), Api::of(namespace.cluster));
    make(&namespace, &api);
    let referee = Referee::start(namespace.cluster);
    api.create(&pod(ns, "web"));
    let volume = referee.set_up(api.get(&pod(ns, "web")));
    // ROOT/pods/UID/volumes/PLUGIN/NAME
    let kubelet = volume.root.ancestors().nth(5).expect("the kubelet's root").to_owned();
    let node = format!("node/{ns}");
    let on_node =
        || check(Some(&namespace.cluster.kubeconfig()), &[&node, "--kubelet-dir", kubelet.to_str().expect("UTF-8")]);
    let fresh = on_node();
    assert_eq!((fresh.code, fresh.rules()), (0, vec![]), "{}", fresh.text);

    let mut new = secret("s", &[("password", "planted-new"), ("user", "planted-user")]);
    new["metadata"]["namespace"] = json!(ns);
    api.replace(&new);
    let old = on_node();
    let stale = old.one("stale");
    assert_eq!((&stale["subject"], &stale["volume"], old.code), (&json!(format!("{ns}/pod/web")), &json!("v"), 9));
    let since: k8s_openapi::jiff::Timestamp = stale["since"].as_str().expect("a time").parse().expect("RFC 3339");
    let written = std::fs::symlink_metadata(volume.root.join("..data")).expect("..data").modified().expect("a time");
    let written = written.duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    assert_eq!(u64::try_from(since.as_second()), Ok(written));
    assert!(
        stale["message"].as_str().is_some_and(|text| text.contains("\"password\", \"user\" differ")),
        "{}",
        old.text
    );
    assert!(!old.text.contains("planted"), "{}", old.text);
    volume.refresh();
    assert_eq!(on_node().rules(), Vec::<&str>::new());
    // A key that is gone.
    let mut less = secret("s", &[("password", "planted-new")]);
    less["metadata"]["namespace"] = json!(ns);
    api.replace(&less);
    let old = on_node();
    assert!(
        old.one("stale")["message"].as_str().is_some_and(|text| text.contains(": \"user\" differ")),
        "{}",
        old.text
    );
    volume.refresh();
    assert_eq!(on_node().rules(), Vec::<&str>::new());

    // Another pod, whose volumes nobody has set up.
    api.create(&pod(ns, "late"));
    let late = on_node();
    assert_eq!(
        (late.rules(), &late.findings[0]["subject"]),
        (vec!["volume-missing"], &json!(format!("{ns}/pod/late")))
    );
    // A token that is none.
    api.delete(&pod(ns, "late"));
    std::fs::write(volume.root.join("token"), "old").expect("write");
    assert_eq!(on_node().rules(), ["token-expired"]);
}
