//! Service account tokens, of which no two are the same.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde_json::{Value, json};

use super::snapshot::Entry;

/// What a token says, if it is one.
pub fn claims(bytes: &[u8]) -> Option<Value> {
    let mut parts = std::str::from_utf8(bytes).ok()?.split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    claims["kubernetes.io"].is_object().then_some(claims)
}

/// The seconds that a token lives.
pub fn life(claims: &Value) -> i64 {
    claims["exp"].as_i64().unwrap_or_default() - claims["iat"].as_i64().unwrap_or_default()
}

/// Puts in place of each token in a tree what it says, but for the moment of its making. Two trees whose tokens were
/// asked for in the same way are then equal.
pub fn claims_for_tokens(tree: &mut BTreeMap<String, Entry>) {
    for entry in tree.values_mut() {
        let Some(mut claims) = claims(&entry.content) else { continue };
        let life = life(&claims);
        let iat = claims["iat"].as_i64().unwrap_or_default();
        for name in ["iat", "nbf", "exp", "jti"] {
            claims[name] = Value::Null;
        }
        claims["life"] = json!(life);
        if let Some(warn_after) = claims["kubernetes.io"]["warnafter"].as_i64() {
            claims["kubernetes.io"]["warnafter"] = json!(warn_after - iat);
        }
        entry.content = claims.to_string().into_bytes();
    }
}
