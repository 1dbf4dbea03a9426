//! From the API server's JSON to an [`Object`] or a [`Meta`], base64 decoded straight into wiped memory.
//!
//! The structs below hold borrowed text and name only the fields that are used: annotations and managedFields are skipped
//! by the parser and never copied (`kubectl apply` keeps a Secret's data in an annotation). Whatever comes from a server
//! may be a lie, so identity is required, names are checked, and every size has a limit. `{}` is not a Secret.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;

use super::{Body, Data, Key, Kind, MAX_DATA_BYTES, Meta, Name, Namespace, Object, ObjectId, Value};
use crate::memory::Wiped;
use text::{Entries, Text};

mod body;
mod text;

pub use body::body_from_value;

/// The longest JSON of one object that is decoded, in bytes. A ConfigMap of 1 MiB needs 6 MiB if each of its bytes is
/// written as `\u0000`; annotations (256 KiB) and managedFields come on top. serde_json bounds the nesting.
pub const MAX_OBJECT_JSON: usize = 8 << 20;

/// Why bytes are not the object that was asked for. No variant carries any part of the input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Indicates bytes that are not the JSON of such an object.
    #[error("not a valid {kind} in JSON, at line {line} column {column}")]
    Json { kind: &'static str, line: usize, column: usize },
    /// Indicates the JSON of something else.
    #[error("not a {expected} of API version {version}")]
    OtherKind { expected: &'static str, version: &'static str },
    /// Indicates an object without a field that the API server always sets.
    #[error("a {kind} without {field}")]
    Missing { kind: &'static str, field: &'static str },
    /// Indicates a field with a value that the API server cannot have issued.
    #[error("a {kind} with an invalid {field}")]
    Invalid { kind: &'static str, field: &'static str },
    /// Indicates more data than the API server accepts in one object, or more JSON than that can need.
    #[error("a {kind} of more than {limit} bytes")]
    TooLarge { kind: &'static str, limit: usize },
}

/// One page of a list, and how to go on.
#[derive(Debug)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The list's resourceVersion: what a watch begins with.
    pub version: Arc<str>,
    /// The continue token, if there are more pages.
    pub next: Option<String>,
}

/// A thing of which only the name is kept, and the version that its watch goes on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    pub item: T,
    pub version: Arc<str>,
}

/// Decodes one object of `kind`, as `GET` answers it or as a watch event holds it.
pub fn object_from_json(kind: Kind, bytes: &[u8]) -> Result<Object, DecodeError> {
    let name = kind.api_kind();
    if bytes.len() > MAX_OBJECT_JSON {
        return Err(DecodeError::TooLarge { kind: name, limit: MAX_OBJECT_JSON });
    }
    if !kind.has_data() {
        return body::object(kind, PartialJson::alone(name, kind.api_version(), bytes)?, bytes);
    }
    let json: ObjectJson = parse(name, bytes)?;
    require(&json.kind, &json.api_version, name, "v1")?;
    json.object(kind)
}

/// Decodes a page of a list of whole objects of `kind`, whose length the caller has bounded.
pub fn object_page_from_json(kind: Kind, bytes: &[u8]) -> Result<Page<Object>, DecodeError> {
    // Items of a list do not repeat its kind.
    match kind {
        Kind::Secret => page_from_json("SecretList", "v1", bytes, |json: ObjectJson| json.object(kind)),
        Kind::ConfigMap => page_from_json("ConfigMapList", "v1", bytes, |json: ObjectJson| json.object(kind)),
        Kind::Pod => page_from_json("PodList", "v1", bytes, |json| body::item(kind, json)),
        Kind::ClusterTrustBundle => {
            page_from_json("ClusterTrustBundleList", kind.api_version(), bytes, |json| body::item(kind, json))
        }
        _ => Err(DecodeError::OtherKind { expected: "list of whole objects", version: "v1" }),
    }
}

/// Decodes the metadata of one object of `kind` and passes over its values, which a deleted object still has.
pub fn object_meta_from_json(kind: Kind, bytes: &[u8]) -> Result<Meta, DecodeError> {
    let name = kind.api_kind();
    PartialJson::alone(name, kind.api_version(), bytes)?.meta(kind, &mut None)
}

/// Decodes the metadata of one object, as a metadata watch holds it (`PartialObjectMetadata`).
pub fn meta_from_json(kind: Kind, bytes: &[u8]) -> Result<Meta, DecodeError> {
    PartialJson::alone(PARTIAL, META_V1, bytes)?.meta(kind, &mut None)
}

/// Decodes a page of a metadata list (`PartialObjectMetadataList`).
pub fn meta_page_from_json(kind: Kind, bytes: &[u8]) -> Result<Page<Meta>, DecodeError> {
    // Lists come sorted by namespace: its name is stored once for a run of objects.
    let mut last = None;
    page_from_json(PARTIAL_LIST, META_V1, bytes, |json: PartialJson| json.listed()?.meta(kind, &mut last))
}

/// Decodes the metadata of one namespace.
pub fn namespace_from_json(bytes: &[u8]) -> Result<Versioned<Namespace>, DecodeError> {
    let metadata = PartialJson::alone(PARTIAL, META_V1, bytes)?;
    Ok(Versioned { item: metadata.namespace_name()?, version: metadata.version("Namespace")? })
}

/// Decodes a page of a metadata list of namespaces.
pub fn namespace_page_from_json(bytes: &[u8]) -> Result<Page<Namespace>, DecodeError> {
    page_from_json(PARTIAL_LIST, META_V1, bytes, |json: PartialJson| json.listed()?.namespace_name())
}

/// Reads nothing but `metadata.resourceVersion`, which is all that a bookmark has.
pub fn version_from_json(bytes: &[u8]) -> Result<Arc<str>, DecodeError> {
    let json: PartialJson = parse("bookmark", bytes)?;
    json.metadata.ok_or(DecodeError::Missing { kind: "bookmark", field: "metadata" })?.version("bookmark")
}

const PARTIAL: &str = "PartialObjectMetadata";
const PARTIAL_LIST: &str = "PartialObjectMetadataList";
const META_V1: &str = "meta.k8s.io/v1";

#[derive(Deserialize)]
struct ObjectJson<'a> {
    #[serde(borrow, rename = "apiVersion")]
    api_version: Option<Text<'a>>,
    #[serde(borrow)]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    metadata: Option<MetadataJson<'a>>,
    #[serde(borrow)]
    data: Option<Entries<'a>>,
    #[serde(borrow, rename = "binaryData")]
    binary_data: Option<Entries<'a>>,
    immutable: Option<bool>,
}

/// An object of which only the metadata is of interest, alone or in a list.
#[derive(Deserialize)]
struct PartialJson<'a> {
    #[serde(borrow, rename = "apiVersion")]
    api_version: Option<Text<'a>>,
    #[serde(borrow)]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    metadata: Option<MetadataJson<'a>>,
}

#[derive(Deserialize)]
struct PageJson<'a, T> {
    #[serde(borrow, rename = "apiVersion")]
    api_version: Option<Text<'a>>,
    #[serde(borrow)]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    metadata: Option<ListMetadataJson<'a>>,
    items: Option<Vec<T>>,
}

#[derive(Deserialize)]
struct ListMetadataJson<'a> {
    #[serde(borrow, rename = "resourceVersion")]
    resource_version: Option<Text<'a>>,
    #[serde(rename = "continue")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct MetadataJson<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    namespace: Option<Text<'a>>,
    #[serde(borrow)]
    uid: Option<Text<'a>>,
    #[serde(borrow, rename = "resourceVersion")]
    resource_version: Option<Text<'a>>,
    #[serde(borrow, rename = "creationTimestamp")]
    creation_timestamp: Option<Text<'a>>,
}

impl ObjectJson<'_> {
    fn object(self, kind: Kind) -> Result<Object, DecodeError> {
        let name = kind.api_kind();
        let missing = DecodeError::Missing { kind: name, field: "metadata" };
        let meta = self.metadata.ok_or(missing)?.meta(kind, &mut None)?;
        let mut values = Values { kind: name, bytes: 0, values: BTreeMap::new() };
        let mut binary = BTreeSet::new();
        if kind == Kind::Secret {
            values.add("data", self.data, base64_value)?;
        } else {
            values.add("data", self.data, |text| Some(Value::copy_of(text.as_bytes())))?;
            if self.binary_data.is_some() {
                let text: BTreeSet<Key> = values.values.keys().cloned().collect();
                values.add("binaryData", self.binary_data, base64_value)?;
                binary = values.values.keys().filter(|key| !text.contains(*key)).cloned().collect();
            }
        }
        let immutable = self.immutable.unwrap_or(false);
        Ok(Object { meta, body: Body::Data(Data { values: values.values, binary, immutable }) })
    }
}

impl ListMetadataJson<'_> {
    /// A list's version and continue token.
    fn checked(metadata: Option<Self>, kind: &'static str) -> Result<(Arc<str>, Option<String>), DecodeError> {
        let missing = |field| DecodeError::Missing { kind, field };
        let metadata = metadata.ok_or(missing("metadata"))?;
        let version =
            metadata.resource_version.filter(|text| !text.is_empty()).ok_or(missing("metadata.resourceVersion"))?;
        Ok((version.as_str().into(), metadata.next.filter(|token| !token.is_empty())))
    }
}

fn parse<'a, T: Deserialize<'a>>(kind: &'static str, bytes: &'a [u8]) -> Result<T, DecodeError> {
    // serde_json's own message quotes the input; the position does not.
    serde_json::from_slice(bytes).map_err(|e| DecodeError::Json { kind, line: e.line(), column: e.column() })
}

fn require(
    kind: &Option<Text>,
    version: &Option<Text>,
    expected_kind: &'static str,
    expected_version: &'static str,
) -> Result<(), DecodeError> {
    let is = |found: &Option<Text>, expected| found.as_ref().is_some_and(|text| text.as_str() == expected);
    if is(kind, expected_kind) && is(version, expected_version) {
        return Ok(());
    }
    Err(DecodeError::OtherKind { expected: expected_kind, version: expected_version })
}

impl<'a> PartialJson<'a> {
    fn alone(kind: &'static str, version: &'static str, bytes: &'a [u8]) -> Result<MetadataJson<'a>, DecodeError> {
        let json: PartialJson = parse(kind, bytes)?;
        require(&json.kind, &json.api_version, kind, version)?;
        json.metadata.ok_or(DecodeError::Missing { kind, field: "metadata" })
    }

    /// An item of a list need not repeat what it is.
    fn listed(self) -> Result<MetadataJson<'a>, DecodeError> {
        if self.kind.is_some() || self.api_version.is_some() {
            require(&self.kind, &self.api_version, PARTIAL, META_V1)?;
        }
        self.metadata.ok_or(DecodeError::Missing { kind: PARTIAL, field: "metadata" })
    }
}

/// A page of a list of `kind`, whose items `item` reads.
fn page_from_json<'a, J: Deserialize<'a>, T>(
    kind: &'static str,
    version: &'static str,
    bytes: &'a [u8],
    item: impl FnMut(J) -> Result<T, DecodeError>,
) -> Result<Page<T>, DecodeError> {
    let json: PageJson<J> = parse(kind, bytes)?;
    require(&json.kind, &json.api_version, kind, version)?;
    let (version, next) = ListMetadataJson::checked(json.metadata, kind)?;
    // Go writes an empty list as null.
    let items = json.items.unwrap_or_default();
    Ok(Page { items: items.into_iter().map(item).collect::<Result<_, _>>()?, version, next })
}

impl MetadataJson<'_> {
    /// `last` is the namespace of the object before this one in a list.
    fn meta(&self, kind: Kind, last: &mut Option<Namespace>) -> Result<Meta, DecodeError> {
        let name = kind.api_kind();
        let namespace = match (kind.is_namespaced(), last.take()) {
            (false, _) => Namespace::none(),
            (true, last) => {
                let namespace = require_text(name, "metadata.namespace", &self.namespace)?;
                match last {
                    Some(last) if last.as_str() == namespace => last,
                    _ => Namespace::new(namespace).map_err(|_| invalid(name, "metadata.namespace"))?,
                }
            }
        };
        *last = Some(namespace.clone());
        let id = ObjectId {
            namespace,
            kind,
            name: Name::of(kind, require_text(name, "metadata.name", &self.name)?)
                .map_err(|_| invalid(name, "metadata.name"))?,
        };
        let uid = require_text(name, "metadata.uid", &self.uid)?.into();
        Ok(Meta { id, uid, version: self.version(name)?, created: self.created(name)? })
    }

    fn namespace_name(&self) -> Result<Namespace, DecodeError> {
        let name = require_text("Namespace", "metadata.name", &self.name)?;
        Namespace::new(name).map_err(|_| invalid("Namespace", "metadata.name"))
    }

    fn version(&self, kind: &'static str) -> Result<Arc<str>, DecodeError> {
        Ok(require_text(kind, "metadata.resourceVersion", &self.resource_version)?.into())
    }

    fn created(&self, kind: &'static str) -> Result<SystemTime, DecodeError> {
        let Some(text) = &self.creation_timestamp else { return Ok(SystemTime::UNIX_EPOCH) };
        let time: Timestamp = text.as_str().parse().map_err(|_| invalid(kind, "metadata.creationTimestamp"))?;
        Ok(time.into())
    }
}

fn invalid(kind: &'static str, field: &'static str) -> DecodeError {
    DecodeError::Invalid { kind, field }
}

fn require_text<'t>(kind: &'static str, field: &'static str, text: &'t Option<Text>) -> Result<&'t str, DecodeError> {
    match text {
        // uid and resourceVersion are opaque, but never long: an etcd revision has 19 digits, a uid 36 characters. The longest
        // name, that of a signer's trust bundle, has 825.
        Some(text) if text.len() > 1024 => Err(invalid(kind, field)),
        Some(text) if !text.is_empty() => Ok(text.as_str()),
        _ => Err(DecodeError::Missing { kind, field }),
    }
}

/// The values of one object while they are being decoded.
struct Values {
    kind: &'static str,
    bytes: usize,
    values: BTreeMap<Key, Value>,
}

impl Values {
    fn add(
        &mut self,
        field: &'static str,
        entries: Option<Entries>,
        decode: impl Fn(&str) -> Option<Value>,
    ) -> Result<(), DecodeError> {
        for (key, text) in entries.into_iter().flat_map(|entries| entries.0) {
            let key = Key::new(key.as_str()).map_err(|_| invalid(self.kind, "key"))?;
            // A null is an empty value, as Go decodes it.
            let value = match &text {
                Some(text) => decode(text.as_str()).ok_or(invalid(self.kind, field))?,
                None => Value::copy_of(&[]),
            };
            self.bytes += value.len();
            if self.bytes > MAX_DATA_BYTES {
                return Err(DecodeError::TooLarge { kind: self.kind, limit: MAX_DATA_BYTES });
            }
            if self.values.insert(key, value).is_some() {
                return Err(invalid(self.kind, "key (it is there twice)"));
            }
        }
        Ok(())
    }
}

/// Decodes canonical base64 (what Go's encoding/json writes) straight into memory of exactly the right size.
fn base64_value(text: &str) -> Option<Value> {
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    let length = (text.len() / 4 * 3).checked_sub(padding)?;
    let mut bytes = Wiped::zeroed(length);
    let written = STANDARD.decode_slice(text, &mut bytes).ok()?;
    (written == length).then(|| Value::from(bytes))
}

#[cfg(test)]
mod tests;
