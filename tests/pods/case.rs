//! A pod with the objects that its volumes show, and what becomes of them, as data.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use serde_json::{Value, json};

/// Stands for the namespace of a case in all its texts: what is not in a namespace has it in its name.
const NAMESPACE: &str = "%NS%";

/// Stand for certificates, PEM: `%CERTIFICATE-1%` and so on.
const CERTIFICATES: usize = 3;

/// The node that pods are on, and the only container of a pod that names none.
pub const NODE: &str = "n1";
pub const CONTAINER: &str = "c";

/// One pod's life.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it shows, in a few words with hyphens.
    pub name: String,
    /// ConfigMaps, Secrets and others, as in manifests; those of a namespace without it.
    pub objects: Vec<Value>,
    pub pod: Value,
    /// Set when the pod is there, as a kubelet does: its addresses.
    pub status: Option<Value>,
    /// A part of what the API server says when it refuses the pod, or an object.
    pub rejected: Option<String>,
    /// Nothing where it is not known.
    pub first: Option<Outcome>,
    pub steps: Vec<Step>,
}

/// What happens at once, between two passes of the kubelet.
#[derive(Clone, Debug)]
pub struct Step {
    pub changes: Vec<Change>,
    pub outcome: Option<Outcome>,
}

#[derive(Clone, Debug)]
pub enum Change {
    /// An object is made, or written anew.
    Put(Value),
    /// An object goes, if it is there; only its kind and name count.
    Delete(Value),
    /// A merge patch for the pod: labels and annotations.
    Pod(Value),
    /// An ephemeral container joins.
    Ephemeral(Value),
    /// A container ends and starts again.
    Restart(String),
}

/// What is known of the state that the kubelet then leaves, from its documentation and tests. That all else is the same
/// as the kubelet's is for comparisons to show.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Volumes that it cannot set up or refresh, and a part of what it says; all others are well.
    pub refused: BTreeMap<String, String>,
    /// Containers that do not start, and a part of why; all others do.
    pub stopped: BTreeMap<String, String>,
    /// CONTAINER/PATH, and what a read of it gives; nothing for what is not there.
    pub reads: BTreeMap<String, Option<Vec<u8>>>,
    /// CONTAINER/PATH, and "MODE UID:GID" of what it leads to.
    pub stats: BTreeMap<String, String>,
    /// The same of the name itself.
    pub lstats: BTreeMap<String, String>,
    /// CONTAINER/PATH of a directory, and the names in it, generations as `..TS`.
    pub lists: BTreeMap<String, Vec<String>>,
}

impl Case {
    /// The same case with whole volumes where it mounts parts.
    pub fn without_parts(&self) -> Case {
        let mut case = self.clone();
        for kind in ["containers", "initContainers"] {
            for container in case.pod["spec"][kind].as_array_mut().into_iter().flatten() {
                for mount in container["volumeMounts"].as_array_mut().into_iter().flatten() {
                    let mount = mount.as_object_mut().expect("a mount");
                    mount.retain(|field, _| !field.starts_with("subPath"));
                }
            }
        }
        case
    }

    /// The same case in this namespace.
    pub fn within(&self, namespace: &str) -> Case {
        let put = |text: &str| filled_in(text, namespace);
        let place = |value: &Value| placed(value, namespace);
        let keys = |map: &BTreeMap<String, String>| -> BTreeMap<String, String> {
            map.iter().map(|(key, value)| (put(key), put(value))).collect()
        };
        let outcome = |outcome: &Outcome| Outcome {
            refused: keys(&outcome.refused),
            stopped: keys(&outcome.stopped),
            reads: outcome
                .reads
                .iter()
                .map(|(path, bytes)| {
                    (
                        path.clone(),
                        bytes.as_ref().map(|bytes| match std::str::from_utf8(bytes) {
                            Ok(text) => put(text).into_bytes(),
                            Err(_) => bytes.clone(),
                        }),
                    )
                })
                .collect(),
            ..outcome.clone()
        };
        let change = |change: &Change| match change {
            Change::Put(object) => Change::Put(place(object)),
            Change::Delete(object) => Change::Delete(place(object)),
            Change::Pod(patch) => Change::Pod(replaced(patch, namespace)),
            Change::Ephemeral(container) => Change::Ephemeral(replaced(container, namespace)),
            Change::Restart(container) => Change::Restart(container.clone()),
        };
        Case {
            name: self.name.clone(),
            objects: self.objects.iter().map(place).collect(),
            pod: place(&self.pod),
            status: self.status.as_ref().map(|status| replaced(status, namespace)),
            rejected: self.rejected.as_deref().map(put),
            first: self.first.as_ref().map(outcome),
            steps: self
                .steps
                .iter()
                .map(|step| Step {
                    changes: step.changes.iter().map(change).collect(),
                    outcome: step.outcome.as_ref().map(outcome),
                })
                .collect(),
        }
    }

    /// All objects that the case ever makes.
    pub fn all_objects(&self) -> Vec<&Value> {
        let put = self.steps.iter().flat_map(|step| &step.changes).filter_map(|change| match change {
            Change::Put(object) => Some(object),
            _ => None,
        });
        self.objects.iter().chain(put).collect()
    }
}

/// As JSON, to be read by people.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.name)?;
        self.objects.iter().try_for_each(|object| writeln!(f, "{object}"))?;
        writeln!(f, "{:#}", self.pod)?;
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "step {}: {:?}", number + 1, step.changes)?;
        }
        Ok(())
    }
}

/// A ConfigMap, Secret or other object of core/v1 without content, for what takes only its name.
pub fn reference(kind: &str, name: &str) -> Value {
    let version = match kind {
        "ClusterTrustBundle" => "certificates.k8s.io/v1",
        _ => "v1",
    };
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}})
}

/// In its namespace, if its kind has one.
fn placed(object: &Value, namespace: &str) -> Value {
    let mut object = replaced(object, namespace);
    let clusters = ["ClusterTrustBundle", "Node"];
    if !clusters.iter().any(|kind| object["kind"] == *kind) && object["metadata"]["namespace"].is_null() {
        object["metadata"]["namespace"] = namespace.into();
    }
    object
}

/// With all texts filled in.
fn replaced(value: &Value, namespace: &str) -> Value {
    match value {
        Value::String(text) => filled_in(text, namespace).into(),
        Value::Array(all) => all.iter().map(|one| replaced(one, namespace)).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (filled_in(name, namespace), replaced(value, namespace)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

fn filled_in(text: &str, namespace: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let certificates = certificates().iter().enumerate();
    certificates.fold(text.replace(NAMESPACE, namespace), |text, (number, pem)| {
        text.replace(&format!("%CERTIFICATE-{}%", number + 1), pem)
    })
}

/// As the kubelet writes them: with a line break at the end.
fn certificates() -> &'static [String; CERTIFICATES] {
    static ALL: OnceLock<[String; CERTIFICATES]> = OnceLock::new();
    let new = |number| {
        let mut params = rcgen::CertificateParams::new([format!("{number}.example.com")]).expect("a name");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").pem().replace("\r\n", "\n")
    };
    ALL.get_or_init(|| std::array::from_fn(new))
}
