//! Service account tokens.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::super::fake::*;
use crate::object::{Name, Namespace};
use crate::source::{Source as _, TokenAsk};
use crate::store::Refusal;

fn ask() -> TokenAsk {
    TokenAsk {
        namespace: Namespace::new("prod").unwrap(),
        service_account: Name::new("web").unwrap(),
        audience: "vault".into(),
        expiration_seconds: 3607,
        pod: Some((Name::new("web-1").unwrap(), "uid-1".into())),
    }
}

fn issued(token: &str) -> Answer {
    answered(201, token)
}

fn answered(code: u16, token: &str) -> Answer {
    let json = json!({
        "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {"expirationSeconds": 3607},
        "status": {"token": token, "expirationTimestamp": "2100-01-01T00:00:00Z"},
    });
    answer(code, "application/json", &json.to_string())
}

#[tokio::test]
async fn a_token_is_asked_for_as_the_kubelet_does() {
    let fake = Fake::start(|_| issued("planted")).await;
    let (cluster, _) = fake.cluster().await;
    let token = cluster.token(ask()).await.unwrap().unwrap();
    assert_eq!((token.value.as_bytes(), token.lifetime), (&b"planted"[..], Some(Duration::from_secs(3607))));
    let anybody = TokenAsk { audience: String::new(), pod: None, ..ask() };
    cluster.token(anybody).await.unwrap();
    let seen = fake.seen();
    assert_eq!((seen[0].method.as_str(), seen.len()), ("POST", 2));
    assert_eq!(seen[0].target, "/api/v1/namespaces/prod/serviceaccounts/web/token");
    assert!(seen[0].headers.contains("content-type: application/json"), "{}", seen[0].headers);
    let body = |at: usize| serde_json::from_str::<Json>(&seen[at].body).unwrap();
    let (kind, version) = ("TokenRequest", "authentication.k8s.io/v1");
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "web-1", "uid": "uid-1"});
    let spec = json!({"audiences": ["vault"], "expirationSeconds": 3607, "boundObjectRef": bound});
    assert_eq!(body(0), json!({"kind": kind, "apiVersion": version, "spec": spec}));
    assert_eq!(body(1), json!({"kind": kind, "apiVersion": version, "spec": {"expirationSeconds": 3607}}));
    assert_eq!(cluster.status().requests.tokens, 2);
}

#[tokio::test]
async fn it_is_asked_for_again_where_the_answer_did_not_come() {
    let asked = AtomicUsize::new(0);
    let fake = Fake::start(move |_| match asked.fetch_add(1, SeqCst) {
        0 => vec![Step::Close],
        1 => status(429, "TooManyRequests", ""),
        _ => issued("planted"),
    })
    .await;
    let (cluster, _) = fake.cluster().await;
    assert!(cluster.token(ask()).await.is_ok());
    assert!(fake.seen().iter().all(|seen| seen.body == fake.seen()[0].body));
}

#[tokio::test]
async fn only_a_created_token_is_one() {
    for (answer, code) in [
        (status(403, "Forbidden", "web"), libc::EACCES),
        (status(404, "NotFound", "web"), libc::ENOENT),
        (status(404, "NotFound", "web-1"), libc::ENOENT),
        (status(409, "Conflict", "web-1"), libc::EIO),
        (answer(201, "text/html", "planted"), libc::EIO),
        (answered(200, "planted"), libc::EIO),
        (answered(202, "planted"), libc::EIO),
        (answer(201, "application/json", r#"{"status":{"token":"planted"}}"#), libc::EIO),
        (vec![Step::Hang], libc::ETIMEDOUT),
    ] {
        let answer = std::sync::Mutex::new(Some(answer));
        let fake = Fake::start(move |_| answer.lock().unwrap().take().unwrap_or_default()).await;
        let (cluster, _) = fake.cluster().await;
        let refusal: Refusal = cluster.token(ask()).await.unwrap_err();
        assert_eq!(refusal.errno(), code, "{refusal}");
        assert!(!refusal.to_string().contains("planted"), "{refusal}");
    }
}
