//! As a plugin of the stock kubectl.

use serde_json::json;

use crate::support::api::Api;
use crate::support::cluster::{cluster, namespace};
use crate::support::host::Host;
use crate::support::{fail, succeed};

const PAYLOAD: &str = "some-base64-encoded-payload";

#[test]
fn kubectl_finds_the_plugin_and_messages_name_it_so() {
    let (host, space) = (Host::new(), namespace());
    host.with_kubectl(cluster());
    space.secret("mysecret", &[("my-super-secret-key", PAYLOAD)]);
    let n = &space.name;
    assert!(succeed(&mut host.bash("kubectl plugin list")).contains("kubectl-secretfs"));
    host.sandbox.mkdir("m");
    let script = format!(
        "kubectl secretfs mount -n {n} secret/mysecret ./m; cat m/my-super-secret-key; kubectl secretfs umount ./m"
    );
    assert_eq!(succeed(&mut host.bash(&script)), PAYLOAD);
    host.sandbox.is_clean();

    let help = succeed(&mut host.bash("kubectl secretfs --help; kubectl secretfs mount --help"));
    assert!(help.contains("Usage: kubectl secretfs <COMMAND>"), "{help}");
    assert!(help.contains("  kubectl secretfs mount secret/mysecret ./mysec"), "{help}");
    // No command that the reader does not have.
    let other = help.lines().find(|line| line.trim_start().starts_with("secretfs "));
    assert_eq!(other, None);
    for (script, code, message) in [
        ("kubectl secretfs umount ./m", 7, "kubectl secretfs: nothing is mounted at"),
        ("kubectl secretfs umount ./m", 7, "`kubectl secretfs status` lists"),
        ("kubectl secretfs mount", 2, "see kubectl secretfs mount --help"),
    ] {
        let (found, text) = fail(&mut host.bash(script));
        assert_eq!(found, code, "{text}");
        assert!(text.contains(message), "{text}");
    }
}

#[test]
fn kubectl_completes_pods_workloads_nodes_and_what_is_in_them() {
    let (host, space) = (Host::new(), namespace());
    host.with_kubectl(cluster());
    space.secret("s", &[("password", "p")]);
    let (n, api) = (&space.name, Api::of(space.cluster));
    let spec = json!({
        "nodeName": n, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "s", "mountPath": "/etc/s"}]}],
        "volumes": [{"name": "s", "secret": {"secretName": "s"}}],
    });
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": n}});
    api.create(&node);
    api.create(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": n, "name": "default"}}));
    let metadata = |name: &str| json!({"namespace": n, "name": name});
    api.create(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata("web-0"), "spec": spec}));
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": spec});
    api.create(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata("web"),
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template},
    }));
    for (line, expected) in [
        (format!("mount -n {n} po"), vec!["pod/".to_owned()]),
        (format!("mount -n {n} pod/"), vec!["pod/web-0".into()]),
        (format!("doctor -n {n} deploy/w"), vec!["deploy/web".into()]),
        (format!("cat {n}/deploy/"), vec![format!("{n}/deploy/web/")]),
        (format!("mount node/{n}"), vec![format!("node/{n}")]),
        (format!("cat -n {n} pod/we"), vec!["pod/web-0/".into()]),
        (format!("cat -n {n} pod/web-0/"), vec!["pod/web-0/c/".into()]),
        (format!("cat -n {n} pod/web-0/c/etc/s/pa"), vec!["pod/web-0/c/etc/s/password".into()]),
        (format!("cat node/{n}/{n}/web-0/c/etc/"), vec![format!("node/{n}/{n}/web-0/c/etc/s/")]),
        (format!("mount -n {n} pod/web-0/"), vec![]),
    ] {
        assert_eq!(completes(&host, &format!("secretfs {line}")), expected, "{line}");
    }
    api.ensure_gone(&node);
}

/// What kubectl's own completion offers for these words, without the directive.
#[track_caller]
fn completes(host: &Host, words: &str) -> Vec<String> {
    let printed = succeed(&mut host.bash(&format!("kubectl __complete {words} 2> /dev/null")));
    let mut lines: Vec<String> = printed.lines().map(str::to_owned).collect();
    let directive = lines.pop().expect("a directive");
    assert!(directive.starts_with(':'), "{printed}");
    lines.into_iter().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn kubectl_completes_verbs_options_sources_and_keys() {
    let (host, space) = (Host::new(), namespace());
    host.with_kubectl(cluster());
    space.secret("alpha", &[("user", "u"), ("password", "p")]);
    space.secret("beta", &[("token", "t")]);
    let n = &space.name;
    assert!(completes(&host, "secretf").contains(&"secretfs".to_owned()));
    let verbs = completes(&host, "secretfs ''");
    assert!(verbs.contains(&"mount".to_owned()) && verbs.contains(&"cat".to_owned()), "{verbs:?}");
    assert!(!verbs.contains(&"man".to_owned()), "hidden: {verbs:?}");
    assert_eq!(completes(&host, "secretfs mou"), ["mount"]);
    assert!(completes(&host, "secretfs mount --kub").contains(&"--kubeconfig".to_owned()));
    assert_eq!(completes(&host, &format!("secretfs mount -n {n} secret/")), ["secret/alpha", "secret/beta"]);
    assert_eq!(
        completes(&host, &format!("secretfs cat -n {n} secret/alpha/")),
        ["secret/alpha/password", "secret/alpha/user"]
    );
    assert_eq!(completes(&host, &format!("secretfs cat {n}/secret/b")), [format!("{n}/secret/beta/")]);
    assert_eq!(completes(&host, &format!("secretfs ls ns/{n}")), [format!("ns/{n}")]);
    assert_eq!(completes(&host, &format!("secretfs cat ns/{n}/")), [] as [&str; 0]);
    assert_eq!(completes(&host, &format!("secretfs ls -n {n}")), [n.as_str()]);
    assert_eq!(completes(&host, "secretfs mount --layout ''"), ["kubelet", "flat"]);
    // The second operand is a directory.
    host.sandbox.mkdir("mysec");
    assert_eq!(completes(&host, &format!("secretfs mount -n {n} secret/alpha mys")), ["mysec/"]);
    // A server that cannot be reached: nothing, and no error on the terminal.
    assert_eq!(completes(&host, "secretfs cat --kubeconfig /nonexistent secret/"), [] as [&str; 0]);
}
