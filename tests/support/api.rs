//! The API server without a kubectl process for each change.

use serde_json::{Value, json};

use super::cluster::Cluster;

/// A connection as admin.
pub struct Api {
    client: kube::Client,
    runtime: tokio::runtime::Runtime,
}

/// What a body is, to the API server.
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

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
        self.must("POST", &collection(object), JSON, object);
    }

    /// Makes an object, or tells why the API server will not have it.
    pub fn try_create(&self, object: &Value) -> Result<Value, String> {
        self.send("POST", &collection(object), JSON, object).map_err(|error| error.to_string())
    }

    /// The object as it is now.
    #[track_caller]
    pub fn get(&self, object: &Value) -> Value {
        self.must("GET", &path(object), JSON, &Value::Null)
    }

    /// Writes the object anew, whatever it was.
    #[track_caller]
    pub fn replace(&self, object: &Value) {
        self.must("PUT", &path(object), JSON, object);
    }

    /// Makes the object if there is none of its name, otherwise writes it anew.
    #[track_caller]
    pub fn put(&self, object: &Value) {
        match self.send("PUT", &path(object), JSON, object) {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => self.create(object),
            // Some kinds are not written anew by who has not read them.
            Err(kube::Error::Api(status)) if status.message.contains("resourceVersion") => {
                let now = self.must("GET", &path(object), JSON, &Value::Null);
                let mut object = object.clone();
                object["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"].clone();
                self.replace(&object);
            }
            Err(error) => panic!("PUT {}: {error}", path(object)),
        }
    }

    /// Changes fields of an object; null removes one.
    #[track_caller]
    pub fn merge(&self, object: &Value, patch: &Value) {
        self.must("PATCH", &path(object), MERGE, patch);
    }

    /// Changes an object's status.
    #[track_caller]
    pub fn merge_status(&self, object: &Value, status: &Value) {
        self.must("PATCH", &format!("{}/status", path(object)), MERGE, &json!({"status": status}));
    }

    /// Adds an ephemeral container to a pod, as `kubectl debug` does.
    #[track_caller]
    pub fn add_ephemeral(&self, pod: &Value, container: &Value) {
        let patch = json!({"spec": {"ephemeralContainers": [container]}});
        self.must("PATCH", &format!("{}/ephemeralcontainers", path(pod)), STRATEGIC, &patch);
    }

    /// At once, even a pod that is on a node: nobody here ends a pod's containers, or lets go of a job's pods.
    #[track_caller]
    pub fn delete(&self, object: &Value) {
        let how = json!({"gracePeriodSeconds": 0, "propagationPolicy": "Background"});
        self.must("DELETE", &path(object), JSON, &how);
    }

    /// The same, of an object that may be gone.
    #[track_caller]
    pub fn ensure_gone(&self, object: &Value) {
        match self.send("DELETE", &path(object), JSON, &json!({"gracePeriodSeconds": 0})) {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => panic!("DELETE {}: {error}", path(object)),
        }
    }

    #[track_caller]
    fn must(&self, method: &str, path: &str, kind: &str, body: &Value) -> Value {
        self.send(method, path, kind, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn send(&self, method: &str, path: &str, kind: &str, body: &Value) -> Result<Value, kube::Error> {
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).expect("JSON") };
        let request = http::Request::builder().method(method).uri(path).header("Content-Type", kind);
        let request = request.body(body).expect("a request");
        self.runtime.block_on(self.client.request::<Value>(request))
    }
}

fn collection(object: &Value) -> String {
    let kind = object["kind"].as_str().expect("a kind").to_lowercase();
    let version = object["apiVersion"].as_str().unwrap_or("v1");
    let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{kind}s"),
        None => format!("{root}/{kind}s"),
    }
}

fn path(object: &Value) -> String {
    format!("{}/{}", collection(object), object["metadata"]["name"].as_str().expect("a name"))
}
