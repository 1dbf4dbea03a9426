//! What a pod's view asks of the API server: objects that may be made later, the pods of a node, trust bundles, tokens.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secretfs::object::{Kind, Name, Token, TokenAsk};
use secretfs::source::{Set, Source};
use secretfs::store::{Known, Refusal};
use serde_json::{Value, json};

use super::rights::{asked, nobody};
use super::{Site, secret};
use crate::support::api::Api;
use crate::support::cluster::{Namespace, namespace};
use crate::support::library::{Library, id};
use crate::support::wait_until;

/// A source as the admin, or as a node.
fn library(namespace: &Namespace, user: &str) -> Library {
    Library::new(&namespace.cluster.dir.join(format!("{user}.kubeconfig")))
}

/// An object of any kind, as small as the API server takes it.
fn manifest(kind: Kind, namespace: &str, name: &str) -> Value {
    let pod = json!({"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Always"});
    let labels = json!({"app": "web"});
    let template = json!({"metadata": {"labels": labels}, "spec": pod});
    let mut job = template.clone();
    job["spec"]["restartPolicy"] = json!("Never");
    let workload = json!({"selector": {"matchLabels": labels}, "template": template});
    let mut object = json!({
        "apiVersion": kind.api_version(), "kind": kind.api_kind(), "metadata": {"name": name, "labels": labels},
    });
    if kind.is_namespaced() {
        object["metadata"]["namespace"] = json!(namespace);
    }
    match kind {
        Kind::Secret | Kind::ConfigMap => object["data"] = json!({"k": "djE="}),
        Kind::Pod => object["spec"] = pod,
        Kind::Job => object["spec"] = json!({"template": job}),
        Kind::CronJob => object["spec"] = json!({"schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": job}}}),
        Kind::ServiceAccount | Kind::Node => {}
        Kind::ClusterTrustBundle => object["spec"] = json!({"trustBundle": certificate()}),
        Kind::StatefulSet => {
            object["spec"] = workload;
            object["spec"]["serviceName"] = json!(name);
        }
        _ => object["spec"] = workload,
    }
    object
}

/// Some certificate of an authority, PEM.
fn certificate() -> String {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&key).expect("a certificate").pem()
}

/// Lets the user get and watch objects of this name, of all kinds.
fn allow_named(namespace: &Namespace, user: &str, name: &str) {
    let rule = |kind: &Kind| json!({"apiGroups": [kind.group()], "resources": [kind.plural()], "resourceNames": [name], "verbs": ["get", "watch"]});
    let rules = |namespaced: bool| -> Value {
        Kind::ALL.iter().filter(|kind| kind.is_namespaced() == namespaced).map(rule).collect()
    };
    let api = Api::of(namespace.cluster);
    let rbac = "rbac.authorization.k8s.io/v1";
    let subjects = json!([{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}]);
    for (prefix, metadata) in [
        ("", json!({"name": user, "namespace": namespace.name})),
        ("Cluster", json!({"name": format!("named-{user}")})),
    ] {
        let role =
            json!({"kind": format!("{prefix}Role"), "name": metadata["name"], "apiGroup": "rbac.authorization.k8s.io"});
        api.create(&json!({"apiVersion": rbac, "kind": format!("{prefix}Role"), "metadata": metadata, "rules": rules(prefix.is_empty())}));
        api.create(&json!({"apiVersion": rbac, "kind": format!("{prefix}RoleBinding"), "metadata": metadata, "roleRef": role, "subjects": subjects}));
    }
}

#[test]
fn an_object_of_any_kind_is_waited_for_and_followed_with_rights_on_its_name_alone() {
    let namespace = namespace();
    let (user, context) = nobody(&namespace);
    let site = Site::new(&[context]);
    let name = namespace.name.as_str();
    allow_named(&namespace, &user, name);
    let library = Library::new(&site.kubeconfig);
    let api = Api::of(namespace.cluster);
    account(&api, name, "default");
    let ids = Kind::ALL.map(|kind| id(kind, name, name));
    for id in &ids {
        let answer = library.wait(library.source.need(id.clone()));
        assert!(matches!(answer, Err(Refusal::NotFound { .. })), "{id}: {answer:?}");
    }
    for id in &ids {
        let object = manifest(id.kind, name, name);
        api.create(&object);
        wait_until(&format!("{id}"), || matches!(library.store.get(id), Some(Known::Loaded(_))));
        let version = library.version(id);
        api.merge(&object, &json!({"metadata": {"labels": {"changed": "yes"}}}));
        wait_until(&format!("the change of {id}"), || library.version(id) != version);
        api.delete(&object);
        wait_until(&format!("the deletion of {id}"), || library.store.get(id).is_none());
    }
    for (verb, _, _, of, code) in asked(&namespace, &user) {
        assert!(
            ["get", "watch"].contains(&verb.as_str()) && of == name && [200, 404].contains(&code),
            "{verb} {of} {code}"
        );
    }
}

/// A pod on a node with a Secret, and tokens for these audiences.
fn pod(namespace: &str, name: &str, node: &str, secret: &str, audiences: &[&str]) -> Value {
    let token = |audience: &&str| {
        let mut source = json!({"path": format!("token-{audience}"), "expirationSeconds": 3607});
        if !audience.is_empty() {
            source["audience"] = json!(audience);
        }
        json!({"serviceAccountToken": source})
    };
    let sources: Vec<Value> = audiences.iter().map(token).collect();
    let mut pod = manifest(Kind::Pod, namespace, name);
    pod["spec"]["nodeName"] = json!(node);
    pod["spec"]["serviceAccountName"] = json!("web");
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    pod["spec"]["volumes"] = json!([
        {"name": "secret", "secret": {"secretName": secret}},
        {"name": "tokens", "projected": {"sources": sources}},
    ]);
    pod
}

/// The names of the pods that are known in the namespace.
/// No controller makes the accounts of namespaces here, and without one there is no pod.
fn account(api: &Api, namespace: &str, name: &str) {
    api.create(
        &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": namespace, "name": name}}),
    );
}

fn pods(library: &Library, namespace: &str) -> Vec<String> {
    let namespace = namespace.parse().expect("a namespace");
    library.store.names(Kind::Pod, &namespace).iter().map(ToString::to_string).collect()
}

#[test]
fn a_node_gathers_its_pods_and_needs_their_secrets_and_nothing_else() {
    let namespace = namespace();
    let ns = namespace.name.as_str();
    let api = Api::of(namespace.cluster);
    account(&api, ns, "web");
    for name in ["mine", "yours"] {
        api.create(&secret(ns, name, &[("k", name)]));
    }
    api.create(&pod(ns, "a", "n1", "mine", &[]));
    api.create(&pod(ns, "b", "n2", "yours", &[]));
    let node = library(&namespace, "node-n1");
    let of = |node: &str| Set::PodsOf { node: Name::new(node).expect("a name"), selector: None };
    node.wait(node.source.gather(of("n1"))).expect("its own pods");
    assert_eq!(pods(&node, ns), ["a"]);
    let Some(Known::Loaded(a)) = node.store.get(&id(Kind::Pod, ns, "a")) else { panic!("the whole pod") };
    assert_eq!(a.pod().expect("a pod").spec.volumes.len(), 2);
    let refusal = node.wait(node.source.gather(of("n2"))).expect_err("another node's pods");
    assert!(matches!(refusal, Refusal::Forbidden { .. }), "{refusal}");

    // Changes, and what comes later.
    let version = node.version(a.id());
    api.merge(&pod(ns, "a", "n1", "mine", &[]), &json!({"metadata": {"labels": {"changed": "yes"}}}));
    wait_until("the change", || node.version(a.id()) != version);
    api.create(&pod(ns, "c", "n1", "mine", &[]));
    api.delete(&pod(ns, "a", "n1", "mine", &[]));
    wait_until("c without a", || pods(&node, ns) == ["c"]);

    // The authorizer learns of a pod a moment after it is made, so the first answer may be a refusal.
    let of_mine = id(Kind::Secret, ns, "mine");
    let _ = node.wait(node.source.need(of_mine.clone()));
    wait_until("its pod's secret", || matches!(node.store.get(&of_mine), Some(Known::Loaded(_))));
    let version = node.version(&of_mine);
    api.replace(&secret(ns, "mine", &[("k", "new")]));
    wait_until("its change", || node.version(&of_mine) != version);
    let refusal = node.wait(node.source.need(id(Kind::Secret, ns, "yours"))).expect_err("another node's secret");
    assert!(matches!(refusal, Refusal::Forbidden { .. }), "{refusal}");
}

#[test]
fn all_trust_bundles_are_gathered_those_of_signers_too() {
    let namespace = namespace();
    let api = Api::of(namespace.cluster);
    let mut first = manifest(Kind::ClusterTrustBundle, "", &format!("example.com:signer:{}", namespace.name));
    first["spec"]["signerName"] = json!("example.com/signer");
    let second = manifest(Kind::ClusterTrustBundle, "", &namespace.name);
    let of = |bundle: &Value| id(Kind::ClusterTrustBundle, "", bundle["metadata"]["name"].as_str().expect("a name"));
    api.create(&first);
    let node = library(&namespace, "node-n1");
    node.wait(node.source.gather(Set::TrustBundles)).expect("the bundles");
    assert!(node.store.get(&of(&first)).is_some());
    api.create(&second);
    wait_until("the second", || node.store.get(&of(&second)).is_some());
    assert!(node.wait(node.source.need(of(&second))).is_ok());
    api.delete(&first);
    wait_until("the first's end", || node.store.get(&of(&first)).is_none());
    api.delete(&second);
}

/// A pod and its service account, and who may ask for its token.
struct Stage {
    namespace: Namespace,
    uid: String,
}

impl Stage {
    fn new() -> Stage {
        let namespace = namespace();
        let api = Api::of(namespace.cluster);
        let name = namespace.name.clone();
        for account in ["web", "other"] {
            api.create(&manifest(Kind::ServiceAccount, &name, account));
        }
        let pod = pod(&name, "web-1", "n1", "none", &["vault"]);
        api.create(&pod);
        let uid = api.get(&pod)["metadata"]["uid"].as_str().expect("a uid").to_owned();
        Stage { namespace, uid }
    }

    fn ask(&self, audience: &str) -> TokenAsk {
        TokenAsk {
            namespace: self.namespace.name.parse().expect("a namespace"),
            service_account: "web".parse().expect("a name"),
            audience: audience.into(),
            expiration_seconds: 1200,
            pod: Some(("web-1".parse().expect("a name"), self.uid.as_str().into())),
        }
    }
}

fn issue(library: &Library, ask: TokenAsk) -> Result<Token, Refusal> {
    library.wait(library.source.token(ask)).map(|token| token.expect("a cluster issues tokens"))
}

/// What a JSON Web Token says.
fn claims(token: &Token) -> Value {
    let text = std::str::from_utf8(token.value.as_bytes()).expect("text");
    let payload = text.split('.').nth(1).expect("a payload");
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).expect("base64")).expect("JSON")
}

#[test]
fn a_token_is_for_its_audience_its_pod_and_its_time() {
    let stage = Stage::new();
    let node = library(&stage.namespace, "node-n1");
    let token = issue(&node, stage.ask("vault")).expect("a token");
    let claims = claims(&token);
    assert_eq!(claims["aud"], json!(["vault"]));
    let bound = &claims["kubernetes.io"];
    assert_eq!(bound["pod"], json!({"name": "web-1", "uid": stage.uid}));
    assert_eq!((&bound["namespace"], &bound["serviceaccount"]["name"]), (&json!(stage.namespace.name), &json!("web")));
    let seconds = |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    let (issued, ends) = (claims["iat"].as_u64().expect("iat"), claims["exp"].as_u64().expect("exp"));
    assert_eq!((seconds(token.expires), ends - issued), (ends, 1200));
    assert_eq!(token.lifetime.expect("a lifetime").as_secs(), 1200);
    assert!(seconds(token.issued).abs_diff(issued) < 60);
    assert_eq!(node.source.status().requests.tokens, 1);

    // Without a pod and an audience: the API server's own. A node may not have that, the admin may.
    let unbound = TokenAsk { pod: None, ..stage.ask("") };
    let admin = library(&stage.namespace, "admin");
    let token = issue(&admin, unbound.clone()).expect("a token");
    assert_eq!(self::claims(&token)["aud"], json!(["https://kubernetes.default.svc"]));
    assert!(matches!(issue(&node, unbound), Err(Refusal::Forbidden { .. })));
}

#[test]
fn a_token_that_is_refused_tells_why() {
    let stage = Stage::new();
    let admin = library(&stage.namespace, "admin");
    let node = library(&stage.namespace, "node-n1");
    let other = library(&stage.namespace, "node-n2");
    let ns = &stage.namespace.name;
    let with = |change: &dyn Fn(&mut TokenAsk)| {
        let mut ask = stage.ask("vault");
        change(&mut ask);
        ask
    };
    let no_account = with(&|ask| ask.service_account = "missing".parse().expect("a name"));
    let other_account = with(&|ask| ask.service_account = "other".parse().expect("a name"));
    let no_pod = with(&|ask| ask.pod.as_mut().expect("a pod").0 = "missing".parse().expect("a name"));
    let other_uid = with(&|ask| ask.pod.as_mut().expect("a pod").1 = "00000000-0000-0000-0000-000000000000".into());
    let too_short = with(&|ask| ask.expiration_seconds = 1);
    let told = |library: &Library, ask: &TokenAsk| issue(library, ask.clone()).expect_err("a refusal").to_string();
    assert!(told(&admin, &no_account).starts_with(&format!("{ns}/sa/missing was not found")));
    assert!(told(&admin, &no_pod).starts_with(&format!("{ns}/pod/missing was not found")));
    let text = told(&admin, &other_uid);
    assert!(text.contains("pod web-1 is no longer the one of uid 00000000"), "{text}");
    let text = told(&admin, &other_account);
    assert!(text.contains("sa/other") && text.contains("pod web-1"), "{text}");
    let text = told(&admin, &too_short);
    assert!(text.contains("422 Invalid"), "{text}");
    // A node may have tokens of its own pods for the audiences that they name.
    for (library, ask) in [(&node, &other_uid), (&node, &stage.ask("bank")), (&other, &stage.ask("vault"))] {
        let text = told(library, ask);
        assert!(text.starts_with(&format!("a token of {ns}/sa/web for pod web-1: access denied")), "{text}");
    }
}
