//! Lean, validated Kubernetes objects: identity plus what a volume needs, values in wiped memory.
//!
//! Nothing here knows where an object came from (see [`crate::source`]) or how it is shown (see [`crate::volume`]).

mod decode;
mod name;
mod value;

pub use decode::{
    DecodeError, MAX_OBJECT_JSON, Page, Versioned, meta_from_json, meta_page_from_json, namespace_from_json,
    namespace_page_from_json, object_from_json, object_meta_from_json, object_page_from_json, version_from_json,
};
pub use name::{InvalidName, Key, Name, Namespace};
pub use value::Value;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

/// The sum of the sizes of all values of one object may not exceed this, in bytes.
/// Source: `MaxSecretSize` in Kubernetes' pkg/apis/core/types.go; ConfigMaps have the same limit.
pub const MAX_DATA_BYTES: usize = 1 << 20;

/// The kinds of objects whose keys become files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Secret,
    ConfigMap,
}

impl Kind {
    pub const ALL: [Kind; 2] = [Kind::Secret, Kind::ConfigMap];

    /// The resource name in API paths and RBAC rules, and the directory name of the kind level: `secrets`.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::Secret => "secrets",
            Kind::ConfigMap => "configmaps",
        }
    }

    /// The `kind:` of a manifest.
    pub fn api_kind(self) -> &'static str {
        match self {
            Kind::Secret => "Secret",
            Kind::ConfigMap => "ConfigMap",
        }
    }

    /// The short singular that users type and that messages show: `secret/NAME`, `cm/NAME`.
    pub fn short(self) -> &'static str {
        match self {
            Kind::Secret => "secret",
            Kind::ConfigMap => "cm",
        }
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    /// Accepts what kubectl accepts: singular, plural and short names, in any case.
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        match text.to_ascii_lowercase().as_str() {
            "secret" | "secrets" => Ok(Kind::Secret),
            "configmap" | "configmaps" | "cm" => Ok(Kind::ConfigMap),
            _ => Err(UnknownKind(text.to_owned())),
        }
    }
}

/// Indicates a kind that has no files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind {0:?}: use secret or configmap (cm)")]
pub struct UnknownKind(pub String);

/// What names one object: kind, namespace and name. Two objects with the same id may still differ in uid,
/// when one was deleted and another created.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    pub namespace: Namespace,
    pub kind: Kind,
    pub name: Name,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.kind.short(), self.name)
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

/// One Secret or ConfigMap with its values.
#[derive(Clone, Debug)]
pub struct Object {
    pub meta: Meta,
    /// `data` and, for ConfigMaps, `binaryData`, decoded.
    pub data: BTreeMap<Key, Value>,
    /// Once true the API server refuses any change of the data.
    pub immutable: bool,
}

impl Object {
    pub fn id(&self) -> &ObjectId {
        &self.meta.id
    }

    /// Sum of the sizes of all values, in bytes.
    pub fn data_bytes(&self) -> usize {
        self.data.values().map(|value| value.len()).sum()
    }
}
