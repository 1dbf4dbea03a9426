//! What is known for a check.

use std::collections::HashMap;
use std::sync::Arc;

use crate::object::{Object, ObjectId, TokenAsk, Value};
use crate::pod::{Have, Lookup};
use crate::store::Refusal;

/// Stands for a token, which no check needs and none asks for. No downward API field has a null byte in it, and nobody puts this
/// into a Secret by chance.
const TOKEN: &[u8] = b"\0secretfs: a token\0";

/// The answers to what the checked pods need.
#[derive(Default)]
pub struct Facts {
    objects: HashMap<ObjectId, Result<Arc<Object>, Refusal>>,
    bundles: Option<Result<Vec<Arc<Object>>, Refusal>>,
}

impl Facts {
    pub fn put(&mut self, id: ObjectId, answer: Result<Arc<Object>, Refusal>) {
        self.objects.insert(id, answer);
    }

    pub fn put_bundles(&mut self, answer: Result<Vec<Arc<Object>>, Refusal>) {
        self.bundles = Some(answer);
    }

    /// Those that are there.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values().filter_map(|answer| answer.as_ref().ok())
    }

    /// Whether this content stands for a token.
    pub fn is_token(value: &Value) -> bool {
        value.as_bytes() == TOKEN
    }
}

fn have<T: Clone>(answer: Option<&Result<T, Refusal>>) -> Have<T> {
    match answer {
        None => Have::Unknown,
        Some(Ok(found)) => Have::Ready(found.clone()),
        Some(Err(Refusal::NotFound { .. })) => Have::Missing,
        Some(Err(refusal)) => Have::Refused(refusal.to_string()),
    }
}

impl Lookup for Facts {
    fn object(&self, id: &ObjectId) -> Have<Arc<Object>> {
        have(self.objects.get(id))
    }

    fn token(&self, _ask: &TokenAsk) -> Have<Option<Value>> {
        Have::Ready(Some(Value::copy_of(TOKEN)))
    }

    fn bundles(&self) -> Have<Vec<Arc<Object>>> {
        have(self.bundles.as_ref())
    }
}
