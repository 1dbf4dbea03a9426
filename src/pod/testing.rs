//! What the tests of the rules share: a pod from JSON, and a lookup that has what it is given.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::json;

use super::*;
use crate::object::{Body, Data, Key, Meta, Namespace, body_from_value};

pub(super) fn id(kind: Kind, name: &str) -> ObjectId {
    let namespace = if kind.is_namespaced() { Namespace::new("ns").unwrap() } else { Namespace::none() };
    ObjectId { namespace, kind, name: Name::new(name).unwrap() }
}

pub(super) fn object(kind: Kind, name: &str, body: Body) -> Arc<Object> {
    let meta = Meta { id: id(kind, name), uid: "u".into(), version: "1".into(), created: SystemTime::UNIX_EPOCH };
    Arc::new(Object { meta, body })
}

/// An object as its JSON says.
pub(super) fn read(kind: Kind, name: &str, json: serde_json::Value) -> Arc<Object> {
    object(kind, name, body_from_value(kind, json).unwrap())
}

/// The pod `ns/web` that exists, with this JSON.
pub(super) fn subject(json: serde_json::Value) -> Subject {
    Subject::of(&read(Kind::Pod, "web", json), None).unwrap()
}

/// A pod with one volume `v` of this source.
pub(super) fn with_volume(source: serde_json::Value) -> Subject {
    let mut volume = source;
    volume["name"] = json!("v");
    subject(json!({"spec": {"volumes": [volume], "containers": [{"name": "c"}]}}))
}

/// Each file's path, bytes, mode and owner.
pub(super) type Listed = Vec<(String, String, u32, Option<u32>)>;

pub(super) fn listed(files: &[(&str, &str, u32)]) -> Listed {
    files.iter().map(|(path, bytes, mode)| (path.to_string(), bytes.to_string(), *mode, None)).collect()
}

/// What [`collect`] makes of the pod's volume `v`.
pub(super) fn collected(subject: &Subject, known: &Known) -> Result<Listed, Vec<Problem>> {
    let volume = subject.pod.spec.volume("v").expect("a volume v");
    let payload = collect(subject, volume, known)?;
    let text = |value: &Value| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Ok(payload.iter().map(|(path, file)| (path.to_string(), text(&file.bytes), file.mode, file.uid)).collect())
}

/// The messages of what goes wrong with the pod's volume `v`.
pub(super) fn refused(subject: &Subject, known: &Known) -> Vec<Problem> {
    collected(subject, known).expect_err("a problem")
}

/// A lookup that is sure of what it does not have.
#[derive(Default)]
pub(super) struct Known {
    objects: BTreeMap<ObjectId, Have<Arc<Object>>>,
    tokens: BTreeMap<TokenAsk, Have<Option<Value>>>,
    bundles: Option<Have<Vec<Arc<Object>>>>,
}

impl Known {
    pub(super) fn with(mut self, object: Arc<Object>) -> Self {
        self.objects.insert(object.id().clone(), Have::Ready(object));
        self
    }

    pub(super) fn data(self, kind: Kind, name: &str, values: &[(&str, &str)]) -> Self {
        let value = |(key, text): &(&str, &str)| (Key::new(key).unwrap(), Value::copy_of(text.as_bytes()));
        let data = Data { values: values.iter().map(value).collect(), ..Data::default() };
        self.with(object(kind, name, Body::Data(data)))
    }

    pub(super) fn without(mut self, kind: Kind, name: &str, have: Have<Arc<Object>>) -> Self {
        self.objects.insert(id(kind, name), have);
        self
    }

    pub(super) fn bundles(self, bundles: Have<Vec<Arc<Object>>>) -> Self {
        Known { bundles: Some(bundles), ..self }
    }

    pub(super) fn token(mut self, ask: TokenAsk, have: Have<Option<Value>>) -> Self {
        self.tokens.insert(ask, have);
        self
    }
}

impl Lookup for Known {
    fn object(&self, id: &ObjectId) -> Have<Arc<Object>> {
        self.objects.get(id).cloned().unwrap_or(Have::Missing)
    }

    fn token(&self, ask: &TokenAsk) -> Have<Option<Value>> {
        self.tokens.get(ask).cloned().unwrap_or(Have::Missing)
    }

    fn bundles(&self) -> Have<Vec<Arc<Object>>> {
        self.bundles.clone().unwrap_or(Have::Missing)
    }
}
