//! Lean, validated Kubernetes objects: identity plus what a volume needs, values in wiped memory.
//!
//! Nothing here knows where an object came from (see [`crate::source`]) or how it is shown (see [`crate::volume`]).

mod decode;
mod kind;
mod name;
pub mod pod;
pub mod selector;
mod token;
mod value;

pub use decode::{
    DecodeError, MAX_OBJECT_JSON, Page, Versioned, body_from_value, meta_from_json, meta_page_from_json,
    namespace_from_json, namespace_page_from_json, object_from_json, object_meta_from_json, object_page_from_json,
    version_from_json,
};
pub use kind::{Kind, UnknownKind};
pub use name::{InvalidName, Key, Name, Namespace};
pub use pod::{Pod, Quantity};
pub use token::{Token, TokenAsk};
pub use value::Value;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// The sum of the sizes of all values of one object may not exceed this, in bytes.
/// Source: `MaxSecretSize` in Kubernetes' pkg/apis/core/types.go; ConfigMaps have the same limit.
pub const MAX_DATA_BYTES: usize = 1 << 20;

/// What names one object: kind, namespace and name. Two objects with the same id may still differ in uid,
/// when one was deleted and another created.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    pub namespace: Namespace,
    pub kind: Kind,
    pub name: Name,
}

impl ObjectId {
    /// Whether it is of that kind and in that namespace, or in any.
    pub fn is_of(&self, kind: Kind, namespace: Option<&Namespace>) -> bool {
        self.kind == kind && namespace.is_none_or(|wanted| *wanted == self.namespace)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind.is_namespaced() {
            true => write!(f, "{}/{}/{}", self.namespace, self.kind.short(), self.name),
            false => write!(f, "{}/{}", self.kind.short(), self.name),
        }
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What is known of an object without its values. It never holds annotations or managedFields:
/// `kubectl apply` keeps a copy of a Secret's data in an annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    pub id: ObjectId,
    /// Identity across deletion and creation under the same name; opaque.
    pub uid: Arc<str>,
    /// Opaque; equal means unchanged. Manifests use a counter of their own.
    pub version: Arc<str>,
    /// `metadata.creationTimestamp`; for manifests the modification time of the file.
    pub created: SystemTime,
}

/// One object, all that is read of it.
#[derive(Clone, Debug)]
pub struct Object {
    pub meta: Meta,
    pub body: Body,
}

/// What an object says, by its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A Secret or ConfigMap.
    Data(Data),
    /// A pod, or the template of a workload's pods.
    Pod(Box<Pod>),
    ServiceAccount {
        automount: Option<bool>,
    },
    TrustBundle(TrustBundle),
    Node {
        /// By resource: what its containers may use in sum.
        allocatable: BTreeMap<String, Quantity>,
    },
}

/// The values of a Secret or ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Data {
    /// `data` and, for ConfigMaps, `binaryData`, decoded.
    pub values: BTreeMap<Key, Value>,
    /// Which of them are of `binaryData`: files, but never variables.
    pub binary: BTreeSet<Key>,
    /// Once true the API server refuses any change of the data.
    pub immutable: bool,
}

/// What a ClusterTrustBundle holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustBundle {
    pub labels: BTreeMap<String, String>,
    /// Empty: linked to no signer.
    pub signer: String,
    /// Certificates in PEM.
    pub certificates: String,
}

/// What the uid of an object that stands in a manifest begins with. Those of an API server are UUIDs.
const DECLARED: &str = "manifest:";

impl Meta {
    /// The uid of an object that stands in a manifest. Every definition of an object is the same object: an edited file is an
    /// update, not a deletion and a creation.
    pub fn declared_uid(id: &ObjectId) -> Arc<str> {
        format!("{DECLARED}{id}").into()
    }

    /// Whether the object stands in a manifest, and no API server has admitted it.
    pub fn is_declared(&self) -> bool {
        self.uid.starts_with(DECLARED)
    }
}

impl Object {
    pub fn id(&self) -> &ObjectId {
        &self.meta.id
    }

    /// The values by key; of other kinds than Secrets and ConfigMaps none.
    pub fn data(&self) -> &BTreeMap<Key, Value> {
        static NONE: BTreeMap<Key, Value> = BTreeMap::new();
        match &self.body {
            Body::Data(data) => &data.values,
            _ => &NONE,
        }
    }

    /// The values that can be variables, by key.
    pub fn texts(&self) -> impl Iterator<Item = (&Key, &Value)> {
        let binary = match &self.body {
            Body::Data(data) => Some(&data.binary),
            _ => None,
        };
        self.data().iter().filter(move |(key, _)| binary.is_none_or(|binary| !binary.contains(*key)))
    }

    /// The pod that it is or makes.
    pub fn pod(&self) -> Option<&Pod> {
        match &self.body {
            Body::Pod(pod) => Some(pod),
            _ => None,
        }
    }

    /// Sum of the sizes of all values, in bytes.
    pub fn data_bytes(&self) -> usize {
        self.data().values().map(|value| value.len()).sum()
    }
}
