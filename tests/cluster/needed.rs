//! What the pods in a view of names need, while the API server fails or refuses.

use serde_json::json;

use super::{Mounted, secret};
use crate::support::api::Api;
use crate::support::cluster::namespace;
use crate::support::proxy::{Fault, Proxy};
use crate::support::wait_until;

/// A pod that mounts a Secret.
fn pod(namespace: &str, secret: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": "p", "labels": {"app": "web"}},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "s", "mountPath": "/s"}]}],
            "volumes": [{"name": "s", "secret": {"secretName": secret}}],
        },
    })
}

fn account(namespace: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": namespace, "name": "default"}})
}

#[test]
fn a_secret_made_while_the_server_fails_comes_when_it_works_again() {
    let namespace = namespace();
    let (ns, api) = (namespace.name.clone(), Api::of(namespace.cluster));
    api.create(&account(&ns));
    api.create(&pod(&ns, "s"));
    let proxy = Proxy::start(namespace.cluster);
    let mounted = Mounted::new(proxy.context(&ns), &["--poll", "1s", "--kinds", "secrets,pods", &format!("ns/{ns}")]);
    assert!(mounted.try_read("pods/p/c/s/k").is_err());
    let get = ns.clone();
    proxy.answer(move |request| request.is_get_of(&get, "s"), Fault::status(500));
    api.create(&secret(&ns, "s", &[("k", "v")]));
    wait_until("a request in vain", || proxy.exchanges().iter().any(|one| one.failed));
    assert!(mounted.try_read("pods/p/c/s/k").is_err());
    proxy.heal();
    wait_until("the Secret in the pod", || mounted.try_read("pods/p/c/s/k").as_deref() == Ok("v"));
    assert_eq!(mounted.read("secrets/s/k"), "v");
    mounted.mount.end();
}

#[test]
fn while_nothing_may_be_listed_what_a_selected_pod_needs_stays_and_is_followed() {
    let namespace = namespace();
    let (ns, api) = (namespace.name.clone(), Api::of(namespace.cluster));
    let labelled = |name: &str| {
        let mut object = secret(&ns, name, &[("k", "v")]);
        object["metadata"]["labels"] = json!({"app": "web"});
        object
    };
    api.create(&account(&ns));
    api.create(&secret(&ns, "needed", &[("k", "one")]));
    api.create(&labelled("shown"));
    api.create(&pod(&ns, "needed"));
    let proxy = Proxy::start(namespace.cluster);
    let args = ["--poll", "100ms", "-l", "app=web", "--kinds", "secrets,pods", &format!("ns/{ns}")];
    let mounted = Mounted::new(proxy.context(&ns), &args);
    assert_eq!(mounted.read("pods/p/c/s/k"), "one");
    assert_eq!(mounted.names("secrets"), ["shown"]);

    let may_list = || {
        let mut entries = std::fs::read_dir(mounted.path("secrets")).expect("a directory");
        !entries.any(|entry| entry.is_err_and(|error| error.raw_os_error() == Some(libc::EACCES)))
    };
    proxy.answer(
        |request| {
            request.path().ends_with("/secrets") && !request.query().any(|part| part.starts_with("fieldSelector"))
        },
        Fault::status(403),
    );
    proxy.cut();
    wait_until("the end of the list", || !may_list());
    assert_eq!(mounted.read("pods/p/c/s/k"), "one");
    api.replace(&secret(&ns, "needed", &[("k", "two")]));
    wait_until("its change", || mounted.read("pods/p/c/s/k") == "two");
    assert_eq!(mounted.status()["problems"], json!([]));
    // Where names are not listed, who knows one gets it.
    assert_eq!(mounted.read("secrets/needed/k"), "two");

    proxy.heal();
    wait_until("the list again", may_list);
    wait_until("what it has, and no more", || mounted.names("secrets") == ["shown"]);
    assert_eq!(mounted.read("pods/p/c/s/k"), "two");
    api.replace(&secret(&ns, "needed", &[("k", "three")]));
    wait_until("its change", || mounted.read("pods/p/c/s/k") == "three");
    assert_eq!(mounted.names("secrets"), ["shown"]);
    mounted.mount.end();
}
