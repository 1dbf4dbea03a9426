//! Kubeconfigs as a test wants them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// One context, with a cluster and a user of the same name.
#[derive(Clone, Debug)]
pub struct Context {
    pub name: String,
    pub server: String,
    /// PEM.
    pub ca: String,
    pub token: String,
    pub namespace: String,
}

/// A kubeconfig with these contexts, of which the first is the current one.
pub fn kubeconfig(contexts: &[Context]) -> String {
    let named = |what: &str, entry: &dyn Fn(&Context) -> Value| {
        contexts.iter().map(|context| json!({"name": context.name, (what): entry(context)})).collect::<Value>()
    };
    // JSON is YAML.
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": named("cluster", &|context| json!({
            "server": context.server,
            "certificate-authority-data": BASE64_STANDARD.encode(&context.ca),
        })),
        "users": named("user", &|context| json!({"token": context.token})),
        "contexts": named("context", &|context| json!({
            "cluster": context.name, "user": context.name, "namespace": context.namespace,
        })),
        "current-context": contexts[0].name,
    })
    .to_string()
}
