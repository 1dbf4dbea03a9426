//! What a document says once its syntax is forgotten: the JSON value that kubectl makes of it, each part with its place.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value as Json;

use crate::object::Value;

/// How deep lists and mappings may be nested. The Kubernetes API's own types stay far below.
pub(super) const MAX_DEPTH: usize = 200;

/// How many values (scalars, lists, mappings, keys) one document may hold, aliases included.
pub(super) const MAX_NODES: usize = 2_000_000;

/// A place in a file, both counted from 1; the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub line: u32,
    pub column: u32,
}

impl Place {
    pub fn new(line: usize, column: usize) -> Self {
        Place { line: line.try_into().unwrap_or(u32::MAX), column: column.try_into().unwrap_or(u32::MAX) }
    }
}

/// A string that may be a Secret's value: shared, wiped, without a readable `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Text(Value);

impl Text {
    /// Copies `text`; whoever owns the original wipes it.
    pub fn copy_of(text: &str) -> Self {
        Text(Value::copy_of(text.as_bytes()))
    }

    /// Copies `bytes`. As Go does when it writes JSON, each byte that is not UTF-8 becomes U+FFFD.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let bad: usize = bytes.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
        let mut text = Vec::with_capacity(bytes.len() + bad * 2);
        for chunk in bytes.utf8_chunks() {
            text.extend_from_slice(chunk.valid().as_bytes());
            chunk.invalid().iter().for_each(|_| text.extend_from_slice("\u{fffd}".as_bytes()));
        }
        Text(Value::new(text))
    }

    pub fn as_str(&self) -> &str {
        // Every constructor takes UTF-8.
        std::str::from_utf8(self.0.as_bytes()).unwrap_or_default()
    }

    /// The bytes as the value of a key, not copied.
    pub fn to_value(&self) -> Value {
        self.0.clone()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.0.len())
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

/// A value and the line that it stands on; below a mapping, the line of its key.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub line: u32,
    pub content: Content,
}

/// A value as JSON knows it.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Null,
    Bool(bool),
    Int(i64),
    /// Any other number: with a fraction, an exponent or beyond `i64`.
    Float(f64),
    Text(Text),
    List(Vec<Node>),
    /// Of keys that are written twice the last is here, as in Go.
    Map(Map),
}

pub(super) type Map = BTreeMap<Text, Node>;

impl Node {
    /// The same for serde. Only for what has no values of Secrets in it.
    pub fn to_json(&self) -> Json {
        match &self.content {
            Content::Null => Json::Null,
            Content::Bool(value) => (*value).into(),
            Content::Int(value) => (*value).into(),
            Content::Float(value) => (*value).into(),
            Content::Text(text) => text.as_str().into(),
            Content::List(members) => members.iter().map(Node::to_json).collect(),
            Content::Map(map) => map.iter().map(|(key, node)| (key.as_str(), node.to_json())).collect(),
        }
    }

    /// What the value is, for messages.
    pub fn what(&self) -> &'static str {
        match self.content {
            Content::Null => "null",
            Content::Bool(_) => "a boolean",
            Content::Int(_) | Content::Float(_) => "a number",
            Content::Text(_) => "a string",
            Content::List(_) => "a list",
            Content::Map(_) => "a mapping",
        }
    }
}
