//! Service account tokens of a mounted pod are renewed. The real API server issues them; a proxy shortens what it says of
//! their lives, since none may be shorter than ten minutes.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::Mounted;
use crate::support::api::Api;
use crate::support::cluster::namespace;
use crate::support::events::Watch;
use crate::support::proxy::{Fault, Proxy, Request};
use crate::support::{token, wait_until};

fn asks_for_token(request: &Request) -> bool {
    request.method == "POST" && request.path().ends_with("/serviceaccounts/web/token")
}

/// Two seconds from now four fifths of its life are over; it is valid for ten minutes all the same.
fn to_be_renewed_soon(answer: &mut Value) {
    assert_eq!((&answer["kind"], &answer["spec"]["expirationSeconds"]), (&json!("TokenRequest"), &json!(600)));
    answer["spec"]["expirationSeconds"] = json!(2990);
}

/// It is valid for three seconds, and to be renewed after two.
fn short_lived(answer: &mut Value) {
    let ends = Timestamp::now().checked_add(Duration::from_secs(3)).expect("a time");
    answer["spec"]["expirationSeconds"] = json!(5);
    answer["status"]["expirationTimestamp"] = json!(ends.to_string());
}

#[test]
fn a_token_is_renewed_in_time_and_what_is_there_stays_while_that_fails() {
    let namespace = namespace();
    let api = Api::of(namespace.cluster);
    let metadata = |name: &str| json!({"namespace": namespace.name, "name": name, "labels": {"step": "one"}});
    api.create(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("web")}));
    let labels = json!([{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata("p"),
        "spec": {
            "serviceAccountName": "web", "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "i", "volumeMounts": [
                {"name": "both", "mountPath": "/both"}, {"name": "labels", "mountPath": "/labels"},
            ]}],
            "volumes": [
                {"name": "both", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "token", "expirationSeconds": 600, "audience": "vault"}},
                    {"downwardAPI": {"items": labels}},
                ]}},
                {"name": "labels", "downwardAPI": {"items": labels}},
            ],
        },
    });
    api.create(&pod);
    let step = |step: &str| api.merge(&pod, &json!({"metadata": {"labels": {"step": step}}}));
    let says = |step: &str| format!("step=\"{step}\"");
    let proxy = Proxy::start(namespace.cluster);
    // Whoever wants another token than the next one is told that this does not work now.
    proxy.answer(asks_for_token, Fault::status(500));
    proxy.answer_once(asks_for_token, Fault::Edit(to_be_renewed_soon));
    let mounted = Mounted::new(proxy.context(&namespace.name), &["pod/p"]);
    let token = || mounted.read("c/both/token");
    let first = token();
    let problems = || mounted.status()["problems"].clone();
    let refused = || {
        let exchanges = proxy.exchanges();
        exchanges.iter().filter(|one| asks_for_token(&one.request) && one.status() == Some(500)).count()
    };
    wait_until("a renewal in vain", || refused() > 0);

    // The old one is valid still, and its volume goes on.
    step("two");
    wait_until("the label beside it", || mounted.read("c/both/labels") == says("two"));
    assert!(token() == first, "the old token stays");
    assert_eq!(problems(), json!([]));

    let mut watch = Watch::new(&mounted.path("c/both"));
    proxy.answer_once(asks_for_token, Fault::Edit(to_be_renewed_soon));
    let seen = watch.wait_for("DELETE|ISDIR ..TS");
    let update = [
        "CREATE|ISDIR ..TS",
        "ATTRIB|ISDIR ..TS",
        "CREATE ..data_tmp",
        "MOVED_FROM ..data_tmp",
        "MOVED_TO ..data",
        "DELETE|ISDIR ..TS",
    ];
    assert_eq!(seen, update);
    let second = token();
    assert!(second != first, "it is another one");
    let claims = token::claims(second.as_bytes()).expect("a token");
    assert_eq!((&claims["aud"], &claims["kubernetes.io"]["pod"]["name"]), (&json!(["vault"]), &json!("p")));

    // One that ends before it could be renewed: its volume keeps all that it has, as the kubelet's would.
    proxy.answer_once(asks_for_token, Fault::Edit(short_lived));
    wait_until("the third token", || token() != second);
    let third = token();
    wait_until("its end", || problems() != json!([]));
    let told = problems();
    assert_eq!((told.as_array().map(Vec::len), &told[0]["volume"]), (Some(1), &json!("both")), "{told:#}");
    let reason = told[0]["reason"].as_str().expect("text");
    assert!(reason.starts_with(&format!("no token for {}/sa/web: ", namespace.name)), "{reason}");
    assert!(reason.ends_with("; it keeps what it shows") && !reason.contains(&third), "{reason}");
    step("three");
    wait_until("the label of the other volume", || mounted.read("c/labels/labels") == says("three"));
    assert_eq!(mounted.read("c/both/labels"), says("two"));
    assert!(token() == third, "what it shows stays");

    proxy.heal();
    wait_until("another token", || token() != third);
    assert_eq!(mounted.read("c/both/labels"), says("three"));
    assert_eq!(problems(), json!([]));
    mounted.mount.end();
}
