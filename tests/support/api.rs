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

    /// Makes an object, given as in a manifest.
    #[track_caller]
    pub fn create(&self, object: &Value) {
        self.send("POST", &collection(object), JSON, serde_json::to_vec(object).expect("JSON"));
    }

    /// Asks a question that is put as an object, and gives the answer's status.
    #[track_caller]
    pub fn review(&self, question: &Value) -> Value {
        let question_json = serde_json::to_vec(question).expect("JSON");
        self.send("POST", &collection(question), JSON, question_json)["status"].clone()
    }

    /// The object as it is now.
    #[track_caller]
    pub fn get(&self, object: &Value) -> Value {
        self.send("GET", &path(object), JSON, Vec::new())
    }

    /// Writes the object anew, whatever it was.
    #[track_caller]
    pub fn replace(&self, object: &Value) {
        self.send("PUT", &path(object), JSON, serde_json::to_vec(object).expect("JSON"));
    }

    /// Changes the fields of the object that are in `fields`.
    #[track_caller]
    pub fn merge(&self, object: &Value, fields: &Value) {
        let merge = "application/merge-patch+json";
        self.send("PATCH", &path(object), merge, serde_json::to_vec(fields).expect("JSON"));
    }

    /// Removes it at once: nobody here ends a pod's containers, or lets go of a job's pods.
    #[track_caller]
    pub fn delete(&self, object: &Value) {
        self.send(
            "DELETE",
            &format!("{}?gracePeriodSeconds=0&propagationPolicy=Background", path(object)),
            JSON,
            Vec::new(),
        );
    }

    #[track_caller]
    fn send(&self, method: &str, path: &str, content: &str, body: Vec<u8>) -> Value {
        let request = http::Request::builder().method(method).uri(path).header("Content-Type", content);
        let request = request.body(body).expect("a request");
        let answer = self.runtime.block_on(self.client.request::<Value>(request));
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }
}

const JSON: &str = "application/json";

fn collection(object: &Value) -> String {
    let version = object["apiVersion"].as_str().expect("an apiVersion");
    let root = if version.contains('/') { "apis" } else { "api" };
    let plural = object["kind"].as_str().expect("a kind").to_lowercase() + "s";
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("/{root}/{version}/namespaces/{namespace}/{plural}"),
        None => format!("/{root}/{version}/{plural}"),
    }
}

fn path(object: &Value) -> String {
    format!("{}/{}", collection(object), object["metadata"]["name"].as_str().expect("a name"))
}
