//! The objects that something shown needs: whatever keeps objects current waits for these, too.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard};

use crate::object::{Kind, Namespace, ObjectId};

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Expected(Mutex<HashSet<ObjectId>>);

impl Expected {
    fn lock(&self) -> MutexGuard<'_, HashSet<ObjectId>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn insert(&self, id: ObjectId) {
        self.lock().insert(id);
    }

    pub fn remove(&self, id: &ObjectId) {
        self.lock().remove(id);
    }

    pub fn remove_namespace(&self, namespace: &Namespace) {
        self.lock().retain(|id| id.namespace != *namespace);
    }

    pub fn contains(&self, id: &ObjectId) -> bool {
        self.lock().contains(id)
    }

    /// Those of one kind, in one namespace or in all.
    pub fn of(&self, kind: Kind, namespace: Option<&Namespace>) -> Vec<ObjectId> {
        self.lock().iter().filter(|id| id.is_of(kind, namespace)).cloned().collect()
    }
}
