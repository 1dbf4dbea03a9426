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
    stage.api.create(&secret(namespace, "s", "v"));
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
    stage.api.create(&secret(namespace, "s", "v"));
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
    stage.api.create(&secret(namespace, "s", "v"));
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

/// What `secretfs status` prints below the row of a mount.
fn remarks(mount: &Mount) -> Vec<String> {
    let told = succeed(secretfs().arg("status"));
    let mut lines = told.lines().skip_while(|line| line.split_whitespace().next() != mount.dir.to_str());
    assert!(lines.next().is_some(), "{told}");
    lines.take_while(|line| line.starts_with("  ")).map(|line| line.trim_start().to_owned()).collect()
}

#[test]
fn status_names_what_a_pod_lacks_until_it_is_there() {
    let stage = Stage::new();
    let namespace = &stage.namespace.name;
    let mut pod = pod(&stage, "p", "s");
    pod["spec"]["volumes"].as_array_mut().expect("volumes").extend([
        json!({"name": "scratch", "emptyDir": {}}),
        json!({"name": "key", "configMap": {"name": "c", "items": [{"key": "absent", "path": "k"}]}}),
    ]);
    pod["spec"]["containers"][0]["volumeMounts"].as_array_mut().expect("mounts").extend([
        json!({"name": "scratch", "mountPath": "/tmp"}),
        json!({"name": "key", "mountPath": "/etc/key"}),
        json!({"name": "key", "mountPath": "/etc/sub", "subPathExpr": "$(VARIABLE)"}),
    ]);
    pod["spec"]["containers"][0]["env"] = json!([
        {"name": "VARIABLE", "valueFrom": {"configMapKeyRef": {"name": "variables", "key": "k"}}},
    ]);
    let config_map = |name: &str, key: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": namespace, "name": name},
            "data": {key: "the-value"},
        })
    };
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace, "name": "s"},
        "stringData": {"k": "the-value"},
    });
    stage.api.create(&config_map("c", "present"));
    stage.api.create(&pod);
    let dir = tempdir();
    let kubeconfig = stage.namespace.cluster.kubeconfig();
    let args = ["--kubeconfig", kubeconfig.to_str().expect("UTF-8"), "-n", namespace, "pod/p"];
    let mount = Mount::new(&args, dir.path());
    let missing = |object: &str, then: &str| {
        format!("{namespace}/{object} does not exist: create it, or mark the reference to it as optional{then}")
    };
    let key =
        format!("{namespace}/cm/c has no key \"absent\": add it, or mark the reference to it as optional; it is empty");
    let whose = format!("{namespace}/p");
    let no_secret = json!({"pod": whose, "volume": "s", "reason": missing("secret/s", "; it is empty")});
    let no_key = json!({"pod": whose, "volume": "key", "reason": key});
    let no_variable = json!({"pod": whose, "container": "c", "reason": missing("cm/variables", "")});
    let status = mount.status();
    assert_eq!(status["problems"], json!([no_key, no_secret, no_variable]));
    assert_eq!(status["shown_empty"], json!({"emptyDir": 1}));
    assert_eq!(
        remarks(&mount),
        [
            format!("{whose}: volume key: {key}"),
            format!("{whose}: volume s: {}", missing("secret/s", "; it is empty")),
            format!("{whose}: container c: {}", missing("cm/variables", "")),
            "shown as empty directories, as no API server has their files: emptyDir (1)".to_owned(),
        ]
    );

    // What is mended is not named any more.
    let problems = |expected: Value| {
        wait_until(&expected.to_string(), || mount.status()["problems"] == expected);
    };
    stage.api.create(&secret);
    problems(json!([no_key, no_variable]));
    stage.api.create(&config_map("variables", "k"));
    problems(json!([no_key]));
    stage.api.replace(&config_map("c", "absent"));
    problems(json!([]));
    assert_eq!(text(&mount.path("c/etc/s/k")), "the-value");

    // What cannot be refreshed stays, and is named.
    stage.api.delete(&secret);
    let stuck = json!({"pod": whose, "volume": "s", "reason": missing("secret/s", "; it keeps what it shows")});
    problems(json!([stuck]));
    assert_eq!(text(&mount.path("c/etc/s/k")), "the-value");
    assert!(!succeed(secretfs().args(["status", "-o", "json"])).contains("the-value"));
    // A pod that is gone lacks nothing.
    stage.api.delete(&pod);
    problems(json!([]));
    assert_eq!(mount.status()["shown_empty"], json!({}));
    mount.end();
}

#[test]
fn of_many_problems_status_prints_ten_and_counts_the_others() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("view");
    let names: Vec<String> = (10..22).map(|number| format!("v{number}")).collect();
    let volumes: Vec<Value> =
        names.iter().map(|name| json!({"name": name, "secret": {"secretName": "none"}})).collect();
    let mounts: Vec<Value> = names.iter().map(|name| json!({"name": name, "mountPath": format!("/{name}")})).collect();
    let mut pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": template_spec("s", None)});
    pod["spec"]["volumes"] = json!(volumes);
    pod["spec"]["containers"][0]["volumeMounts"] = json!(mounts);
    sandbox.write("all.yaml", pod.to_string());
    succeed(&mut sandbox.bash("secretfs mount -f all.yaml pod/p ./view"));
    let mount = Mount::of(&sandbox.path("view"));
    let remarks = remarks(&mount);
    assert_eq!(remarks.len(), 11, "{remarks:#?}");
    assert!(remarks[9].starts_with("default/p: volume v19: default/secret/none does not exist"), "{remarks:#?}");
    assert_eq!(remarks[10], "and 2 more: secretfs status -o json");
    assert_eq!(mount.status()["problems"].as_array().expect("a list").len(), 12);
    succeed(&mut sandbox.bash("secretfs umount ./view"));
}

#[test]
fn with_strict_updates_a_change_shows_when_the_kubelet_would_look_at_the_pod() {
    let stage = Stage::new();
    let namespace = &stage.namespace.name;
    let secret = |value: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace, "name": "s"},
            "stringData": {"k": value},
        })
    };
    stage.api.create(&secret("one"));
    let pod = pod(&stage, "p", "s");
    stage.api.create(&pod);
    let kubeconfig = stage.namespace.cluster.kubeconfig();
    let mount = |args: &[&str], dir: &tempfile::TempDir| {
        let cluster = ["--kubeconfig", kubeconfig.to_str().expect("UTF-8"), "-n", namespace];
        Mount::new(&[&cluster, args].concat(), dir.path())
    };
    let dirs = [tempdir(), tempdir(), tempdir()];
    let of_namespace = format!("ns/{namespace}");
    let late = mount(&["--strict-kubelet=subpath,updates", "pod/p"], &dirs[0]);
    let both = mount(&["--strict-kubelet", "--kinds", "secrets,pods", &of_namespace], &dirs[1]);
    let at_once = mount(&["--strict-kubelet=subpath", "pod/p"], &dirs[2]);
    let key = "c/etc/s/k";
    let in_pods = format!("pods/p/{key}");
    let shows = |mount: &Mount, path: &str, value: &str| text(&mount.path(path)) == value;
    for (mount, path) in [(&late, key), (&both, &in_pods), (&both, "secrets/s/k"), (&at_once, key)] {
        assert!(shows(mount, path, "one"), "{path}");
    }

    stage.api.replace(&secret("two"));
    wait_until("the update where it shows at once", || shows(&at_once, key, "two"));
    // An object by itself has no pod that would be synced. Where it shows, the pod that needs it has been looked at before.
    wait_until("the update of the object", || shows(&both, "secrets/s/k", "two"));
    assert!(shows(&both, &in_pods, "one") && shows(&late, key, "one"));
    stage.api.merge(&pod, &json!({"metadata": {"labels": {"changed": "yes"}}}));
    wait_until("the update where the pod has changed", || shows(&late, key, "two") && shows(&both, &in_pods, "two"));
    [late, both, at_once].into_iter().for_each(Mount::end);
}

/// The names in a directory, but not those of the kubelet's layout; in order.
fn names(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with(".."));
    names.sort();
    names
}

/// The object with this label.
fn labelled(mut object: Value, label: Option<&str>) -> Value {
    object["metadata"]["labels"] = json!({"app": label});
    object
}

fn secret(namespace: &str, name: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace, "name": name},
        "stringData": {"k": value},
    })
}

#[test]
fn a_secret_that_is_made_later_comes_to_the_pods_of_a_namespaces_view() {
    let stage = Stage::new();
    let namespace = &stage.namespace.name;
    stage.api.create(&pod(&stage, "p", "s"));
    let dir = tempdir();
    let kubeconfig = stage.namespace.cluster.kubeconfig();
    let source = format!("ns/{namespace}");
    let args = ["--kubeconfig", kubeconfig.to_str().expect("UTF-8"), "--kinds", "secrets,pods", &source];
    let mount = Mount::new(&args, dir.path());
    assert_eq!(names(&mount.path("pods/p/c/etc/s")), [] as [&str; 0]);
    stage.api.create(&secret(namespace, "s", "one"));
    wait_until("the Secret in the pod", || text(&mount.path("pods/p/c/etc/s/k")) == "one");
    stage.api.delete(&secret(namespace, "s", ""));
    wait_until("the end of the Secret", || !mount.path("secrets/s").exists());
    stage.api.create(&secret(namespace, "s", "two"));
    wait_until("the new Secret in the pod", || text(&mount.path("pods/p/c/etc/s/k")) == "two");
    mount.end();
}

/// A selector chooses what is shown. What a shown pod needs it needs in any case.
#[test]
fn a_selector_chooses_pods_and_not_what_they_need() {
    let stage = Stage::new();
    let namespace = &stage.namespace.name;
    let label = |object: Value| labelled(object, Some("web"));
    stage.api.create(&secret(namespace, "unlabelled", "one"));
    stage.api.create(&label(secret(namespace, "labelled", "v")));
    stage.api.create(&label(pod(&stage, "shown", "unlabelled")));
    stage.api.create(&label(pod(&stage, "later", "later")));
    stage.api.create(&pod(&stage, "hidden", "unlabelled"));
    let kubeconfig = stage.namespace.cluster.kubeconfig();
    let source = format!("ns/{namespace}");
    let dirs = [tempdir(), tempdir()];
    let of = |source: &[&str], dir: &tempfile::TempDir| {
        let args = ["--kubeconfig", kubeconfig.to_str().expect("UTF-8"), "-l", "app=web", "--kinds", "secrets,pods"];
        Mount::new(&[&args, source].concat(), dir.path())
    };
    let one = of(&[&source], &dirs[0]);
    let all = of(&[], &dirs[1]);
    let paths = [(&one, String::new()), (&all, format!("{namespace}/"))];
    let at = |path: &str| paths.each_ref().map(|(mount, prefix)| mount.path(&format!("{prefix}{path}")));
    let everywhere = |what: &str, is: &dyn Fn(&std::path::Path) -> bool, path: &str| {
        wait_until(what, || at(path).iter().all(|path| is(path)));
    };
    let says = |value: &'static str| move |path: &std::path::Path| text(path) == value;
    let lists = |expected: &'static [&'static str]| move |dir: &std::path::Path| names(dir) == expected;
    let there = |path: &str| at(path).iter().all(|path| path.exists());
    for path in at("pods") {
        assert_eq!(names(&path), ["later", "shown"]);
    }
    for path in at("pods/shown/c/etc/s/k") {
        assert_eq!(text(&path), "one");
    }
    let list_of_secrets = |expected: &[&str]| {
        for path in at("secrets") {
            assert_eq!(names(&path), expected);
        }
    };
    list_of_secrets(&["labelled"]);
    assert!(!at("secrets/unlabelled").iter().any(|path| path.exists()));
    assert!(!at("pods/hidden").iter().any(|path| path.exists()));

    // It is followed: changed, made later, gone and back.
    stage.api.replace(&secret(namespace, "unlabelled", "two"));
    everywhere("the change", &says("two"), "pods/shown/c/etc/s/k");
    assert!(at("pods/later/c/etc/s").iter().all(|path| names(path).is_empty()));
    stage.api.create(&secret(namespace, "later", "made"));
    everywhere("what was made later", &says("made"), "pods/later/c/etc/s/k");
    list_of_secrets(&["labelled"]);
    stage.api.delete(&secret(namespace, "later", ""));
    stage.api.create(&secret(namespace, "later", "again"));
    everywhere("what was made again", &says("again"), "pods/later/c/etc/s/k");
    list_of_secrets(&["labelled"]);

    // The label decides about the list, and about nothing else.
    let set = |label: Option<&str>| {
        stage.api.merge(&secret(namespace, "unlabelled", ""), &json!({"metadata": {"labels": {"app": label}}}));
    };
    set(Some("web"));
    everywhere("it in the list", &lists(&["labelled", "unlabelled"]), "secrets");
    everywhere("its content", &says("two"), "secrets/unlabelled/k");
    set(None);
    everywhere("it off the list", &lists(&["labelled"]), "secrets");
    assert!(there("pods/shown/c/etc/s/k"));
    stage.api.replace(&secret(namespace, "unlabelled", "three"));
    everywhere("its change", &says("three"), "pods/shown/c/etc/s/k");
    stage.api.merge(&pod(&stage, "hidden", ""), &json!({"metadata": {"labels": {"app": "web"}}}));
    everywhere("the other pod", &lists(&["hidden", "later", "shown"]), "pods");
    everywhere("its Secret", &says("three"), "pods/hidden/c/etc/s/k");
    for (mount, _) in &paths {
        assert_eq!(mount.status()["problems"], json!([]));
    }
    one.end();
    all.end();
}

#[test]
fn a_selector_chooses_the_pods_of_a_node() {
    let stage = Stage::new();
    let namespace = &stage.namespace.name;
    let marked = |object| labelled(object, Some(namespace));
    stage.api.create(&secret(namespace, "s", "v"));
    stage.api.create(&marked(pod(&stage, "shown", "s")));
    stage.api.create(&pod(&stage, "hidden", "s"));
    let dir = tempdir();
    let kubeconfig = stage.namespace.cluster.kubeconfig();
    let args = ["--kubeconfig", kubeconfig.to_str().expect("UTF-8"), "-l", &format!("app={namespace}"), "node/n1"];
    let mount = Mount::new(&args, dir.path());
    assert_eq!(names(&mount.path("")), [namespace.as_str()]);
    assert_eq!(names(&mount.path(namespace)), ["shown"]);
    assert_eq!(text(&mount.path(&format!("{namespace}/shown/c/etc/s/k"))), "v");
    let label = |name: &str, label: Option<&str>| {
        stage.api.merge(&pod(&stage, name, ""), &json!({"metadata": {"labels": {"app": label}}}));
    };
    label("hidden", Some(namespace));
    wait_until("the other pod", || names(&mount.path(namespace)) == ["hidden", "shown"]);
    label("shown", None);
    wait_until("the end of the first", || names(&mount.path(namespace)) == ["hidden"]);
    assert_eq!(text(&mount.path(&format!("{namespace}/hidden/c/etc/s/k"))), "v");
    mount.end();
}

#[test]
fn in_manifests_too_a_selector_chooses_pods_and_not_what_they_need() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("view");
    sandbox.mkdir("node");
    let metadata = |name: &str, label: Option<&str>| json!({"name": name, "labels": {"app": label.unwrap_or("other")}});
    let write = |label: Option<&str>, value: &str| {
        let documents = [
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata("s", label), "stringData": {"k": value}}),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata("t", Some("web")), "stringData": {"k": "t"}}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata("p", Some("web")), "spec": template_spec("s", Some("n1"))}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata("q", None), "spec": template_spec("s", Some("n1"))}),
        ];
        sandbox.write("new", documents.map(|document| document.to_string()).join("\n---\n"));
        std::fs::rename(sandbox.path("new"), sandbox.path("all.yaml")).expect("rename");
    };
    write(None, "one");
    succeed(&mut sandbox.bash("secretfs mount -f all.yaml -l app=web --kinds secrets,pods ns/default ./view"));
    succeed(&mut sandbox.bash("secretfs mount -f all.yaml -l app=web node/n1 ./node"));
    let (view, node) = (sandbox.path("view"), sandbox.path("node"));
    let shows = |pods: &[&str], secrets: &[&str], value: &str| {
        (names(&view.join("pods")), names(&view.join("secrets")))
            == (
                pods.iter().map(|name| (*name).to_owned()).collect(),
                secrets.iter().map(|name| (*name).to_owned()).collect(),
            )
            && text(&view.join("pods/p/c/etc/s/k")) == value
    };
    assert!(shows(&["p"], &["t"], "one"));
    assert_eq!(names(&node.join("default")), ["p"]);
    write(Some("web"), "two");
    wait_until("it in the list", || shows(&["p"], &["s", "t"], "two"));
    assert_eq!(text(&view.join("secrets/s/k")), "two");
    write(None, "three");
    wait_until("it off the list", || shows(&["p"], &["t"], "three"));
    succeed(&mut sandbox.bash("secretfs umount ./view && secretfs umount ./node"));
}
