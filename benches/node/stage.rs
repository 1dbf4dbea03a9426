//! A node with as many pods as a kubelet takes by default, each with the volumes that pods have.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::bare::Client;
use crate::support::cluster::Cluster;

pub const NODE: &str = "n1";
/// The kubelet's default for `maxPods` is 110.
const NAMESPACES: usize = 10;
const PODS: usize = 11;
/// Secrets that all pods of a namespace mount together. With each pod's own Secret and ConfigMap, and the certificate of the
/// API server that is in each namespace, these are 300 objects.
const SHARED: usize = 7;
const KEYS: [&str; 3] = ["username", "password", "url"];
/// In each pod: three keys of its Secret and of its ConfigMap, one of each shared Secret with the labels, and the token,
/// certificate and namespace that admission adds.
const FILES: usize = 3 + 3 + SHARED + 1 + 3;

pub const CONTAINER: &str = "app";
/// Where the pod's own Secret is mounted.
pub const OWN: &str = "etc/own";

/// What is on the node.
pub struct Node {
    /// Paths at the API server.
    pub objects: Vec<String>,
    pub pods: Vec<Pod>,
}

pub struct Pod {
    pub namespace: String,
    pub name: String,
}

impl Node {
    pub fn make(cluster: &Cluster) -> Node {
        let mut api = Client::connect(cluster);
        let mut node = Node { objects: Vec::new(), pods: Vec::new() };
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
        api.create("/api/v1/nodes", &object);
        for number in 0..NAMESPACES {
            node.make_namespace(&mut api, &format!("team-{number}"), &cluster.ca());
        }
        node
    }

    pub fn describe(&self) -> String {
        let (pods, objects) = (self.pods.len(), self.objects.len());
        format!("{pods} pods that mount {objects} Secrets and ConfigMaps, 3 keys of 100 bytes each, and a token each")
    }

    /// How many files a reader finds.
    pub fn files(&self) -> usize {
        self.pods.len() * FILES
    }

    fn make_namespace(&mut self, api: &mut Client, namespace: &str, ca: &str) {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        api.create("/api/v1/namespaces", &object);
        // What controllers make in a whole cluster.
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        api.create(&format!("/api/v1/namespaces/{namespace}/serviceaccounts"), &account);
        self.make_object(api, namespace, "ConfigMap", "kube-root-ca.crt", json!({"ca.crt": ca}));
        for number in 0..SHARED {
            self.make_object(
                api,
                namespace,
                "Secret",
                &format!("shared-{number}"),
                data(namespace, |value| STANDARD.encode(value)),
            );
        }
        for number in 0..PODS {
            let pod = Pod { namespace: namespace.to_owned(), name: format!("pod-{number}") };
            self.make_object(api, namespace, "Secret", &pod.name, data(namespace, |value| STANDARD.encode(value)));
            self.make_object(api, namespace, "ConfigMap", &pod.name, data(namespace, |value| value));
            api.create(&format!("/api/v1/namespaces/{namespace}/pods"), &pod.manifest());
            self.pods.push(pod);
        }
    }

    fn make_object(&mut self, api: &mut Client, namespace: &str, kind: &str, name: &str, data: Value) {
        let collection = format!("/api/v1/namespaces/{namespace}/{}s", kind.to_lowercase());
        let object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "data": data});
        api.create(&collection, &object);
        self.objects.push(format!("{collection}/{name}"));
    }
}

fn data(namespace: &str, encode: impl Fn(String) -> String) -> Value {
    let value = |key: &str| (key.to_owned(), encode(format!("{:.<100}", format!("the {key} of {namespace} "))).into());
    KEYS.map(value).into_iter().collect::<Map<_, _>>().into()
}

impl Pod {
    fn manifest(&self) -> Value {
        let shared = |number: usize| {
            let item = json!({"key": "url", "path": format!("shared-{number}")});
            json!({"secret": {"name": format!("shared-{number}"), "items": [item]}})
        };
        let labels =
            json!({"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}});
        let sources: Vec<Value> = (0..SHARED).map(shared).chain([labels]).collect();
        let mounts =
            [("own", format!("/{OWN}")), ("settings", "/etc/settings".into()), ("shared", "/etc/shared".into())];
        let mounts = mounts.map(|(name, path)| json!({"name": name, "mountPath": path, "readOnly": true}));
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": self.name, "labels": {"app": self.name}},
            "spec": {
                "nodeName": NODE,
                "containers": [{"name": CONTAINER, "image": "i", "volumeMounts": mounts}],
                "volumes": [
                    {"name": "own", "secret": {"secretName": self.name}},
                    {"name": "settings", "configMap": {"name": self.name}},
                    {"name": "shared", "projected": {"sources": sources}},
                ],
            },
        })
    }

    /// Where the container's root is in a view of the node.
    pub fn in_view(&self) -> PathBuf {
        [&self.namespace, &self.name, CONTAINER].iter().collect()
    }
}
