//! What several tests of this module use.

use proptest::prelude::*;
use serde_json::Value as Json;

use super::node::{Content, Node};
use crate::object::{Kind, Name, Namespace, ObjectId};
use crate::source::Scope;

/// The node as serde_json knows it.
pub fn to_json(node: &Node) -> Json {
    match &node.content {
        Content::Null => Json::Null,
        Content::Bool(value) => Json::from(*value),
        Content::Int(value) => Json::from(*value),
        Content::Float(value) => Json::from(*value),
        Content::Text(text) => Json::from(text.as_str()),
        Content::List(members) => members.iter().map(to_json).collect(),
        Content::Map(entries) => entries.iter().map(|(key, node)| (key.as_str().to_owned(), to_json(node))).collect(),
    }
}

/// JSON values of some depth and size.
pub fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_filter("JSON has no such number", |f| f.is_finite()).prop_map(Json::from),
        any::<String>().prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 48, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Json::from),
            prop::collection::btree_map(any::<String>(), inner, 0..8).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

pub fn namespace(name: &str) -> Namespace {
    Namespace::new(name).unwrap()
}

pub fn id(kind: Kind, namespace: &str, name: &str) -> ObjectId {
    ObjectId { namespace: Namespace::new(namespace).unwrap(), kind, name: Name::new(name).unwrap() }
}

/// All kinds in a namespace or in all.
pub fn scope(of: Option<&str>, selector: Option<&str>) -> Scope {
    Scope { namespace: of.map(namespace), kinds: Kind::DATA.to_vec(), selector: selector.map(str::to_owned) }
}
