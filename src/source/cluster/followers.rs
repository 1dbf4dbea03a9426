//! The objects that are followed one by one, each by requests that name it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::core::Core;
use super::expected::Expected;
use super::named::{Absence, Named};
use crate::object::{Kind, Namespace, Object, ObjectId};
use crate::source::Freshness;
use crate::store::Refusal;

/// See the module's documentation.
pub struct Followers {
    core: Arc<Core>,
    named: Mutex<HashMap<ObjectId, Arc<Named>>>,
    /// They are waited for, whoever else asks.
    expected: Arc<Expected>,
}

impl Followers {
    pub fn new(core: Arc<Core>, expected: Arc<Expected>) -> Self {
        Followers { core, named: Mutex::default(), expected }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectId, Arc<Named>>> {
        self.named.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Follows those that are waited for: the listing of their kind, in one namespace or in all, is none any more.
    pub fn start_expected(&self, kind: Kind, namespace: Option<&Namespace>) {
        self.expected.of(kind, namespace).into_iter().for_each(|id| drop(self.start(id, Absence::Wait)));
    }

    /// Begins to follow the object, if that has not been done. One that is waited for once is so from then on.
    pub fn start(&self, id: ObjectId, absence: Absence) -> Arc<Named> {
        let absence = if self.expected.contains(&id) { Absence::Wait } else { absence };
        let mut named = self.lock();
        if let Some(running) = named.get(&id).filter(|running| running.join(absence)) {
            return running.clone();
        }
        let started = Named::start(&self.core, id.clone(), absence);
        named.insert(id, started.clone());
        started
    }

    /// The object, followed from now on. `None`: it was handed over to a listing meanwhile.
    pub async fn follow(&self, id: ObjectId, absence: Absence) -> Option<Result<Arc<Object>, Refusal>> {
        let named = self.start(id.clone(), absence);
        let answer = named.wait().await;
        if named.has_ended() {
            let mut all = self.lock();
            if all.get(&id).is_some_and(|current| Arc::ptr_eq(current, &named)) {
                all.remove(&id);
            }
        }
        answer
    }

    /// How fresh each object is whose values are kept or wanted.
    pub fn freshness(&self) -> Vec<(ObjectId, Freshness)> {
        let all: Vec<_> = self.lock().iter().map(|(id, named)| (id.clone(), named.clone())).collect();
        all.into_iter().filter_map(|(id, named)| Some((id, named.freshness()?))).collect()
    }

    pub fn end(&self, id: &ObjectId) {
        self.expected.remove(id);
        let ended = self.lock().remove(id);
        if let Some(named) = ended {
            named.end();
        }
    }

    /// A namespace is gone with all that was in it.
    pub fn end_namespace(&self, namespace: &Namespace) {
        self.expected.remove_namespace(namespace);
        self.end_where(|id| id.namespace == *namespace);
    }

    /// A listing takes over: ends those of one kind, in one namespace or in all, and gives their ids.
    pub fn end_all(&self, kind: Kind, namespace: Option<&Namespace>) -> Vec<ObjectId> {
        self.end_where(|id| id.is_of(kind, namespace))
    }

    /// The same, but what is expected goes on.
    pub fn end_unexpected(&self, kind: Kind, namespace: Option<&Namespace>) -> Vec<ObjectId> {
        self.end_where(|id| id.is_of(kind, namespace) && !self.expected.contains(id))
    }

    fn end_where(&self, ended: impl Fn(&ObjectId) -> bool) -> Vec<ObjectId> {
        let ended: Vec<_> = self.lock().extract_if(|id, _| ended(id)).collect();
        ended
            .into_iter()
            .map(|(id, named)| {
                named.end();
                id
            })
            .collect()
    }
}
