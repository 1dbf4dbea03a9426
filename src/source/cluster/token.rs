//! Service account tokens by TokenRequest (authentication.k8s.io/v1), as the kubelet gets them.

use std::time::{Duration, SystemTime};

use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;

use super::client::Client;
use super::failure::Failure;
use super::request;
use crate::object::{DecodeError, Value};
use crate::source::{Token, TokenAsk};
use crate::store::Refusal;

/// Asks for a new token.
pub async fn issue(client: &Client, ask: &TokenAsk) -> Result<Token, Refusal> {
    let answer = match client.read(&request::token(ask)).await {
        Ok(body) => token_from_json(body.as_slice()).map_err(Failure::from),
        Err(failure) => Err(failure),
    };
    answer.map_err(|failure| refusal(ask, failure, client.server()))
}

fn refusal(ask: &TokenAsk, failure: Failure, server: &str) -> Refusal {
    let TokenAsk { namespace, service_account, pod, .. } = ask;
    let account = format!("{namespace}/sa/{service_account}");
    if failure.is_not_found(service_account.as_str()) {
        return Refusal::NotFound { what: account };
    }
    let what = format!("a token of {account}");
    let Some((pod, uid)) = pod else { return failure.refusal(what, server) };
    let why = match &failure {
        failure if failure.is_not_found(pod.as_str()) => {
            return Refusal::NotFound { what: format!("{namespace}/pod/{pod}") };
        }
        Failure::Status { code: 409, .. } => format!("the pod {pod} is no longer the one of uid {uid}"),
        Failure::Status { code: 400, .. } => {
            format!("the API server binds none to the pod {pod}: does it run as another?")
        }
        _ => return failure.refusal(format!("{what} for pod {pod}"), server),
    };
    Refusal::Unavailable { what, why }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenRequest<'a> {
    kind: &'a str,
    api_version: &'a str,
    spec: Spec,
    #[serde(borrow)]
    status: Status<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    expiration_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    // Borrowed, so never copied but into wiped memory: nothing in a token needs an escape.
    token: &'a str,
    expiration_timestamp: &'a str,
}

const KIND: &str = "TokenRequest";

fn token_from_json(bytes: &[u8]) -> Result<Token, DecodeError> {
    let invalid = |field| DecodeError::Invalid { kind: KIND, field };
    // serde_json's own message quotes the input.
    let json: TokenRequest = serde_json::from_slice(bytes).map_err(|error| DecodeError::Json {
        kind: KIND,
        line: error.line(),
        column: error.column(),
    })?;
    if (json.kind, json.api_version) != (KIND, "authentication.k8s.io/v1") {
        return Err(DecodeError::OtherKind { expected: KIND, version: "authentication.k8s.io/v1" });
    }
    if json.status.token.is_empty() {
        return Err(DecodeError::Missing { kind: KIND, field: "status.token" });
    }
    let expires: Timestamp =
        json.status.expiration_timestamp.parse().map_err(|_| invalid("status.expirationTimestamp"))?;
    Ok(Token {
        value: Value::copy_of(json.status.token.as_bytes()),
        issued: SystemTime::now(),
        expires: expires.into(),
        lifetime: json.spec.expiration_seconds.map(Duration::from_secs),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Name, Namespace};
    use serde_json::{Value as Json, json};

    fn answer() -> Json {
        json!({
            "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": {"name": "web"},
            "spec": {"audiences": ["a"], "expirationSeconds": 3607, "boundObjectRef": null},
            "status": {"token": "planted", "expirationTimestamp": "2026-01-02T03:04:05Z"},
        })
    }

    #[test]
    fn an_answer_gives_the_token_and_what_its_renewal_depends_on() {
        let token = token_from_json(answer().to_string().as_bytes()).unwrap();
        assert_eq!(token.value.as_bytes(), b"planted");
        assert_eq!(token.lifetime, Some(Duration::from_secs(3607)));
        assert_eq!(token.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 1_767_323_045);
        assert!(!format!("{token:?}").contains("planted"));
        let mut endless = answer();
        endless["spec"]["expirationSeconds"] = Json::Null;
        assert_eq!(token_from_json(endless.to_string().as_bytes()).unwrap().lifetime, None);
    }

    #[test]
    fn anything_else_is_refused_without_a_word_of_it() {
        let mut bad = vec![json!({}), json!({"kind": "Status", "status": "planted"})];
        for (field, value) in [
            ("/kind", json!("Secret")),
            ("/status/token", json!("")),
            ("/status/token", json!("planted\n")),
            ("/status/expirationTimestamp", json!("planted")),
            ("/spec/expirationSeconds", json!("planted")),
        ] {
            let mut json = answer();
            *json.pointer_mut(field).unwrap() = value;
            bad.push(json);
        }
        for json in bad {
            let error = token_from_json(json.to_string().as_bytes()).unwrap_err().to_string();
            assert!(!error.contains("planted"), "{error}");
        }
    }

    #[test]
    fn a_refusal_names_what_is_missing() {
        let ask = TokenAsk {
            namespace: Namespace::new("prod").unwrap(),
            service_account: Name::new("web").unwrap(),
            audience: String::new(),
            expiration_seconds: 3607,
            pod: Some((Name::new("web-1").unwrap(), "uid-1".into())),
        };
        let tell = |code, reason, name: &str| {
            let failure = Failure::Status { code, reason, name: Some(name.to_owned()), retry_after: None };
            refusal(&ask, failure, "https://api").to_string()
        };
        assert!(tell(404, "NotFound", "web").starts_with("prod/sa/web was not found"));
        assert!(tell(404, "NotFound", "web-1").starts_with("prod/pod/web-1 was not found"));
        assert!(tell(409, "Conflict", "web-1").contains("no longer the one of uid uid-1"));
        assert!(tell(403, "Forbidden", "web").starts_with("a token of prod/sa/web for pod web-1: access denied"));
    }
}
