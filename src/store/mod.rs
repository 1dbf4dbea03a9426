//! What is known now: namespaces, objects and how fresh that knowledge is.
//!
//! Sources write, one view reads. Changes are coalesced: for each namespace and object the store remembers only *that*
//! something changed, in the order of the first change, and the reader then looks at the newest state. However fast a
//! source is, the queue is never longer than the number of things known, and the last state always arrives.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use crate::object::{Kind, Meta, Name, Namespace, Object, ObjectId};

/// Why a source cannot give an object or a listing now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Indicates that the source is sure that there is no such thing.
    #[error("{what} was not found: check the name, the namespace (-n) and the context")]
    NotFound { what: String },
    /// Indicates that the user's rights do not cover the request (HTTP 403).
    #[error("{what}: access denied: ask for a Role that allows it")]
    Forbidden { what: String },
    /// Indicates missing, wrong or expired credentials (HTTP 401).
    #[error("{what}: the API server does not accept the credentials: log in again or check the kubeconfig")]
    Unauthorized { what: String },
    /// Indicates that no answer came before the deadline.
    #[error("{what}: no answer from {from} within the deadline: check the network, or raise --timeout")]
    TimedOut { what: String, from: String },
    /// Indicates that the API server could not be asked or did not answer properly.
    #[error("{what}: {why}")]
    Unavailable { what: String, why: String },
}

impl Refusal {
    /// What a program that opens the file gets to see.
    pub fn errno(&self) -> i32 {
        match self {
            Refusal::NotFound { .. } => libc::ENOENT,
            Refusal::Forbidden { .. } | Refusal::Unauthorized { .. } => libc::EACCES,
            Refusal::TimedOut { .. } => libc::ETIMEDOUT,
            Refusal::Unavailable { .. } => libc::EIO,
        }
    }
}

/// What is known of one object.
#[derive(Clone, Debug)]
pub enum Known {
    /// It exists; nobody has asked for its values.
    Named(Meta),
    /// It exists and its values are here.
    Loaded(Arc<Object>),
}

impl Known {
    pub fn meta(&self) -> &Meta {
        match self {
            Known::Named(meta) => meta,
            Known::Loaded(object) => &object.meta,
        }
    }

    /// The sum of the sizes of its values that are here, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Known::Named(_) => 0,
            Known::Loaded(object) => object.data_bytes(),
        }
    }
}

/// Whether the names of one kind in one namespace are all known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Those in the store are all there are.
    #[default]
    Listed,
    /// Nobody has asked the source to look yet.
    Unread,
    /// They may not be listed. Each can be asked for.
    ByName,
}

/// Something whose state differs from what the reader saw last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    Namespace(Namespace),
    Object(ObjectId),
    /// The [`Access`] to one kind in one namespace.
    Access(Namespace, Kind),
    /// A set of whole objects of this kind is here, all of it.
    Gathered(Kind),
}

/// How much a store knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub namespaces: usize,
    /// Objects known by name.
    pub objects: usize,
    /// Objects whose values are here, and the sum of these in bytes.
    pub loaded: usize,
    pub bytes: usize,
}

#[derive(Default)]
struct Inner {
    namespaces: BTreeSet<Namespace>,
    /// By directory of a view: one map for each namespace and kind that has objects.
    objects: BTreeMap<(Namespace, Kind), BTreeMap<Name, Known>>,
    /// The access to one kind in all namespaces but those in `exceptions`.
    access: HashMap<Kind, Access>,
    exceptions: BTreeMap<(Namespace, Kind), Access>,
    /// Objects whose values were taken away from the reader's eyes although they may be there.
    withdrawn: HashSet<ObjectId>,
    /// Objects that no list of the view has: if they are known, then because something shown needs them.
    hidden: HashSet<ObjectId>,
    /// The sum of the sizes of all values, in bytes.
    bytes: usize,
    queue: VecDeque<Change>,
    queued: HashSet<Change>,
}

impl Inner {
    fn mark(&mut self, change: Change) {
        if self.queued.insert(change.clone()) {
            self.queue.push_back(change);
        }
    }

    fn get(&self, id: &ObjectId) -> Option<&Known> {
        self.objects.get(&(id.namespace.clone(), id.kind))?.get(&id.name)
    }

    fn insert(&mut self, known: Known) {
        let id = known.meta().id.clone();
        self.withdrawn.remove(&id);
        self.bytes += known.bytes();
        let names = self.objects.entry((id.namespace.clone(), id.kind)).or_default();
        let old = names.insert(id.name.clone(), known);
        self.bytes -= old.map_or(0, |old| old.bytes());
        self.mark(Change::Object(id));
    }

    fn remove(&mut self, id: &ObjectId) {
        if self.withdrawn.remove(id) {
            self.mark(Change::Object(id.clone()));
        }
        let place = (id.namespace.clone(), id.kind);
        let Some(names) = self.objects.get_mut(&place) else { return };
        let old = names.remove(&id.name);
        let removed = old.is_some();
        self.bytes -= old.map_or(0, |old| old.bytes());
        if names.is_empty() {
            self.objects.remove(&place);
        }
        if removed {
            self.mark(Change::Object(id.clone()));
        }
    }

    fn access(&self, namespace: &Namespace, kind: Kind) -> Access {
        let exception = self.exceptions.get(&(namespace.clone(), kind));
        exception.or_else(|| self.access.get(&kind)).copied().unwrap_or_default()
    }

    /// The ids of all objects in the directories that `wanted` picks.
    fn ids(&self, wanted: impl Fn(&Namespace, Kind) -> bool) -> Vec<ObjectId> {
        let directories = self.objects.iter().filter(|((namespace, kind), _)| wanted(namespace, *kind));
        directories
            .flat_map(|((namespace, kind), names)| {
                names.keys().map(|name| ObjectId { namespace: namespace.clone(), kind: *kind, name: name.clone() })
            })
            .collect()
    }
}

/// See the module's documentation.
#[derive(Default)]
pub struct Store {
    inner: Mutex<Inner>,
    changed: Notify,
}

impl Store {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock is held cannot leave the maps half changed: every write below is one map operation.
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn update<R>(&self, change: impl FnOnce(&mut Inner) -> R) -> R {
        let (result, any) = {
            let mut inner = self.lock();
            let result = change(&mut inner);
            (result, !inner.queue.is_empty())
        };
        if any {
            self.changed.notify_one();
        }
        result
    }

    /// Takes a complete list of namespaces; those that are not in it are gone, with all their objects.
    pub fn set_namespaces(&self, all: impl IntoIterator<Item = Namespace>) {
        let all: BTreeSet<Namespace> = all.into_iter().collect();
        self.update(|inner| {
            let gone: Vec<_> = inner.namespaces.difference(&all).cloned().collect();
            let new: Vec<_> = all.difference(&inner.namespaces).cloned().collect();
            gone.into_iter().for_each(|namespace| drop_namespace(inner, &namespace));
            for namespace in new {
                inner.namespaces.insert(namespace.clone());
                inner.mark(Change::Namespace(namespace));
            }
        });
    }

    /// Takes notice of one namespace.
    pub fn add_namespace(&self, namespace: Namespace) {
        self.update(|inner| {
            if inner.namespaces.insert(namespace.clone()) {
                inner.mark(Change::Namespace(namespace));
            }
        });
    }

    /// Forgets a namespace and its objects.
    pub fn remove_namespace(&self, namespace: &Namespace) {
        self.update(|inner| drop_namespace(inner, namespace));
    }

    /// Takes a complete list of the objects of one kind, in one namespace or in all; those that are not in it are gone, but
    /// for those that are hidden.
    /// Values that are here stay as long as uid and version are the listed ones.
    pub fn set_names(&self, kind: Kind, namespace: Option<&Namespace>, all: impl IntoIterator<Item = Meta>) {
        let all: BTreeMap<ObjectId, Meta> = all.into_iter().map(|meta| (meta.id.clone(), meta)).collect();
        self.update(|inner| {
            let mut gone = inner.ids(|ns, k| k == kind && namespace.is_none_or(|wanted| wanted == ns));
            gone.retain(|id| !all.contains_key(id) && !inner.hidden.contains(id));
            gone.iter().for_each(|id| inner.remove(id));
            all.into_values().for_each(|meta| put_name(inner, meta));
        });
    }

    /// Takes notice that an object exists in this version. An object whose values are here in another version keeps
    /// them until the source has the new ones ([`Store::put`]): content is replaced, never withdrawn meanwhile.
    pub fn put_name(&self, meta: Meta) {
        self.update(|inner| put_name(inner, meta));
    }

    /// Takes an object with its values.
    pub fn put(&self, object: Object) -> Arc<Object> {
        let object = Arc::new(object);
        self.update(|inner| inner.insert(Known::Loaded(object.clone())));
        object
    }

    /// The user's rights no longer cover the object: its values go, and so does its name, which may not be known either.
    pub fn withdraw(&self, id: &ObjectId) {
        self.update(|inner| {
            if inner.get(id).is_some() {
                inner.remove(id);
                inner.withdrawn.insert(id.clone());
            }
        });
    }

    /// The user's rights no longer cover the object's values: they go, its name stays.
    pub fn withdraw_values(&self, id: &ObjectId) {
        self.update(|inner| {
            if let Some(Known::Loaded(object)) = inner.get(id).cloned() {
                inner.insert(Known::Named(object.meta.clone()));
                inner.withdrawn.insert(id.clone());
            }
        });
    }

    /// Lets go of an object's values to save memory: they can be fetched again. Nothing has changed for the reader.
    pub fn unload(&self, id: &ObjectId) {
        let mut inner = self.lock();
        let names = inner.objects.get_mut(&(id.namespace.clone(), id.kind));
        let Some(known) = names.and_then(|names| names.get_mut(&id.name)) else { return };
        let bytes = known.bytes();
        *known = Known::Named(known.meta().clone());
        inner.bytes -= bytes;
    }

    /// The sum of the sizes of all values, in bytes.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Whether the object was taken away by [`Store::withdraw`] or [`Store::withdraw_values`], and has not come back.
    pub fn is_withdrawn(&self, id: &ObjectId) -> bool {
        self.lock().withdrawn.contains(id)
    }

    /// Sets the access to one kind, in one namespace or in all.
    pub fn set_access(&self, kind: Kind, namespace: Option<&Namespace>, access: Access) {
        self.update(|inner| match namespace {
            Some(namespace) => {
                if inner.access(namespace, kind) != access {
                    inner.exceptions.insert((namespace.clone(), kind), access);
                    inner.mark(Change::Access(namespace.clone(), kind));
                }
            }
            None => {
                let mut places: BTreeSet<Namespace> = inner.namespaces.clone();
                let with_objects = inner.objects.keys().filter(|(_, of)| *of == kind);
                places.extend(with_objects.map(|(namespace, _)| namespace.clone()));
                places.retain(|namespace| inner.access(namespace, kind) != access);
                inner.exceptions.retain(|(_, of), _| *of != kind);
                inner.access.insert(kind, access);
                places.into_iter().for_each(|namespace| inner.mark(Change::Access(namespace, kind)));
            }
        });
    }

    /// Whether the names of one kind in one namespace are all known.
    pub fn access(&self, namespace: &Namespace, kind: Kind) -> Access {
        self.lock().access(namespace, kind)
    }

    /// No list of the view has the object, whatever its source knows of it: it has no directory of its own. It may not be
    /// known at all yet.
    pub fn hide(&self, id: &ObjectId) {
        self.update(|inner| {
            inner.hidden.insert(id.clone());
            inner.mark(Change::Object(id.clone()));
        });
    }

    /// A list has it, or nobody needs it any more.
    pub fn unhide(&self, id: &ObjectId) {
        self.update(|inner| {
            if inner.hidden.remove(id) {
                inner.mark(Change::Object(id.clone()));
            }
        });
    }

    /// Whether the object is known, if it is, only because something shown needs it.
    pub fn is_hidden(&self, id: &ObjectId) -> bool {
        self.lock().hidden.contains(id)
    }

    /// Has the reader look at the object once more.
    pub fn look_again(&self, id: ObjectId) {
        self.update(|inner| inner.mark(Change::Object(id)));
    }

    /// Tells that a set of whole objects is here, all of it, even if there are none.
    pub fn gathered(&self, kind: Kind) {
        self.update(|inner| inner.mark(Change::Gathered(kind)));
    }

    /// The objects of one kind that are known, in one namespace or in all.
    pub fn objects(&self, kind: Kind, namespace: Option<&Namespace>) -> Vec<Known> {
        let inner = self.lock();
        let places = inner.objects.iter().filter(|((ns, of), _)| *of == kind && namespace.is_none_or(|one| one == ns));
        places.flat_map(|(_, names)| names.values().cloned()).collect()
    }

    /// The namespaces in which any object is known.
    pub fn namespaces_with_objects(&self) -> BTreeSet<Namespace> {
        self.lock().objects.keys().map(|(namespace, _)| namespace.clone()).collect()
    }

    /// Forgets an object that its source is sure is gone.
    pub fn remove(&self, id: &ObjectId) {
        self.update(|inner| inner.remove(id));
    }

    /// The newest knowledge of one object; `None` if there is no such object, as far as is known.
    pub fn get(&self, id: &ObjectId) -> Option<Known> {
        self.lock().get(id).cloned()
    }

    pub fn has_namespace(&self, namespace: &Namespace) -> bool {
        self.lock().namespaces.contains(namespace)
    }

    pub fn namespaces(&self) -> Vec<Namespace> {
        self.lock().namespaces.iter().cloned().collect()
    }

    /// The names of one kind in one namespace, in order; not those that are hidden.
    pub fn names(&self, kind: Kind, namespace: &Namespace) -> Vec<Name> {
        let inner = self.lock();
        let names = inner.objects.get(&(namespace.clone(), kind)).into_iter().flat_map(|names| names.values());
        names.map(|known| &known.meta().id).filter(|id| !inner.hidden.contains(*id)).map(|id| id.name.clone()).collect()
    }

    /// How many names of one kind there are in one namespace.
    pub fn count(&self, kind: Kind, namespace: &Namespace) -> usize {
        self.lock().objects.get(&(namespace.clone(), kind)).map_or(0, BTreeMap::len)
    }

    /// The same for each namespace that has any.
    pub fn sizes(&self, kind: Kind) -> Vec<(Namespace, usize)> {
        let inner = self.lock();
        let places = inner.objects.iter().filter(|((_, of), _)| *of == kind);
        places.map(|((namespace, _), names)| (namespace.clone(), names.len())).collect()
    }

    /// How much is known.
    pub fn summary(&self) -> Summary {
        let inner = self.lock();
        let mut summary = Summary { namespaces: inner.namespaces.len(), bytes: inner.bytes, ..Summary::default() };
        for known in inner.objects.values().flat_map(|names| names.values()) {
            summary.objects += 1;
            summary.loaded += usize::from(matches!(known, Known::Loaded(_)));
        }
        summary
    }

    /// Waits for the next change and takes it off the queue. There is one reader.
    pub async fn next_change(&self) -> Change {
        loop {
            if let Some(change) = self.take_change() {
                return change;
            }
            self.changed.notified().await;
        }
    }

    /// Takes the next change if there is one.
    pub fn take_change(&self) -> Option<Change> {
        let mut inner = self.lock();
        let change = inner.queue.pop_front()?;
        inner.queued.remove(&change);
        Some(change)
    }
}

fn put_name(inner: &mut Inner, meta: Meta) {
    let names = inner.objects.entry((meta.id.namespace.clone(), meta.id.kind)).or_default();
    match names.get_mut(&meta.id.name) {
        // Another version of something whose values nobody has asked for: nothing that a reader could see has changed.
        Some(Known::Named(old)) => *old = meta,
        Some(Known::Loaded(_)) => {}
        None => inner.insert(Known::Named(meta)),
    }
}

fn drop_namespace(inner: &mut Inner, namespace: &Namespace) {
    inner.ids(|ns, _| ns == namespace).iter().for_each(|id| inner.remove(id));
    inner.exceptions.retain(|(of, _), _| of != namespace);
    inner.hidden.retain(|id| id.namespace != *namespace);
    if inner.namespaces.remove(namespace) {
        inner.mark(Change::Namespace(namespace.clone()));
    }
}

#[cfg(test)]
mod tests;
