//! The metadata of a manifest: whose it is, and its labels. Nothing else of it is kept.

use std::collections::BTreeMap;

use super::decode::{Labels, text};
use super::error::{Checked, Refused};
use super::node::{Content, Map, Node};
use crate::object::selector::{is_label_key, is_label_value};
use crate::object::{Kind, Name, Namespace};

/// What names an object.
pub(super) struct Identity {
    pub name: Name,
    pub namespace: Namespace,
}

/// The rest of the metadata, for the time of decoding.
pub(super) struct Metadata<'a> {
    pub labels: Labels,
    pub annotations: BTreeMap<&'a str, &'a str>,
}

/// The fields of `ObjectMeta` (apimachinery, pkg/apis/meta/v1/types.go).
const FIELDS: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// `TotalAnnotationSizeLimitB` of apimachinery's validation, in bytes.
const MAX_ANNOTATION_BYTES: usize = 256 << 10;

/// Reads name and namespace; `line` is where the object begins.
pub(super) fn identity(kind: Kind, map: &Map, line: u32, default: &Namespace) -> Checked<Identity> {
    let missing = || (line, Refused::Missing("metadata.name"));
    let metadata = mapping(map, "metadata")?.ok_or_else(missing)?;
    let line_of = |field| metadata.get(field).map_or(line, |node: &Node| node.line);
    let name = match text(metadata, "name")? {
        None | Some("") => return Err(missing()),
        Some(name) => Name::of(kind, name).map_err(|e| (line_of("name"), Refused::InvalidName { rule: e.rule }))?,
    };
    let namespace = match text(metadata, "namespace")? {
        None | Some("") => default.clone(),
        Some(namespace) => {
            Namespace::new(namespace).map_err(|e| (line_of("namespace"), Refused::InvalidNamespace { rule: e.rule }))?
        }
    };
    Ok(Identity { name, namespace })
}

/// Checks the rest of the metadata.
pub(super) fn rest(map: &Map) -> Checked<Metadata<'_>> {
    let mut found = Metadata { labels: Labels::new(), annotations: BTreeMap::new() };
    let Some(metadata) = mapping(map, "metadata")? else { return Ok(found) };
    if let Some((_, node)) = metadata.iter().find(|(field, _)| !FIELDS.contains(&field.as_str())) {
        return Err((node.line, Refused::UnknownField { of: "metadata" }));
    }
    for (key, value, line) in strings(metadata, "labels", "a string in each label")? {
        if !is_label_key(key) || !is_label_value(value) {
            return Err((line, Refused::InvalidLabel));
        }
        found.labels.insert(key.to_owned(), value.to_owned());
    }
    let mut bytes = 0;
    for (key, value, line) in strings(metadata, "annotations", "a string in each annotation")? {
        bytes += key.len() + value.len();
        if !is_label_key(&key.to_lowercase()) || bytes > MAX_ANNOTATION_BYTES {
            return Err((line, Refused::InvalidAnnotations));
        }
        found.annotations.insert(key, value);
    }
    Ok(found)
}

/// The name that a Namespace gives, if it is one.
pub(super) fn namespace_name(map: &Map) -> Option<Namespace> {
    let metadata = mapping(map, "metadata").ok()??;
    Namespace::new(text(metadata, "name").ok()??).ok()
}

/// A field that is a mapping or absent.
fn mapping<'a>(map: &'a Map, field: &'static str) -> Checked<Option<&'a Map>> {
    match map.get(field).map(|node| (&node.content, node)) {
        None | Some((Content::Null, _)) => Ok(None),
        Some((Content::Map(entries), _)) => Ok(Some(entries)),
        Some((_, node)) => Err((node.line, Refused::WrongType { field, found: node.what(), wanted: "a mapping" })),
    }
}

/// A field that maps strings to strings; null is the empty string.
fn strings<'a>(map: &'a Map, field: &'static str, wanted: &'static str) -> Checked<Vec<(&'a str, &'a str, u32)>> {
    let Some(entries) = mapping(map, field)? else { return Ok(Vec::new()) };
    let string = |node: &'a Node| match &node.content {
        Content::Null => Ok(""),
        Content::Text(text) => Ok(text.as_str()),
        _ => Err((node.line, Refused::WrongType { field, found: node.what(), wanted })),
    };
    entries.iter().map(|(key, node)| Ok((key.as_str(), string(node)?, node.line))).collect()
}
