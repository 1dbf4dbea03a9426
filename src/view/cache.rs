//! Values of objects in a view are kept up to a number of bytes: those that were not read for longest go first. Their files
//! stay, and a read fetches them again.
//!
//! What the kernel has in its page cache it serves without asking us, so what is read most may seem unused here. It costs
//! nothing to drop: nobody asks for it.

use super::{View, generation_name};
use crate::object::{Object, ObjectId};
use crate::tree::{Error, Ino, Names};
use crate::volume::{Payload, of_object};

impl View {
    /// Lets go of values until those that are left fit. Does nothing to an object that was mounted by name.
    pub(super) fn trim(&self) {
        let limit = self.options.cache_bytes;
        if !self.shape.is_names() || self.store.bytes() <= limit {
            return;
        }
        let loaded: Vec<ObjectId> = self.volumes().keys().cloned().collect();
        // What a pod needs it needs at any time.
        let found = loaded.into_iter().filter(|id| !self.pods.uses(id)).filter_map(|id| {
            let dir = self.dir(&id)?;
            (!self.tree.is_dropped(dir)).then(|| (self.tree.last_use(dir), id, dir))
        });
        let mut by_use: Vec<(u64, ObjectId, Ino)> = found.collect();
        by_use.sort_by_key(|(used, ..)| *used);
        // Whoever has just asked for the newest has not read it yet.
        by_use.pop();
        // Some more than needed, so that this is not done for each object.
        let goal = limit - limit / 8;
        for (_, id, dir) in by_use {
            if self.store.bytes() <= goal {
                return;
            }
            if self.tree.drop_content(dir).is_ok() {
                self.store.unload(&id);
            }
        }
    }

    /// Gives files their content back if it is still the same. Another content is shown by an update, not here.
    pub(super) fn restore(&self, id: &ObjectId, dir: Ino, object: &Object) -> Result<(), Error> {
        let payload = of_object(object);
        if !self.volumes().get(id).is_some_and(|volume| volume.shows(&payload)) {
            return Err(Error::Stale);
        }
        self.restore_with(dir, &payload)
    }

    fn restore_with(&self, dir: Ino, payload: &Payload) -> Result<(), Error> {
        self.tree.restore(dir, |name| payload.get(name).map(|file| file.bytes.clone()))
    }

    /// Updates an object's files, or gives them their content back where that is all there is to do.
    pub(super) async fn rewrite(&self, id: &ObjectId, dir: Ino, object: &Object) {
        let payload = of_object(object);
        let update = self.volumes().get_mut(id).map(|volume| volume.write(payload.clone(), generation_name()));
        match update {
            None if self.options.eager => {
                // What was withdrawn is back.
                let _ = self.tree.set_names(dir, Names::Known);
                let mut volume = self.new_volume(id.kind);
                let update = volume.write(payload, generation_name());
                self.volumes().insert(id.clone(), volume);
                self.carry_out(dir, update).await;
            }
            None => self.fill(id, object),
            Some(update) => {
                self.carry_out(dir, update).await;
                if self.tree.is_dropped(dir) {
                    let _ = self.restore_with(dir, &payload);
                }
            }
        }
        self.trim();
    }
}
