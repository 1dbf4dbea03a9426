//! Directories of names whose names are not all known from the start: they are listed when somebody looks, or, where that
//! is refused, asked for one by one.
//!
//! Nothing here awaits the publisher: whoever waits for a name holds the directory's lock in the kernel, and the publisher
//! would wait for them. What is filled in is therefore put into the tree directly; it is not a change, only now known.

use std::sync::Arc;

use super::shape::walk;
use super::{View, generation_name, unread_dir};
use crate::object::{Kind, Namespace, ObjectId};
use crate::store::{Access, Known};
use crate::tree::{Demand, Error, Ino, Names};
use crate::volume::{NewNode, of_object};

impl View {
    /// Finds out about the names in a directory.
    pub(super) async fn meet_names(self: &Arc<Self>, namespace: Namespace, kind: Kind) -> Result<(), Error> {
        let what = format!("the {} in namespace {namespace}", kind.plural());
        self.in_time(self.source.look(namespace.clone(), kind), &what).await?;
        self.take_access(&namespace, kind);
        Ok(())
    }

    /// Asks for one name in a directory whose names may not be listed.
    pub(super) async fn meet_name(&self, demand: &Demand, path: &str, name: &Arc<str>) -> Result<(), Error> {
        let full = if path.is_empty() { name.to_string() } else { format!("{path}/{name}") };
        // A name that no object can have is not asked for.
        let id = self.shape.object_at(&full).ok_or(Error::NotFound)?;
        self.ask(&id).await?;
        let Some(known) = self.store.get(&id) else { return Err(Error::NotFound) };
        if self.tree.child(demand.dir, name).is_none() {
            // If that fails, the directory has been filled or removed meanwhile, and who waits has been answered.
            let _ = self.tree.grant(demand, self.object_dir(&id, &known));
            self.trim();
        }
        Ok(())
    }

    /// Makes a directory of names like what is known of them.
    pub(super) fn take_access(self: &Arc<Self>, namespace: &Namespace, kind: Kind) {
        let Some(dir) = walk(&self.tree, &self.shape.place(namespace, kind)) else { return };
        let access = self.store.access(namespace, kind);
        if self.options.eager {
            return self.take_access_eagerly(namespace, kind, access, dir);
        }
        let done = match (access, self.tree.names(dir)) {
            (Access::Listed, Some(Names::Unread | Names::ByName)) => self.fill_names(dir, namespace, kind),
            (Access::Unread, Some(Names::Known | Names::ByName)) => self.tree.set_names(dir, Names::Unread),
            (Access::ByName, Some(Names::Known | Names::Unread)) => self.tree.set_names(dir, Names::ByName),
            _ => return,
        };
        if let Err(error) = done {
            tracing::error!(?dir, %error, "the names cannot be shown");
        }
        self.attributes_changed(dir);
    }

    fn fill_names(&self, dir: Ino, namespace: &Namespace, kind: Kind) -> Result<(), Error> {
        let mut children = Vec::new();
        for known in self.store.objects(kind, Some(namespace)) {
            let id = &known.meta().id;
            let name: Arc<str> = id.name.as_str().into();
            if self.is_listed(id) && self.tree.child(dir, &name).is_none() {
                children.push((name, self.object_dir(id, &known)));
            }
        }
        self.tree.fill(dir, children)
    }

    /// The directory of an object, with its content if that is here.
    pub(super) fn object_dir(&self, id: &ObjectId, known: &Known) -> NewNode {
        if id.kind.has_pod() {
            return unread_dir(&self.options);
        }
        let mut volume = self.new_volume(id.kind);
        match known {
            Known::Loaded(object) => {
                let node = volume.loaded(of_object(object), generation_name());
                self.volumes().insert(id.clone(), volume);
                node
            }
            Known::Named(_) => volume.unloaded(),
        }
    }

    /// The kernel has let go of a directory that was asked for by its name: nobody needs to keep it current.
    pub(super) fn let_go(&self, dir: Ino) {
        let Some(id) = self.tree.path(dir).ok().and_then(|path| self.shape.object_at(&path)) else { return };
        if self.tree.drop_unused(dir) {
            self.volumes().remove(&id);
            self.drop_pod(&id);
            if !self.pods.uses(&id) {
                self.source.forget(&id);
                self.store.remove(&id);
            }
        }
    }
}
