//! From what a document says to the objects in it, with the checks of kubectl and the API server.
//!
//! kubectl flattens lists (apimachinery, `UnstructuredJSONScheme`; cli-runtime, `FlattenListVisitor`), the API server
//! decodes strictly (kubectl's default is `--validate=strict`) and validates (pkg/apis/core/validation). Kinds that have
//! no files are passed over; a kind that is to be read is one more arm of [`object`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::error::{Checked, Label, Refused};
use super::node::{Content, Map, Node};
use super::{base64, metadata};
use crate::memory::Wiped;
use crate::object::{Body, Data, Key, Kind, MAX_DATA_BYTES, Namespace, ObjectId, Value, body_from_value};

/// How much decoded base64 one file may hold, in bytes. The file's own limit bounds it already, except for aliases.
pub(super) const MAX_DECODED_BYTES: usize = 256 << 20;

const SECRET_FIELDS: &[&str] = &["apiVersion", "kind", "metadata", "data", "stringData", "type", "immutable"];
const CONFIG_MAP_FIELDS: &[&str] = &["apiVersion", "kind", "metadata", "data", "binaryData", "immutable"];

/// Labels of an object, for selectors only.
pub(super) type Labels = BTreeMap<String, String>;

/// One object of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub id: ObjectId,
    pub body: Body,
    pub labels: Labels,
}

impl Manifest {
    /// Whether both mean the same to whoever reads the object. Labels only matter to selectors.
    pub fn has_content_of(&self, other: &Manifest) -> bool {
        self.body == other.body
    }
}

/// Something that a document defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Object(Manifest),
    Namespace(Namespace),
}

/// Something that a document defines badly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    pub line: u32,
    /// Which object it would have been, if that much is certain.
    pub id: Option<ObjectId>,
    /// What messages call it.
    pub object: String,
    pub why: Refused,
}

/// Reads the documents of one file.
pub(super) struct Decoder<'a> {
    /// The namespace of objects that name none.
    pub default: &'a Namespace,
    /// How many bytes may still be decoded.
    pub budget: usize,
}

impl Decoder<'_> {
    /// Hands over all that a document defines, in order; lists of lists last, as kubectl visits them.
    pub fn document(&mut self, document: &Node, found: &mut impl FnMut(Result<Found, Box<Flaw>>)) {
        let mut queue = VecDeque::from([(document, None)]);
        while let Some((node, inherited)) = queue.pop_front() {
            match identify(node, inherited) {
                Err(flaw) => found(Err(flaw)),
                Ok(Identified::List { of, items }) => queue.extend(items.iter().map(|item| (item, Some(of)))),
                Ok(Identified::Object { api_version: "v1", kind: "Namespace", map }) => {
                    if let Some(namespace) = metadata::namespace_name(map) {
                        found(Ok(Found::Namespace(namespace)));
                    }
                }
                Ok(Identified::Object { api_version, kind, map }) => {
                    if let Some(kind) = Kind::of_manifest(api_version, kind) {
                        found(self.object(kind, node, map).map(Found::Object));
                    }
                }
            }
        }
    }

    fn object(&mut self, kind: Kind, node: &Node, map: &Map) -> Result<Manifest, Box<Flaw>> {
        let line = node.line;
        let unnamed = |(line, why)| Box::new(Flaw { line, id: None, object: format!("a {}", kind.api_kind()), why });
        let meta = metadata::identity(kind, map, line, self.default).map_err(unnamed)?;
        let namespace = if kind.is_namespaced() { meta.namespace } else { Namespace::none() };
        let id = ObjectId { namespace, kind, name: meta.name };
        let flaw = |(line, why)| Box::new(Flaw { line, id: Some(id.clone()), object: id.to_string(), why });
        let read = if kind.has_data() { self.data(kind, line, map) } else { described(kind, node, map) };
        let (body, labels) = read.map_err(flaw)?;
        Ok(Manifest { id, body, labels })
    }

    fn data(&mut self, kind: Kind, line: u32, map: &Map) -> Checked<(Body, Labels)> {
        let (of, fields) = match kind {
            Kind::Secret => ("a Secret", SECRET_FIELDS),
            _ => ("a ConfigMap", CONFIG_MAP_FIELDS),
        };
        if let Some(sops) = map.get("sops") {
            return Err((sops.line, Refused::Sops));
        }
        if let Some((_, node)) = map.iter().find(|(field, _)| !fields.contains(&field.as_str())) {
            return Err((node.line, Refused::UnknownField { of }));
        }
        let metadata = metadata::rest(map)?;
        let (mut values, mut binary) = (BTreeMap::new(), BTreeSet::new());
        if kind == Kind::Secret {
            for (key, node) in entries(map, "data")? {
                values.insert(key, self.base64("data", "stringData", node)?);
            }
            for (key, node) in entries(map, "stringData")? {
                values.insert(key, plain("stringData", node)?);
            }
            if let Some(kind) = text(map, "type")? {
                needs_of_type(kind, &values, &metadata.annotations).map_err(|why| (line, why))?;
            }
        } else {
            for (key, node) in entries(map, "data")? {
                values.insert(key, plain("data", node)?);
            }
            for (key, node) in entries(map, "binaryData")? {
                let value = self.base64("binaryData", "data", node)?;
                if values.insert(key.clone(), value).is_some() {
                    return Err((node.1.line, Refused::KeyTwice(key)));
                }
                binary.insert(key);
            }
        }
        if values.values().map(Value::len).sum::<usize>() > MAX_DATA_BYTES {
            return Err((line, Refused::TooLarge));
        }
        let immutable = boolean(map, "immutable")?.unwrap_or(false);
        Ok((Body::Data(Data { values, binary, immutable }), metadata.labels))
    }

    fn base64(&mut self, field: &'static str, plain: &'static str, (key, node): (&str, &Node)) -> Checked<Value> {
        let too_large = (node.line, Refused::FileTooLarge);
        let decoded = match &node.content {
            Content::Null => return Ok(Value::new(Vec::new())),
            // Aliases may repeat a large value thousands of times: do not even decode it then.
            Content::Text(text) if base64::least_decoded(text.as_str()) > self.budget => {
                return Err(too_large);
            }
            Content::Text(text) => base64::decode(text.as_str()).ok(),
            // Go takes a list of numbers for bytes, too.
            Content::List(members) => bytes_of(members),
            _ => return Err((node.line, Refused::NotAString { field, key: label(key), found: node.what() })),
        };
        let decoded = decoded.ok_or((node.line, Refused::NotBase64 { field, key: label(key), plain }))?;
        self.budget = self.budget.checked_sub(decoded.len()).ok_or(too_large)?;
        Ok(Value::from(decoded))
    }
}

/// A pod, or something else that has no values. The API server would check more than is read here.
fn described(kind: Kind, node: &Node, map: &Map) -> Checked<(Body, Labels)> {
    let metadata = metadata::rest(map)?;
    let wrong = (node.line, Refused::WrongType { field: "spec", found: "other types", wanted: "those of the API" });
    let body = body_from_value(kind, node.to_json()).map_err(|_| wrong)?;
    Ok((body, metadata.labels))
}

/// What a node is, before anything of it is read.
enum Identified<'a> {
    Object { api_version: &'a str, kind: &'a str, map: &'a Map },
    List { of: (&'a str, &'a str), items: &'a [Node] },
}

/// The kind of a node. Members of a list that have neither apiVersion nor kind have those of the list.
fn identify<'a>(node: &'a Node, inherited: Option<(&'a str, &'a str)>) -> Result<Identified<'a>, Box<Flaw>> {
    let flaw = |line, why| Box::new(Flaw { line, id: None, object: "an object".to_owned(), why });
    let Content::Map(map) = &node.content else {
        return Err(flaw(node.line, Refused::NotAMapping { found: node.what() }));
    };
    let string = |field: &str| match map.get(field).map(|node| &node.content) {
        Some(Content::Text(text)) => text.as_str(),
        _ => "",
    };
    let (api_version, kind) = match (string("apiVersion"), string("kind"), inherited) {
        ("", "", Some(of)) => of,
        ("", "", None) => return Err(flaw(node.line, Refused::Missing("kind"))),
        (_, "", _) => return Err(flaw(node.line, Refused::Missing("kind"))),
        ("", _, _) => return Err(flaw(node.line, Refused::Missing("apiVersion"))),
        (api_version, kind, _) => (api_version, kind),
    };
    match map.get("items").map(|items| (&items.content, items.line)) {
        None => Ok(Identified::Object { api_version, kind, map }),
        Some((Content::List(items), _)) => {
            Ok(Identified::List { of: (api_version, kind.strip_suffix("List").unwrap_or(kind)), items })
        }
        Some((Content::Null, _)) => Ok(Identified::List { of: (api_version, kind), items: &[] }),
        Some((_, line)) => {
            let found = map.get("items").map_or("null", Node::what);
            Err(flaw(line, Refused::WrongType { field: "items", found, wanted: "a list" }))
        }
    }
}

/// The entries of a field that maps keys to values, keys checked; the node with its key as written.
fn entries<'a>(map: &'a Map, field: &'static str) -> Checked<Vec<(Key, (&'a str, &'a Node))>> {
    let Some(node) = map.get(field) else { return Ok(Vec::new()) };
    match &node.content {
        Content::Null => Ok(Vec::new()),
        Content::Map(entries) => entries
            .iter()
            .map(|(key, node)| match Key::new(key.as_str()) {
                Ok(valid) => Ok((valid, (key.as_str(), node))),
                Err(_) => Err((node.line, Refused::InvalidKey { field })),
            })
            .collect(),
        _ => Err((node.line, Refused::WrongType { field, found: node.what(), wanted: "a mapping" })),
    }
}

fn plain(field: &'static str, (key, node): (&str, &Node)) -> Checked<Value> {
    match &node.content {
        Content::Null => Ok(Value::new(Vec::new())),
        Content::Text(text) => Ok(text.to_value()),
        _ => Err((node.line, Refused::NotAString { field, key: label(key), found: node.what() })),
    }
}

/// A field that is a string or absent.
pub(super) fn text<'a>(map: &'a Map, field: &'static str) -> Checked<Option<&'a str>> {
    match map.get(field).map(|node| (&node.content, node)) {
        None | Some((Content::Null, _)) => Ok(None),
        Some((Content::Text(text), _)) => Ok(Some(text.as_str())),
        Some((_, node)) => Err((node.line, Refused::WrongType { field, found: node.what(), wanted: "a string" })),
    }
}

fn boolean(map: &Map, field: &'static str) -> Checked<Option<bool>> {
    match map.get(field).map(|node| (&node.content, node)) {
        None | Some((Content::Null, _)) => Ok(None),
        Some((Content::Bool(value), _)) => Ok(Some(*value)),
        Some((_, node)) => Err((node.line, Refused::WrongType { field, found: node.what(), wanted: "true or false" })),
    }
}

fn bytes_of(members: &[Node]) -> Option<Wiped> {
    let byte = |node: &Node| match node.content {
        Content::Null => Some(0),
        Content::Int(byte) => u8::try_from(byte).ok(),
        _ => None,
    };
    let mut bytes = Wiped::zeroed(members.len());
    for (place, node) in bytes.iter_mut().zip(members) {
        *place = byte(node)?;
    }
    Some(bytes)
}

fn label(key: &str) -> Label {
    Label(Key::new(key).ok())
}

/// What the API server wants to find in a Secret of a well-known type (`ValidateSecret`).
fn needs_of_type(kind: &str, data: &BTreeMap<Key, Value>, annotations: &BTreeMap<&str, &str>) -> Result<(), Refused> {
    let value = |key: &str| data.get(key);
    let json_object = |key: &str| value(key).is_some_and(|value| is_json_object(value.as_bytes()));
    let (kind, needs, met) = match kind {
        "kubernetes.io/tls" => (
            "kubernetes.io/tls",
            "the keys tls.crt and tls.key",
            value("tls.crt").is_some() && value("tls.key").is_some(),
        ),
        "kubernetes.io/basic-auth" => (
            "kubernetes.io/basic-auth",
            "the key username or password",
            value("username").is_some() || value("password").is_some(),
        ),
        "kubernetes.io/ssh-auth" => (
            "kubernetes.io/ssh-auth",
            "the key ssh-privatekey, not empty",
            value("ssh-privatekey").is_some_and(|value| !value.is_empty()),
        ),
        "kubernetes.io/dockerconfigjson" => (
            "kubernetes.io/dockerconfigjson",
            "the key .dockerconfigjson with a JSON object",
            json_object(".dockerconfigjson"),
        ),
        "kubernetes.io/dockercfg" => {
            ("kubernetes.io/dockercfg", "the key .dockercfg with a JSON object", json_object(".dockercfg"))
        }
        "kubernetes.io/service-account-token" => (
            "kubernetes.io/service-account-token",
            "the annotation kubernetes.io/service-account.name",
            annotations.get("kubernetes.io/service-account.name").is_some_and(|name| !name.is_empty()),
        ),
        _ => return Ok(()),
    };
    if met { Ok(()) } else { Err(Refused::TypeNeeds { kind, needs }) }
}

/// Whether Go's json.Unmarshal takes the bytes for a map.
fn is_json_object(bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start();
    (start.starts_with(b"{") || start.starts_with(b"null"))
        && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}
