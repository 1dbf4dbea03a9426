//! Notices when somebody reads one object after the other (`grep -r`, `rsync`, `tar`), and fetches the rest by pages of
//! whole objects instead of a GET for each.
//!
//! 1. Five first reads in a namespace without a pause ([`Spell`]) begin a crawl of that namespace.
//! 2. When two namespaces have been gone through, the first read in another one is enough. If it comes in the order of the
//!    names and the whole cluster may be listed, the crawl goes on in the cluster's list, from that namespace on: a hundred
//!    namespaces of a hundred objects are twenty pages, not a hundred. There are no pages over the heads of readers that
//!    jump: a crawl serves what lies less than [`REACH`] objects ahead.
//! 3. All that may come in vain is as many objects as have been read, and a page or two ([`Spell::credit`]).
//!
//! What a page brings waits on the [`Shelf`] until somebody asks for it. What a page does not have, because it has just
//! come or changed, and what cannot be had by pages at all, is fetched by its name as usual.
//!
//! One lock round everything here. It is taken after the followed objects' ([`super::fetch`]) and before the store's.

mod pages;
mod position;
mod shelf;
mod spell;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use pages::{IDLE, PAGE};
use position::count_between;
use shelf::Shelf;
use spell::Spell;

pub use pages::Crawl;
pub use position::Position;

use super::core::Core;
use super::request::Collection;
use crate::object::{Object, ObjectId};

/// How many objects may lie between what a crawl has brought and what is wanted of it: who waits for a page waits for two
/// others at most, which is soon enough. A GET is sooner for what lies further ahead.
const REACH: usize = 2 * PAGE;
/// How many names may be listed to find the place where a crawl of the cluster begins. 10 000 are about 4 MB and 0.1 s.
const MOST_SKIPPED: usize = 20_000;
/// The cluster's list is taken if it needs so many times fewer requests than one for each namespace: it brings objects of
/// namespaces that nobody may come to.
const WORTH: usize = 2;

/// How an object is best had that is read for the first time.
pub enum Way {
    /// It is here.
    Here(Object),
    /// This crawl is going to bring it: see [`Crawls::await_page`].
    Page(Arc<Crawl>),
    Get,
}

#[derive(Default)]
struct State {
    spell: Spell,
    shelf: Shelf,
    crawls: Vec<Arc<Crawl>>,
}

/// The crawls that are going on.
#[derive(Default)]
pub struct Crawls(Mutex<State>);

impl Crawls {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes notice of a first read, and says how to serve it. `listing` is the one that has the object's name.
    pub fn way(self: &Arc<Self>, core: &Arc<Core>, id: &ObjectId, listing: &Collection) -> Way {
        let mut state = self.lock();
        let names = core.store.count(id.kind, &id.namespace);
        state.spell.read(id, names, Instant::now());
        if let Some(object) = state.take(id) {
            return Way::Here(object);
        }
        state.crawls.retain(|crawl| !crawl.has_ended());
        let place = Position::of(id);
        let crawl = state.crawls.iter().find(|crawl| state.is_within_reach(core, crawl, id, &place)).cloned();
        let Some(crawl) = crawl.or_else(|| self.begin(&mut state, core, id, listing)) else { return Way::Get };
        crawl.want(place);
        Way::Page(crawl)
    }

    /// Begins a crawl if there is reason to, and lets it run.
    fn begin(
        self: &Arc<Self>,
        state: &mut State,
        core: &Arc<Core>,
        id: &ObjectId,
        listing: &Collection,
    ) -> Option<Arc<Crawl>> {
        let crawl = Arc::new(state.new_crawl(core, id, listing)?);
        state.crawls.push(crawl.clone());
        let (crawls, running, shared) = (self.clone(), crawl.clone(), core.clone());
        core.spawn(async move {
            running
                .run(&shared, |mut page, last| {
                    let mut state = crawls.lock();
                    state.spell.brought(page.len());
                    page.retain(|object| shared.loaded(object.id()).is_none());
                    state.shelf.put(page);
                    running.arrived(last);
                })
                .await;
            crawls.clear_when_idle_for(IDLE).await;
        });
        Some(crawl)
    }

    /// Values that nobody comes for are not kept.
    async fn clear_when_idle_for(&self, time: Duration) {
        loop {
            sleep(time).await;
            let mut state = self.lock();
            if state.spell.is_idle_for(time, Instant::now()) {
                return state.shelf.clear();
            }
        }
    }

    /// The object, if a page has brought it.
    pub fn take(&self, id: &ObjectId) -> Option<Object> {
        self.lock().take(id)
    }

    /// Whoever asked for the object has an answer.
    pub fn answered(&self, id: &ObjectId) {
        self.lock().spell.answered(id, Instant::now());
    }
}

impl State {
    fn take(&mut self, id: &ObjectId) -> Option<Object> {
        let object = self.shelf.take(id)?;
        self.spell.taken();
        Some(object)
    }

    fn is_within_reach(&self, core: &Core, crawl: &Crawl, id: &ObjectId, place: &Position) -> bool {
        if !crawl.covers(id) || crawl.is_past(place) {
            return false;
        }
        let between = count_between(&core.store, id.kind, crawl.namespace(), crawl.frontier().as_ref(), place);
        between < self.reach(Some(crawl))
    }

    /// How many objects that nobody has asked for may be fetched now to come to one that somebody asks for. What other
    /// crawls are waiting for is not here yet, but counts.
    fn reach(&self, of: Option<&Crawl>) -> usize {
        let others = self.crawls.iter().filter(|other| of.is_none_or(|of| !std::ptr::eq(of, &***other)));
        let awaited = others.map(|other| other.awaited()).sum();
        REACH.min(self.spell.credit(PAGE).saturating_sub(awaited))
    }

    /// The crawl that should begin with this object.
    fn new_crawl(&self, core: &Core, id: &ObjectId, listing: &Collection) -> Option<Crawl> {
        let Collection::Objects { namespace, selector, .. } = listing else { return None };
        let enters = self.spell.enters(id);
        if !enters && !self.spell.is_crawl_of(id) || self.reach(None) == 0 {
            return None;
        }
        if namespace.is_none() && enters && self.spell.goes_forward(id) {
            let crawl = self.new_crawl_of_cluster(core, id, selector.clone());
            if crawl.is_some() {
                return crawl;
            }
        }
        let place = Position::of(id);
        let before = count_between(&core.store, id.kind, Some(&id.namespace), None, &place);
        let names = core.store.count(id.kind, &id.namespace);
        if names <= 1 || before >= self.reach(None) {
            return None;
        }
        Some(Crawl::of_namespace(id, selector.clone(), names))
    }

    /// The crawl of this namespace and all that follow by name, if that is worth it.
    fn new_crawl_of_cluster(&self, core: &Core, id: &ObjectId, selector: Option<String>) -> Option<Crawl> {
        let mut ahead = core.store.sizes(id.kind);
        ahead.retain(|(namespace, _)| *namespace >= id.namespace);
        let (objects, requests) = ahead
            .iter()
            .fold((0, 0), |(objects, requests), (_, names)| (objects + names, requests + names.div_ceil(PAGE)));
        if requests < WORTH * (1 + objects.div_ceil(PAGE)) {
            return None;
        }
        // The server has the namespace a-b before a.
        let first = ahead.iter().map(|(namespace, _)| Position::start_of(namespace)).min()?;
        let between = count_between(&core.store, id.kind, None, Some(&first), &Position::of(id));
        let start = if between < self.reach(None) { first } else { Position::start_of(&id.namespace) };
        let skipped = count_between(&core.store, id.kind, None, None, &start);
        (skipped <= MOST_SKIPPED).then(|| Crawl::of_cluster(id.kind, selector, start, skipped))
    }
}

#[cfg(test)]
mod tests {
    use super::shelf::tests::object;
    use super::*;

    #[tokio::test]
    async fn what_nobody_comes_for_is_not_kept() {
        let crawls = Crawls::default();
        let idle = Duration::from_millis(50);
        let (wanted, left) = (object("a", 10), object("b", 10));
        crawls.lock().spell.read(wanted.id(), 2, Instant::now());
        crawls.lock().shelf.put([object("a", 10), object("b", 10)]);
        let clearing = crawls.clear_when_idle_for(idle);
        assert!(crawls.take(wanted.id()).is_some());
        clearing.await;
        assert!(crawls.lock().spell.is_idle_for(idle, Instant::now()));
        assert!(crawls.take(left.id()).is_none());
    }
}
