//! What the user types and sees of pods, workloads and nodes.

use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use super::stage::Stage;
use crate::support::events::Watch;
use crate::support::mount::Mount;
use crate::support::sandbox::Sandbox;
use crate::support::{run, said, secretfs, succeed, tempdir, wait_until};

const SECRET: &str = include_str!("../../examples/example-secret.yaml");
const POD: &str = include_str!("../../examples/example-pod.yaml");
const PAYLOAD: &str = "some-base64-encoded-payload";
const KEY: &str = "awebserver/tmp/mysec/my-super-secret-key";

/// A pod with one Secret in one container, on the node `n1`.
fn pod(stage: &Stage, name: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": stage.namespace.name, "name": name},
        "spec": template_spec(secret, Some("n1")),
    })
}

fn template_spec(secret: &str, node: Option<&str>) -> Value {
    json!({
        "nodeName": node, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "s", "mountPath": "/etc/s"}]}],
        "volumes": [{"name": "s", "secret": {"secretName": secret}}],
    })
}

fn text(path: &std::path::Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| error.to_string())
}

#[test]
fn the_pod_that_must_work_to_the_letter() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("view");
    sandbox.write("all.yaml", format!("{SECRET}\n---\n{POD}"));
    // As a manifest.
    succeed(&mut sandbox.bash("secretfs mount -f all.yaml pod/secretstest ./view"));
    assert_eq!(succeed(&mut sandbox.bash(&format!("cat ./view/{KEY}"))), PAYLOAD);
    succeed(&mut sandbox.bash("secretfs umount ./view"));
    assert_eq!(succeed(&mut sandbox.bash(&format!("secretfs cat -f all.yaml pod/secretstest/{KEY}"))), PAYLOAD);
    assert_eq!(succeed(&mut sandbox.bash("secretfs ls -f all.yaml pod/secretstest")), "awebserver\n");
    let tree = succeed(&mut sandbox.bash("secretfs tree -f all.yaml pod/secretstest"));
    assert!(tree.contains("my-super-secret-key (27 bytes)") && !tree.contains(PAYLOAD), "{tree}");

    // In the API server.
    let stage = Stage::new();
    let namespace = &stage.namespace.name;
    let apply = format!("kubectl -n {namespace} apply -f all.yaml");
    let with = |script: &str| {
        let mut command = sandbox.bash(script);
        command.env("KUBECONFIG", stage.namespace.cluster.kubeconfig());
        command
    };
    let output =
        run(stage.namespace.cluster.kubectl().args(["-n", namespace, "apply", "-f"]).arg(sandbox.path("all.yaml")));
    assert!(output.status.success(), "{apply}: {}", said(&output));
    succeed(&mut with(&format!("secretfs mount -n {namespace} pod/secretstest ./view")));
    assert_eq!(succeed(&mut with(&format!("cat ./view/{KEY}"))), PAYLOAD);
    let mut watch = Watch::new(&sandbox.path("view/awebserver/tmp/mysec"));
    stage.api.merge(
        &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace, "name": "mysecret"}}),
        &json!({"stringData": {"my-super-secret-key": "another payload"}}),
    );
    watch.wait_for("MOVED_TO ..data");
    assert_eq!(succeed(&mut with(&format!("cat ./view/{KEY}"))), "another payload");
    succeed(&mut with("secretfs umount ./view"));
}

#[test]
fn a_workload_from_standard_input_needs_no_cluster() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("view");
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"template": {"metadata": {"labels": {"app": "web"}}, "spec": template_spec("mysecret", None)}},
    });
    sandbox.write("all.yaml", format!("{SECRET}\n---\n{deployment}"));
    succeed(&mut sandbox.bash("cat all.yaml | secretfs mount -f - deploy/web ./view"));
    assert_eq!(succeed(&mut sandbox.bash("cat ./view/c/etc/s/my-super-secret-key")), PAYLOAD);
    succeed(&mut sandbox.bash("secretfs umount ./view"));
}

#[test]
fn a_rollout_changes_the_view_of_its_workload() {
    let stage = Stage::new();
    let namespace = &stage.namespace.name;
    for name in ["one", "two"] {
        stage.api.create(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace, "name": name},
            "stringData": {"k": name},
        }));
    }
    let deployment = |secret: &str| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": namespace, "name": "web"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": template_spec(secret, None)},
            },
        })
    };
    stage.api.create(&deployment("one"));
    let dir = tempdir();
    let kubeconfig = stage.namespace.cluster.kubeconfig();
    let args = ["--kubeconfig", kubeconfig.to_str().expect("UTF-8"), "-n", namespace, "deploy/web"];
    let mount = Mount::new(&args, dir.path());
    assert_eq!(text(&mount.path("c/etc/s/k")), "one");
    stage.api.merge(&deployment("two"), &deployment("two"));
    wait_until("the new template's Secret", || text(&mount.path("c/etc/s/k")) == "two");
    stage.api.delete(&deployment("two"));
    wait_until("an empty view", || std::fs::read_dir(mount.path("")).expect("readdir").count() == 0);
    stage.api.create(&deployment("one"));
    wait_until("the old one again", || text(&mount.path("c/etc/s/k")) == "one");
    mount.end();
}

/// New pods get new volumes: modes that no update of content brings.
#[test]
fn what_a_rollout_sets_up_anew_is_shown_anew_and_nothing_else() {
    let stage = Stage::new();
    let namespace = &stage.namespace.name;
    stage.api.create(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace, "name": "s"}, "stringData": {"k": "v"},
    }));
    let volume = |name: &str, mode: u32| json!({"name": name, "secret": {"secretName": "s", "defaultMode": mode}});
    let mount_of = |name: &str| json!({"name": name, "mountPath": format!("/{name}")});
    let spec = |image: &str, mode: u32, fs_group: Option<u32>| {
        json!({
            "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
            "securityContext": {"fsGroup": fs_group},
            "containers": [{"name": "c", "image": image, "volumeMounts": [mount_of("stays"), mount_of("changes")]}],
            "volumes": [volume("stays", 0o644), volume("changes", mode)],
        })
    };
    let deployment = |spec: Value| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": namespace, "name": "web"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": spec},
            },
        })
    };
    let pod = |spec: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace, "name": "web-0"}, "spec": spec});
    let kubeconfig = stage.namespace.cluster.kubeconfig();
    let mounted = |source: &str, dir: &std::path::Path| {
        Mount::new(
            &["--kubeconfig", kubeconfig.to_str().expect("UTF-8"), "--owner", "kubelet", "-n", namespace, source],
            dir,
        )
    };
    let stat = |path: &std::path::Path| {
        std::fs::metadata(path).map(|found| (found.mode() & 0o7777, found.gid())).map_err(|error| error.kind())
    };

    stage.api.create(&deployment(spec("one", 0o644, None)));
    let dir = tempdir();
    let mount = mounted("deploy/web", dir.path());
    let key = |name: &str| mount.path(&format!("c/{name}/k"));
    assert_eq!(stat(&key("changes")), Ok((0o644, 0)));
    let mut watch = Watch::new(&mount.path("c/stays"));
    let apply = |spec: Value| stage.api.merge(&deployment(spec.clone()), &deployment(spec));
    apply(spec("two", 0o400, None));
    wait_until("the new mode", || stat(&key("changes")) == Ok((0o400, 0)));
    assert_eq!((text(&key("changes")), text(&key("stays"))), ("v".into(), "v".into()));
    assert_eq!(watch.seen(), [""; 0]);
    apply(spec("three", 0o400, Some(2000)));
    wait_until("the group", || stat(&key("changes")) == Ok((0o440, 2000)) && stat(&key("stays")) == Ok((0o644, 2000)));
    watch.wait_for("DELETE_SELF");
    mount.end();

    stage.api.create(&pod(spec("one", 0o644, None)));
    let mount = mounted("pod/web-0", dir.path());
    let key = |name: &str| mount.path(&format!("c/{name}/k"));
    assert_eq!(stat(&key("changes")), Ok((0o644, 0)));
    stage.api.ensure_gone(&pod(Value::Null));
    stage.api.create(&pod(spec("one", 0o400, None)));
    wait_until("the other pod's mode", || stat(&key("changes")) == Ok((0o400, 0)));
    assert_eq!(stat(&key("stays")), Ok((0o644, 0)));
    mount.end();
}

#[test]
fn pods_come_and_go_on_a_node_with_the_rights_of_its_kubelet() {
    let stage = Stage::new();
    let namespace = &stage.namespace.name;
    stage.api.create(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace, "name": "s"}, "stringData": {"k": "v"},
    }));
    stage.api.create(&pod(&stage, "first", "s"));
    let dir = tempdir();
    let kubeconfig = stage.namespace.cluster.kubeconfig();
    let args =
        ["--kubeconfig", kubeconfig.to_str().expect("UTF-8"), "--as", "system:node:n1", "--as-group", "system:nodes"];
    let mount = Mount::new(&[&args[..], &["node/n1"]].concat(), dir.path());
    let key = |pod: &str| mount.path(&format!("{namespace}/{pod}/c/etc/s/k"));
    assert_eq!(text(&key("first")), "v");
    stage.api.create(&pod(&stage, "second", "s"));
    wait_until("the second pod", || text(&key("second")) == "v");
    stage.api.delete(&pod(&stage, "first", "s"));
    wait_until("the end of the first", || !mount.path(&format!("{namespace}/first")).exists());
    assert_eq!(text(&key("second")), "v");
    let secrets_listed = stage.namespace.cluster.audit(|event| {
        event["impersonatedUser"]["username"] == "system:node:n1"
            && event["verb"] == "list"
            && event["objectRef"]["resource"] == "secrets"
    });
    assert!(secrets_listed.is_empty(), "{secrets_listed:?}");
    mount.end();
}

#[test]
fn pods_are_a_kind_of_a_namespaces_view() {
    let stage = Stage::new();
    let namespace = &stage.namespace.name;
    stage.api.create(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace, "name": "s"}, "stringData": {"k": "v"},
    }));
    stage.api.create(&pod(&stage, "p", "s"));
    let dir = tempdir();
    let kubeconfig = stage.namespace.cluster.kubeconfig();
    let source = format!("ns/{namespace}");
    let args = ["--kubeconfig", kubeconfig.to_str().expect("UTF-8"), "--kinds", "secrets,pods", &source];
    let mount = Mount::new(&args, dir.path());
    assert_eq!(text(&mount.path("pods/p/c/etc/s/k")), "v");
    assert_eq!(text(&mount.path("secrets/s/k")), "v");
    mount.end();
    let mut wrong = secretfs();
    let output = run(wrong.args(["mount", "--kinds", "nodes", "."]));
    assert!(!output.status.success() && said(&output).contains("no kind to show"), "{}", said(&output));
}
