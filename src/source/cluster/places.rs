//! Which listings a view has, by the user's rights: one for the whole cluster and kind, else one for each namespace that
//! somebody looks at, else none, and every object is asked for by its name.
//!
//! What is refused is asked for again at every poll ([`Listing`]), so rights that come take effect by themselves: the names
//! go into the store, and objects that had been followed one by one are followed by the listing from then on. Rights that
//! go take that way back: what was only a name is withdrawn, and what somebody has read is followed by its name for as long
//! as that is allowed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::core::{Core, not_found};
use super::expected::Expected;
use super::fetch::Fetcher;
use super::followers::Followers;
use super::gathered::Whole;
use super::listing::{Listing, NamespaceNames, ObjectNames};
use super::named::Absence;
use super::request::Collection;
use crate::object::{Kind, Namespace, Object, ObjectId};
use crate::source::{Freshness, Knowledge, Scope, Set};
use crate::store::{Access, Refusal};

/// How long a view of the cluster waits for all names before it is there. Within this time 40 000 names come from a server
/// nearby. Who looks at names that are on their way waits for them.
const PATIENCE: Duration = Duration::from_millis(500);

/// See the module's documentation.
pub struct Places {
    core: Arc<Core>,
    pub fetcher: Arc<Fetcher>,
    pub followers: Followers,
    expected: Arc<Expected>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    listings: Vec<Arc<Listing>>,
    selector: Option<String>,
}

impl Places {
    pub fn new(core: Arc<Core>) -> Arc<Self> {
        let expected: Arc<Expected> = Arc::default();
        let fetcher = Fetcher::new(core.clone(), expected.clone());
        let followers = Followers::new(core.clone(), expected.clone());
        Arc::new(Places { core, fetcher, followers, expected, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Starts the listings of a view and waits for what they give first.
    pub async fn list(self: &Arc<Self>, scope: Scope) -> Result<(), Refusal> {
        let namespaces = scope.namespace.is_none().then_some(Collection::Namespaces);
        let selector = scope.selector;
        self.lock().selector.clone_from(&selector);
        let objects = scope.kinds.into_iter().map(|kind| Collection::Objects {
            kind,
            namespace: scope.namespace.clone(),
            selector: selector.clone(),
        });
        let collections: Vec<_> = namespaces.into_iter().chain(objects).collect();
        for collection in &collections {
            if let Collection::Objects { kind, namespace: None, .. } = collection
                && self.existing(collection).is_none()
            {
                self.core.store.set_access(*kind, None, Access::Unread);
            }
        }
        // All at once, then one after another.
        let listings: Vec<_> = collections.into_iter().map(|collection| self.listing(collection)).collect();
        for listing in listings {
            let first = match &listing.collection {
                Collection::Objects { namespace: None, .. } => listing.first_or_begun(PATIENCE).await,
                _ => listing.first().await,
            };
            match first {
                // There is another way: see `refused`.
                Err(Refusal::Forbidden { .. }) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Finds out about the names of one kind in one namespace.
    pub async fn look(self: &Arc<Self>, namespace: Namespace, kind: Kind) -> Result<(), Refusal> {
        let selector = self.lock().selector.clone();
        let whole = Collection::Objects { kind, namespace: None, selector: selector.clone() };
        if let Some(listing) = self.existing(&whole) {
            let progress = listing.progress();
            // What is on its way comes sooner than a list of this namespace alone, and once for all of them.
            if progress.complete || (progress.begun && progress.refusal.is_none()) {
                match listing.first().await {
                    Err(Refusal::Forbidden { .. }) => {}
                    other => return other,
                }
            }
        }
        let listing = self.listing(Collection::Objects { kind, namespace: Some(namespace.clone()), selector });
        let found = match listing.first().await {
            Ok(()) => Access::Listed,
            Err(Refusal::Forbidden { .. }) => Access::ByName,
            Err(refusal) => return Err(refusal),
        };
        // The namespace may have been made anew since the listing began.
        if listing.is_running() {
            self.core.store.set_access(kind, Some(&namespace), found);
        }
        Ok(())
    }

    /// Keeps a set of whole objects current, and waits for the first complete list.
    pub async fn gather(self: &Arc<Self>, set: Set) -> Result<(), Refusal> {
        self.listing(Collection::Whole(set)).first().await
    }

    /// What is known of an object by the sets that are gathered; `None` if it must be asked for.
    pub fn gathered(&self, id: &ObjectId) -> Option<Result<Arc<Object>, Refusal>> {
        let state = self.lock();
        let mut sets = state.listings.iter().filter_map(|listing| match &listing.collection {
            Collection::Whole(set) if set.kind() == id.kind => Some((set, listing.progress())),
            _ => None,
        });
        let (set, progress) = sets.find(|(_, progress)| progress.complete)?;
        match self.core.loaded(id) {
            // A pod of another node is kept by other means, or by none.
            Some(object) if set.holds(&object) => Some(Ok(object)),
            Some(_) => None,
            // These are all there are.
            None if *set == Set::TrustBundles && progress.live => Some(Err(not_found(id))),
            None => None,
        }
    }

    fn existing(&self, collection: &Collection) -> Option<Arc<Listing>> {
        self.lock().listings.iter().find(|listing| listing.collection == *collection).cloned()
    }

    /// The listing of a collection, started if there is none yet.
    fn listing(self: &Arc<Self>, collection: Collection) -> Arc<Listing> {
        let mut state = self.lock();
        if let Some(listing) = state.listings.iter().find(|listing| listing.collection == collection) {
            return listing.clone();
        }
        let places = self.clone();
        let listing = match &collection {
            Collection::Namespaces => Listing::start(&self.core, collection, NamespaceNames { places }),
            Collection::Objects { kind, namespace, .. } => {
                let names = ObjectNames { kind: *kind, namespace: namespace.clone(), places };
                Listing::start(&self.core, collection, names)
            }
            Collection::Whole(set) => {
                let names = Whole::new(self.core.clone(), set);
                Listing::start(&self.core, collection, names)
            }
        };
        state.listings.push(listing.clone());
        listing
    }

    /// The listing that has the object's name, or will have it: that of its namespace if there is one, since it is there
    /// only where the cluster's is refused.
    pub fn listing_of(&self, id: &ObjectId) -> Option<Arc<Listing>> {
        let rank = |listing: &Arc<Listing>| match &listing.collection {
            Collection::Objects { kind, namespace, .. } if *kind == id.kind => match namespace {
                Some(namespace) => (*namespace == id.namespace).then_some(1),
                None => Some(0),
            },
            _ => None,
        };
        let state = self.lock();
        state
            .listings
            .iter()
            .filter_map(|listing| Some((rank(listing)?, listing)))
            .max_by_key(|(rank, _)| *rank)
            .map(|(_, listing)| listing.clone())
    }

    /// How to ask for objects that are not listed: in a view their names may be anybody's guesses.
    pub fn absence(&self) -> Absence {
        let shows_names = |listing: &Arc<Listing>| !matches!(listing.collection, Collection::Whole(_));
        if self.lock().listings.iter().any(shows_names) { Absence::Leave } else { Absence::Wait }
    }

    /// Whether names are listed by labels: what is not in a list may be there all the same.
    pub fn has_selector(&self) -> bool {
        self.lock().selector.is_some()
    }

    /// Something shown needs the object, until [`Places::forget`]: it is waited for, and nothing that a list with a selector
    /// says about it makes it go.
    pub fn expect(&self, id: &ObjectId) {
        self.expected.insert(id.clone());
        if self.has_selector() && self.core.store.get(id).is_none() {
            self.core.store.hide(id);
        }
    }

    /// Nobody uses the object any more.
    pub fn forget(&self, id: &ObjectId) {
        self.followers.end(id);
        if self.core.store.is_hidden(id) {
            self.core.store.remove(id);
            self.core.store.unhide(id);
        }
    }

    /// How fresh everything is that is known.
    pub fn knowledge(&self) -> Knowledge {
        let listings = self.lock().listings.clone();
        let mut of_place: HashMap<(Kind, Option<Namespace>), Freshness> = HashMap::new();
        let mut lists = Vec::new();
        for listing in listings {
            let freshness = listing.freshness();
            lists.push((listing.collection.name(), freshness));
            if let Collection::Objects { kind, namespace, .. } = &listing.collection {
                of_place.insert((*kind, namespace.clone()), freshness);
            }
        }
        let list = |id: &ObjectId| {
            let own = of_place.get(&(id.kind, Some(id.namespace.clone())));
            own.or_else(|| of_place.get(&(id.kind, None))).copied()
        };
        let mut objects = self.followers.freshness();
        let named: HashSet<ObjectId> = objects.iter().map(|(id, _)| id.clone()).collect();
        objects.extend(self.fetcher.freshness(list).into_iter().filter(|(id, _)| !named.contains(id)));
        Knowledge { lists, objects }
    }

    // ---- what the listings find out

    /// A complete list of one kind, in one namespace or in all.
    pub(super) fn listed(&self, kind: Kind, namespace: Option<&Namespace>, all: Vec<crate::object::Meta>) {
        let followed = match self.has_selector() {
            true => {
                let listed: HashSet<&ObjectId> = all.iter().map(|meta| &meta.id).collect();
                let (here, elsewhere): (Vec<_>, Vec<_>) =
                    self.expected.of(kind, namespace).into_iter().partition(|id| listed.contains(id));
                here.iter().for_each(|id| self.core.store.unhide(id));
                elsewhere.iter().for_each(|id| self.core.store.hide(id));
                self.followers.end_unexpected(kind, namespace)
            }
            false => self.followers.end_all(kind, namespace),
        };
        followed.into_iter().for_each(|id| self.fetcher.adopt(id));
        self.fetcher.listed(kind, namespace, all);
        if namespace.is_none() {
            self.end(|of, namespace| of == kind && namespace.is_some());
        }
        self.core.store.set_access(kind, namespace, Access::Listed);
    }

    /// A listing has seen that the object is there in this version.
    pub(super) fn present(&self, meta: crate::object::Meta) {
        self.core.store.unhide(&meta.id);
        self.fetcher.present(meta);
    }

    /// A listing has seen that the object is gone, or that its labels have changed.
    pub(super) fn removed(&self, id: &ObjectId) {
        if self.has_selector() && self.expected.contains(id) {
            // Whoever follows it knows better.
            self.core.store.hide(id);
            self.followers.start(id.clone(), Absence::Wait);
        } else {
            self.fetcher.removed(id);
        }
    }

    /// One kind may not be listed, in one namespace or in all, now or any more.
    pub(super) fn refused(&self, kind: Kind, namespace: Option<&Namespace>) {
        for id in self.fetcher.delisted(kind, namespace) {
            self.followers.start(id, Absence::Leave);
        }
        self.followers.start_expected(kind, namespace);
        let access = if namespace.is_some() { Access::ByName } else { Access::Unread };
        self.core.store.set_access(kind, namespace, access);
    }

    pub(super) fn namespaces_listed(&self, all: Vec<Namespace>) {
        let gone = self.core.store.namespaces().into_iter().filter(|namespace| !all.contains(namespace));
        let gone: Vec<_> = gone.collect();
        gone.iter().for_each(|namespace| self.end_namespace(namespace));
        self.core.store.set_namespaces(all);
    }

    pub(super) fn namespace_added(&self, namespace: Namespace) {
        self.core.store.add_namespace(namespace);
    }

    pub(super) fn namespace_removed(&self, namespace: &Namespace) {
        self.end_namespace(namespace);
        self.core.store.remove_namespace(namespace);
    }

    /// Namespaces may not be listed: those that the user has named are shown, and those of which something is known.
    pub(super) fn namespaces_refused(&self) {
        let mut shown: BTreeSet<Namespace> = self.core.client.target().namespaces.iter().cloned().collect();
        shown.extend(self.core.store.namespaces_with_objects());
        self.namespaces_listed(shown.into_iter().collect());
    }

    /// What was followed in a namespace that is gone.
    fn end_namespace(&self, namespace: &Namespace) {
        self.end(|_, of| of == Some(namespace));
        self.followers.end_namespace(namespace);
    }

    fn end(&self, wanted: impl Fn(Kind, Option<&Namespace>) -> bool) {
        self.lock().listings.retain(|listing| match &listing.collection {
            Collection::Objects { kind, namespace, .. } if wanted(*kind, namespace.as_ref()) => {
                listing.end();
                false
            }
            _ => true,
        });
    }
}
