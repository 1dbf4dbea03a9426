//! Sets of whole objects, each kept current by a paginated list and one watch.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use super::core::Core;
use super::listing::Names;
use super::watch::Event;
use crate::object::{
    DecodeError, Kind, Object, ObjectId, Page, object_from_json, object_meta_from_json, object_page_from_json,
};
use crate::source::Set;

/// Puts a set into the store. What others have put there of the same kind is not its business.
pub struct Whole {
    core: Arc<Core>,
    kind: Kind,
    members: Mutex<HashSet<ObjectId>>,
}

impl Whole {
    pub fn new(core: Arc<Core>, set: &Set) -> Self {
        Whole { core, kind: set.kind(), members: Mutex::default() }
    }

    fn members(&self) -> MutexGuard<'_, HashSet<ObjectId>> {
        self.members.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn put(&self, members: &mut HashSet<ObjectId>, object: Object) {
        members.insert(object.id().clone());
        self.core.put_newer(object);
    }
}

impl Names for Whole {
    type Item = Object;

    fn page(&self, body: &[u8]) -> Result<Page<Object>, DecodeError> {
        object_page_from_json(self.kind, body)
    }

    fn replace(&self, all: Vec<Object>) {
        let mut members = self.members();
        let mut gone = std::mem::take(&mut *members);
        for object in all {
            gone.remove(object.id());
            self.put(&mut members, object);
        }
        gone.iter().for_each(|id| self.core.store.remove(id));
        self.core.store.gathered(self.kind);
    }

    fn refused(&self) {
        let members = std::mem::take(&mut *self.members());
        members.iter().for_each(|id| self.core.store.withdraw(id));
    }

    fn take(&self, event: Event, object: &[u8]) -> Result<Arc<str>, DecodeError> {
        if event == Event::Deleted {
            let meta = object_meta_from_json(self.kind, object)?;
            self.members().remove(&meta.id);
            self.core.store.remove(&meta.id);
            return Ok(meta.version);
        }
        let object = object_from_json(self.kind, object)?;
        let version = object.meta.version.clone();
        self.put(&mut self.members(), object);
        Ok(version)
    }
}
