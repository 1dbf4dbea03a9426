//! A view that has everything before anybody asks. Objects, and the names of whole namespaces, appear once they are here.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{StreamExt, iter};

use super::{Shape, View, by_name};
use crate::object::{Kind, Namespace, ObjectId};
use crate::store::{Access, Known, Refusal};
use crate::tree::{Ino, Names};

/// How many objects are fetched at the same time.
const AT_ONCE: usize = 8;

/// How long after an object could not be had it is asked for again.
const AGAIN: Duration = Duration::from_secs(30);

impl View {
    /// Fetches all that the view shows, as far as it can be had now. The rest is asked for later.
    pub(super) async fn load_all(self: &Arc<Self>) {
        let Shape::Names { namespace, kinds, .. } = &self.shape else { return };
        let namespaces = namespace.clone().map_or_else(|| self.store.namespaces(), |one| vec![one]);
        let places = namespaces.iter().flat_map(|namespace| kinds.iter().map(move |kind| (namespace.clone(), *kind)));
        iter(places).for_each_concurrent(AT_ONCE, |(namespace, kind)| self.look_into(namespace, kind)).await;
        for kind in kinds {
            let known = self.store.objects(*kind, namespace.as_ref());
            iter(known)
                .for_each_concurrent(AT_ONCE, |known| async move {
                    // Who cannot be had now is asked for again once the view looks at the names.
                    let _ = self.load_one(known.meta().id.clone()).await;
                })
                .await;
        }
    }

    async fn look_into(self: &Arc<Self>, namespace: Namespace, kind: Kind) {
        if self.store.access(&namespace, kind) == Access::Unread {
            let what = format!("the {} in namespace {namespace}", kind.plural());
            // Whatever comes of it, the store has it.
            let _ = self.in_time(self.source.look(namespace, kind), &what).await;
        }
    }

    /// The names in a new namespace are asked for.
    pub(super) fn look_later(self: &Arc<Self>, namespace: &Namespace) {
        for kind in self.shape.kinds().to_vec() {
            let (view, namespace) = (self.clone(), namespace.clone());
            tokio::spawn(async move { view.look_into(namespace, kind).await });
        }
    }

    /// Makes a directory of names like what is known of them: each object comes by itself.
    pub(super) fn take_access_eagerly(self: &Arc<Self>, namespace: &Namespace, kind: Kind, access: Access, dir: Ino) {
        match access {
            Access::ByName => tracing::warn!("{}; none of them is written", by_name(namespace, kind)),
            Access::Unread => self.look_later(namespace),
            Access::Listed => {}
        }
        if self.tree.names(dir) != Some(Names::Known) {
            let _ = self.tree.set_names(dir, Names::Known);
        }
        for known in self.store.objects(kind, Some(namespace)) {
            self.store.look_again(known.meta().id.clone());
        }
    }

    /// Fetches one object and, of a pod, all that it needs.
    async fn load_one(self: &Arc<Self>, id: ObjectId) -> Option<Refusal> {
        let answer = tokio::time::timeout(self.options.patience, self.source.follow(id.clone())).await;
        match answer {
            Ok(Ok(object)) => {
                if id.kind.has_pod() {
                    self.gather_pod(&object).await;
                }
                None
            }
            Ok(Err(refusal)) => Some(refusal),
            Err(_) => Some(Refusal::TimedOut { what: id.to_string(), from: self.source.describe() }),
        }
    }

    /// Whether an object that has changed is not to be looked at yet, because something of it is being fetched.
    pub(super) async fn wait_for(self: &Arc<Self>, id: &ObjectId) -> bool {
        match self.store.get(id) {
            Some(Known::Named(_)) if !self.volumes().contains_key(id) => {
                self.want(id);
                true
            }
            Some(Known::Named(_)) if self.store.is_withdrawn(id) => {
                self.want(id);
                false
            }
            Some(Known::Loaded(_)) if id.kind.has_pod() => {
                self.take_pod(id).await;
                true
            }
            _ => false,
        }
    }

    /// Fetches an object beside all else, until it is here or gone.
    fn want(self: &Arc<Self>, id: &ObjectId) {
        if !self.wanted().insert(id.clone()) {
            return;
        }
        let (view, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            while let Some(Known::Named(_)) = view.store.get(&id) {
                match view.load_one(id.clone()).await {
                    None => break,
                    Some(Refusal::NotFound { .. }) => break,
                    Some(refusal) => tracing::warn!("not written yet: {refusal}"),
                }
                tokio::time::sleep(AGAIN).await;
            }
            view.wanted().remove(&id);
            view.store.look_again(id);
        });
    }

    fn wanted(&self) -> std::sync::MutexGuard<'_, std::collections::HashSet<ObjectId>> {
        self.wanted.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
