//! What the manifests define now, and which of it somebody asked for; changes of that go to the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::decode::Manifest;
use super::files::{Definition, Total};
use crate::object::selector::Selector;
use crate::object::{Body, Kind, Meta, Namespace, Object, ObjectId};
use crate::source::{Freshness, Scope, Set};
use crate::store::{Known as InStore, Store};

#[derive(Default)]
pub(super) struct Known {
    objects: BTreeMap<ObjectId, Entry>,
    namespaces: BTreeSet<Namespace>,
    /// Moves with each change of any object's content.
    version: u64,
    interest: Interest,
}

struct Entry {
    manifest: Arc<Manifest>,
    object: Object,
    freshness: Freshness,
}

/// What [`crate::source::Source::list`] and [`crate::source::Source::follow`] have been called with.
#[derive(Default)]
struct Interest {
    scopes: Vec<(Scope, Selector)>,
    followed: BTreeSet<ObjectId>,
    sets: Vec<(Set, Selector)>,
}

impl Interest {
    fn wants(&self, manifest: &Manifest) -> bool {
        self.followed.contains(&manifest.id)
            || self.sets.iter().any(|(set, selector)| belongs(set, selector, manifest))
            || self.is_listed(manifest)
    }

    fn is_listed(&self, manifest: &Manifest) -> bool {
        self.scopes.iter().any(|(scope, selector)| covers(scope, selector, manifest))
    }

    /// Tells the store whether an object that is wanted by its name is in a list as well, where there are lists.
    fn place(&self, manifest: &Manifest, store: &Store) {
        if self.scopes.is_empty() || !self.followed.contains(&manifest.id) {
            return;
        }
        if self.is_listed(manifest) {
            store.unhide(&manifest.id);
        } else if !store.is_hidden(&manifest.id) {
            store.hide(&manifest.id);
        }
    }

    fn wants_namespaces(&self) -> bool {
        self.scopes.iter().any(|(scope, _)| scope.namespace.is_none())
    }
}

fn belongs(set: &Set, selector: &Selector, manifest: &Manifest) -> bool {
    match (set, &manifest.body) {
        (Set::PodsOf { node, .. }, Body::Pod(pod)) => {
            manifest.id.kind == Kind::Pod && pod.spec.node_name == node.as_str() && selector.matches(&manifest.labels)
        }
        (Set::TrustBundles, Body::TrustBundle(_)) => true,
        _ => false,
    }
}

fn covers(scope: &Scope, selector: &Selector, manifest: &Manifest) -> bool {
    scope.kinds.contains(&manifest.id.kind)
        && scope.namespace.as_ref().is_none_or(|namespace| *namespace == manifest.id.namespace)
        && selector.matches(&manifest.labels)
}

impl Known {
    /// Takes over what the files define now.
    pub fn update(&mut self, total: Total, store: &Store) {
        let wants_namespaces = self.interest.wants_namespaces();
        let old_namespaces = std::mem::replace(&mut self.namespaces, total.namespaces);
        if wants_namespaces {
            self.namespaces.difference(&old_namespaces).for_each(|namespace| store.add_namespace(namespace.clone()));
        }
        let mut old = std::mem::take(&mut self.objects);
        for (id, Definition { manifest, modified, freshness }) in total.objects {
            self.interest.place(&manifest, store);
            let entry = match old.remove(&id) {
                Some(entry) if entry.manifest.has_content_of(&manifest) => {
                    let was_wanted = self.interest.wants(&entry.manifest);
                    let entry = Entry { manifest, freshness, ..entry };
                    match (was_wanted, self.interest.wants(&entry.manifest)) {
                        (true, false) => store.remove(&id),
                        (false, true) => drop(store.put(entry.object.clone())),
                        _ => {}
                    }
                    entry
                }
                changed => {
                    self.version += 1;
                    let entry = Entry { object: object(&manifest, self.version, modified), manifest, freshness };
                    let was_wanted = changed.is_some_and(|old| self.interest.wants(&old.manifest));
                    if self.interest.wants(&entry.manifest) {
                        store.put(entry.object.clone());
                    } else if was_wanted {
                        store.remove(&id);
                    }
                    entry
                }
            };
            self.objects.insert(id, entry);
        }
        for (id, entry) in old {
            if self.interest.wants(&entry.manifest) {
                store.remove(&id);
            }
        }
        if wants_namespaces {
            old_namespaces.difference(&self.namespaces).for_each(|namespace| store.remove_namespace(namespace));
        }
    }

    /// Puts all of a scope into the store and keeps it current from now on.
    pub fn list(&mut self, scope: Scope, selector: Selector, store: &Store) {
        let covered = self.objects.values().filter(|entry| covers(&scope, &selector, &entry.manifest));
        if scope.namespace.is_none() {
            store.set_namespaces(self.namespaces.iter().cloned());
        }
        covered.for_each(|entry| drop(put(&entry.object, store)));
        if !self.interest.scopes.iter().any(|(known, _)| *known == scope) {
            self.interest.scopes.push((scope, selector));
        }
    }

    /// Puts all of a set into the store and keeps it current from now on.
    pub fn gather(&mut self, set: Set, selector: Selector, store: &Store) {
        let members = self.objects.values().filter(|entry| belongs(&set, &selector, &entry.manifest));
        members.for_each(|entry| drop(put(&entry.object, store)));
        self.interest.sets.push((set, selector));
    }

    /// How fresh each object is that somebody asked for.
    pub fn freshness(&self) -> Vec<(ObjectId, Freshness)> {
        let wanted = self.objects.iter().filter(|(_, entry)| self.interest.wants(&entry.manifest));
        wanted.map(|(id, entry)| (id.clone(), entry.freshness)).collect()
    }

    /// Puts an object into the store, if there is one, and keeps it current from now on.
    pub fn follow(&mut self, id: &ObjectId, store: &Store) -> Option<Arc<Object>> {
        self.interest.followed.insert(id.clone());
        let entry = self.objects.get(id)?;
        self.interest.place(&entry.manifest, store);
        Some(put(&entry.object, store))
    }
}

/// Puts an object into the store unless it is there.
fn put(object: &Object, store: &Store) -> Arc<Object> {
    match store.get(object.id()) {
        Some(InStore::Loaded(loaded)) if loaded.meta == object.meta => loaded,
        _ => store.put(object.clone()),
    }
}

fn object(manifest: &Manifest, version: u64, created: std::time::SystemTime) -> Object {
    let id = manifest.id.clone();
    let uid = Meta::declared_uid(&id);
    let meta = Meta { id, uid, version: version.to_string().into(), created };
    Object { meta, body: manifest.body.clone() }
}
