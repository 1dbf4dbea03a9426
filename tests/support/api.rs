//! The API server without a kubectl process for each change.

use serde_json::Value;

use super::cluster::Cluster;

/// A connection as admin.
pub struct Api {
    client: kube::Client,
    runtime: tokio::runtime::Runtime,
}

impl Api {
    pub fn of(cluster: &Cluster) -> Api {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = runtime.block_on(async {
            let file = kube::config::Kubeconfig::read_from(cluster.kubeconfig()).expect("the kubeconfig");
            let config =
                kube::Config::from_custom_kubeconfig(file, &Default::default()).await.expect("a configuration");
            kube::Client::try_from(config).expect("a client")
        });
        Api { client, runtime }
    }

    /// Makes an object of a namespace, given as in a manifest.
    #[track_caller]
    pub fn create(&self, object: &Value) {
        self.send("POST", &collection(object), serde_json::to_vec(object).expect("JSON"));
    }

    /// Writes the object anew, whatever it was.
    #[track_caller]
    pub fn replace(&self, object: &Value) {
        self.send("PUT", &path(object), serde_json::to_vec(object).expect("JSON"));
    }

    #[track_caller]
    pub fn delete(&self, object: &Value) {
        self.send("DELETE", &path(object), Vec::new());
    }

    #[track_caller]
    fn send(&self, method: &str, path: &str, body: Vec<u8>) {
        let request = http::Request::builder().method(method).uri(path).header("Content-Type", "application/json");
        let request = request.body(body).expect("a request");
        let answer = self.runtime.block_on(self.client.request::<Value>(request));
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    }
}

fn collection(object: &Value) -> String {
    let namespace = object["metadata"]["namespace"].as_str().expect("a namespace");
    let kind = object["kind"].as_str().expect("a kind").to_lowercase();
    format!("/api/v1/namespaces/{namespace}/{kind}s")
}

fn path(object: &Value) -> String {
    format!("{}/{}", collection(object), object["metadata"]["name"].as_str().expect("a name"))
}
