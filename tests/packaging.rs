//! packaging/, as far as it can be told without building packages: `packaging/test` builds and uses them.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::cluster::{Namespace, namespace};
use crate::support::kubeconfig::{Context, kubeconfig};
use crate::support::sandbox::Sandbox;
use crate::support::{run, said, succeed, wait_for};

const PACKAGING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging");
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[track_caller]
fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

#[track_caller]
fn file(name: &str) -> String {
    std::fs::read_to_string(format!("{PACKAGING}/{name}")).expect(name)
}

/// Source: krew v0.4.3, internal/index/validation/validate.go, and the naming guide of krew-index.
#[test]
fn the_manifest_of_krew_keeps_its_rules() {
    let text = file("krew/secretfs.yaml");
    for blank in ["@VERSION@", "@ARCH@", "@URL@", "@SHA256@"] {
        assert_eq!(text.matches(blank).count(), 1, "{blank}");
    }
    let filled = text.replace("@VERSION@", VERSION).replace("@ARCH@", "amd64").replace("@URL@", "https://x/y.tar.gz");
    let manifest = yaml(&filled.replace("@SHA256@", &"0".repeat(64)));
    assert_eq!(manifest["apiVersion"], "krew.googlecontainertools.github.com/v1alpha2");
    assert_eq!(manifest["kind"], "Plugin");
    assert_eq!(manifest["metadata"]["name"], "secretfs");
    let spec = &manifest["spec"];
    let version: Vec<&str> =
        spec["version"].as_str().and_then(|v| v.strip_prefix('v')).expect("v").split('.').collect();
    assert!(version.len() == 3 && version.iter().all(|part| part.parse::<u32>().is_ok()), "{version:?}");
    let short = spec["shortDescription"].as_str().expect("a short description");
    assert!((1..=50).contains(&short.len()) && !short.ends_with('.') && !short.contains('\n'), "{short}");
    let platforms = spec["platforms"].as_array().expect("platforms");
    assert!(!platforms.is_empty());
    for platform in platforms {
        let labels = platform["selector"]["matchLabels"].as_object().expect("labels");
        assert!(labels.keys().all(|key| ["os", "arch"].contains(&key.as_str())), "{labels:?}");
        // It runs nowhere else.
        assert_eq!(labels["os"], "linux");
        assert_eq!(platform["bin"], "secretfs");
        for copied in platform["files"].as_array().expect("files") {
            assert!(copied["from"].is_string() && copied["to"].is_string(), "{copied}");
        }
    }
}

#[test]
fn all_packages_have_the_version_of_the_program() {
    let top = file("deb/changelog");
    assert!(top.starts_with(&format!("secretfs ({VERSION})")), "{top}");
    assert!(file("rpm/secretfs.spec").contains(&format!(" - {VERSION}-1\n")), "rpm/secretfs.spec");
    let tag = &yaml(&file("kubernetes/kustomization.yaml"))["images"][0]["newTag"];
    assert_eq!(tag, VERSION);
}

/// packaging/kubernetes, in a namespace of the test's.
fn overlay(sandbox: &Sandbox, space: &Namespace) -> String {
    let base = sandbox.mkdir("base");
    for entry in std::fs::read_dir(format!("{PACKAGING}/kubernetes")).expect("readdir").flatten() {
        std::fs::copy(entry.path(), base.join(entry.file_name())).expect("copy");
    }
    let overlay = sandbox.mkdir("overlay");
    let text = format!("resources: [../base]\nnamespace: {}\n", space.name);
    std::fs::write(overlay.join("kustomization.yaml"), text).expect("write");
    overlay.to_str().expect("UTF-8").to_owned()
}

#[test]
fn the_api_server_takes_the_daemon_set_and_its_rights_as_they_stand() {
    let (sandbox, space) = (Sandbox::new(), namespace());
    let overlay = overlay(&sandbox, &space);
    let dry = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-k", &overlay];
    let output = run(space.cluster.kubectl().args(dry));
    assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    for object in ["namespace/", "serviceaccount/", "role.rbac", "rolebinding.rbac", "daemonset.apps/secretfs"] {
        assert!(printed.contains(object), "{object}:\n{printed}");
    }
    // Strict: a field that there is not would not have passed.
    let wrong = std::fs::read_to_string(sandbox.path("base/daemonset.yaml")).expect("read");
    sandbox.write("base/daemonset.yaml", wrong.replace("mountPropagation:", "mountPropagations:"));
    let output = run(space.cluster.kubectl().args(dry));
    assert!(!output.status.success() && said(&output).contains("mountPropagations"), "{}", said(&output));
}

/// As README has it, with the image named in the kustomization.
#[test]
fn the_daemon_set_is_applied_and_taken_away() {
    let (sandbox, space) = (Sandbox::new(), namespace());
    let overlay = overlay(&sandbox, &space);
    let base = sandbox.path("base/kustomization.yaml");
    let text = std::fs::read_to_string(&base).expect("read");
    std::fs::write(&base, text.replace("newName: secretfs", "newName: example.com/secretfs")).expect("write");
    let output = run(space.cluster.kubectl().args(["apply", "-k", &overlay]));
    assert!(output.status.success(), "{}", said(&output));
    let images = "jsonpath={.spec.template.spec['initContainers','containers'][*].image}";
    let image = format!("example.com/secretfs:{VERSION}");
    let found = space.kubectl(&["get", "daemonset", "secretfs", "-o", images]);
    assert_eq!(found.split(' ').collect::<Vec<_>>(), [image.as_str(); 3]);
    // A second time it changes nothing.
    let printed = succeed(space.cluster.kubectl().args(["apply", "-k", &overlay]));
    assert!(printed.contains("daemonset.apps/secretfs unchanged"), "{printed}");
    succeed(space.cluster.kubectl().args(["delete", "--wait=false", "-k", &overlay]));
    let left = run(space.cluster.kubectl().args(["-n", &space.name, "get", "serviceaccount", "secretfs"]));
    assert!(said(&left).contains("NotFound"), "{}", said(&left));
}

/// The DaemonSet's own command line with its own rights, and no others.
#[test]
fn the_daemon_of_a_node_needs_just_the_rights_that_it_gets() {
    let (sandbox, space) = (Sandbox::new(), namespace());
    space.secret("mysecret", &[("my-super-secret-key", "some-base64-encoded-payload")]);
    let overlay = overlay(&sandbox, &space);
    succeed(space.cluster.kubectl().args([
        "apply",
        "--server-side",
        "-k",
        &overlay,
        "-l",
        "app.kubernetes.io/name!=secretfs",
    ]));
    let token = space.kubectl(&["create", "token", "secretfs"]).trim().to_owned();
    let context = Context { name: "node".into(), token, ..space.context() };
    sandbox.write("kubeconfig", kubeconfig(&[context]));

    let set = file("kubernetes/daemonset.yaml");
    let pod = &yaml(&set)["spec"]["template"]["spec"];
    let words =
        pod["containers"][0]["args"].as_array().expect("args").iter().map(|word| word.as_str().expect("a word"));
    let dir = sandbox.mkdir("secrets");
    let words = words.map(|word| match word {
        "ns/$(NAMESPACE)" => format!("ns/{}", space.name),
        "/host/secrets" => dir.to_str().expect("UTF-8").to_owned(),
        word => word.to_owned(),
    });
    let mut daemon =
        sandbox.secretfs().args(words).arg("--kubeconfig").arg(sandbox.path("kubeconfig")).spawn().expect("secretfs");
    let read = || std::fs::read_to_string(dir.join("mysecret/my-super-secret-key")).ok();
    assert_eq!(wait_for("the file", read), "some-base64-encoded-payload");
    let names = std::fs::read_dir(&dir).expect("readdir").flatten().map(|entry| entry.file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["mysecret"]);
    space.kubectl(&["create", "secret", "generic", "later", "--from-literal=key=value"]);
    wait_for("the new one", || std::fs::read(dir.join("later/key")).ok());
    succeed(sandbox.secretfs().arg("umount").arg(&dir));
    assert!(daemon.wait().expect("its end").success());
    sandbox.is_clean();

    // The other containers' command lines are no wrong usage either.
    for container in pod["initContainers"].as_array().expect("containers") {
        let words = container["args"].as_array().expect("args").iter().filter_map(Value::as_str);
        succeed(sandbox.secretfs().args(words));
    }
}

#[test]
fn scripts_refuse_what_they_do_not_know_and_explain_themselves() {
    let build = Path::new(PACKAGING).join("build");
    let output = run(&mut Command::new(&build));
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let explained = String::from_utf8_lossy(&output.stderr).into_owned();
    let output = run(Command::new(&build).arg("exe"));
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let named = String::from_utf8_lossy(&output.stderr).into_owned();
    for kind in ["archive", "deb", "rpm", "krew", "oci", "sbom"] {
        assert!(explained.contains(kind), "{explained}");
        assert!(named.contains(kind), "{named}");
    }
}
