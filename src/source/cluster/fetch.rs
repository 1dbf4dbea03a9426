//! Fetches the values of listed objects: one GET however many ask, and again when the listing reports a change.
//!
//! What was asked for once is *followed* from then on. Listing and GETs run beside each other, so each followed object
//! counts the listing's reports about it: an answer that was asked for before the newest report is not the last word, and
//! one that was asked for before the object was removed is dropped. Reports that come while a GET is under way lead to one
//! more GET, however many they are.
//!
//! Somebody who reads one object after the other is served by [`Crawls`], whose objects count like answers to GETs.
//!
//! What is expected ([`Expected`]) is fetched when it is listed, whether somebody has asked for it since or not, and until that
//! works.
//!
//! Lock order: the followed objects, then the crawls, then the store. The store is written under the lock here, so that a
//! late answer cannot slip past a removal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::core::{Before, Core, Denials, Pace, not_found};
use super::crawl::{Crawl, Crawls, Position, Way};
use super::expected::Expected;
use super::failure::Failure;
use super::request::Collection;
use super::watch::is_older;
use crate::object::{Kind, Meta, Namespace, Object, ObjectId};
use crate::source::freshness::{Freshness, State};
use crate::store::{Known, Refusal};

/// What came of a fetch; `None` while it is under way.
type Outcome = Option<Result<Arc<Object>, Refusal>>;

#[derive(Default)]
struct Followed {
    /// How many reports of the listing there were about it.
    reports: u64,
    /// The number of the last report that said that it is gone.
    removed: u64,
    /// The uid and version that were stored last; the values may have been let go of since.
    stored: Option<(Arc<str>, Arc<str>)>,
    /// When that was.
    stored_at: Option<SystemTime>,
    /// The task that is fetching it now.
    fetch: Option<watch::Receiver<Outcome>>,
}

/// See the module's documentation.
pub struct Fetcher {
    core: Arc<Core>,
    followed: Mutex<HashMap<ObjectId, Followed>>,
    crawls: Arc<Crawls>,
    expected: Arc<Expected>,
}

impl Followed {
    fn store<T>(&mut self, object: Object, put: impl FnOnce(Object) -> T) -> T {
        self.stored = Some((object.meta.uid.clone(), object.meta.version.clone()));
        self.stored_at = Some(SystemTime::now());
        put(object)
    }
}

impl Fetcher {
    pub fn new(core: Arc<Core>, expected: Arc<Expected>) -> Arc<Self> {
        Arc::new(Fetcher { core, followed: Mutex::default(), crawls: Arc::default(), expected })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectId, Followed>> {
        self.followed.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The object with its values, fetched if need be, and followed from now on. `listing` is the one that has its name.
    pub async fn follow(self: &Arc<Self>, id: ObjectId, listing: &Collection) -> Result<Arc<Object>, Refusal> {
        let mut fetch = {
            let mut followed = self.lock();
            let entry = followed.entry(id.clone()).or_default();
            if let Some(object) = self.core.loaded(&id) {
                return Ok(object);
            }
            let crawl = match &entry.fetch {
                Some(_) => None,
                // Many who read one after the other are served together.
                None => match self.crawls.way(&self.core, &id, listing) {
                    Way::Here(object) => match self.accept(entry, object) {
                        Some(object) => return Ok(object),
                        None => None,
                    },
                    Way::Page(crawl) => Some(crawl),
                    Way::Get => None,
                },
            };
            self.fetch(&id, entry, crawl)
        };
        // The GET has a deadline of its own; this one is for a fetch that is waiting to try again.
        let limit = self.core.client.timeout() + Duration::from_millis(200);
        let outcome = timeout(limit, fetch.wait_for(Option::is_some)).await;
        self.crawls.answered(&id);
        match outcome.map(|outcome| outcome.map(|outcome| outcome.clone())) {
            Ok(Ok(Some(result))) => result,
            _ => Err(self.core.refusal(&id, Failure::TimedOut)),
        }
    }

    /// Joins the fetch that is under way or starts one.
    fn fetch(
        self: &Arc<Self>,
        id: &ObjectId,
        entry: &mut Followed,
        crawl: Option<Arc<Crawl>>,
    ) -> watch::Receiver<Outcome> {
        if let Some(fetch) = &entry.fetch {
            return fetch.clone();
        }
        let (outcome, fetch) = watch::channel(None);
        entry.fetch = Some(fetch.clone());
        let (fetcher, id) = (self.clone(), id.clone());
        self.core.spawn(async move {
            if let Some(crawl) = crawl {
                let before = fetcher.lock().get(&id).map_or(0, |entry| entry.reports);
                // While a page is late there is still time for a GET.
                let patience = fetcher.core.client.timeout() / 2;
                let _ = timeout(patience, crawl.pass(&Position::of(&id))).await;
                if fetcher.came_by_crawl(&id, before, &outcome) {
                    return;
                }
            }
            fetcher.run(&id, outcome).await;
        });
        fetch
    }

    /// Takes an object that a page has brought, if nothing newer is known of it: the listing has the last word on what is
    /// there.
    fn accept(&self, entry: &mut Followed, object: Object) -> Option<Arc<Object>> {
        let Some(Known::Named(meta)) = self.core.store.get(object.id()) else { return None };
        let current = object.meta.version == meta.version || is_older(&meta.version, &object.meta.version);
        if meta.uid != object.meta.uid || !current {
            return None;
        }
        Some(entry.store(object, |object| self.core.store.put(object)))
    }

    /// How fresh each object is whose values are kept or wanted, where `list` says how fresh the list is that has it.
    pub fn freshness(&self, list: impl Fn(&ObjectId) -> Option<Freshness>) -> Vec<(ObjectId, Freshness)> {
        let followed = self.lock();
        let fresh = |id: &ObjectId, entry: &Followed| {
            let confirmed = entry.stored_at;
            let state = match self.core.store.get(id) {
                _ if self.core.store.is_withdrawn(id) => State::Forbidden,
                // A newer version is on its way.
                Some(Known::Loaded(_)) if entry.fetch.is_some() => State::Stale,
                Some(Known::Loaded(_)) => {
                    let list = list(id).unwrap_or(Freshness { state: State::Stale, confirmed: None });
                    let state = if list.state == State::Live { State::Live } else { State::Stale };
                    return Some(Freshness { state, confirmed: list.confirmed.max(confirmed) });
                }
                _ if entry.fetch.is_some() => State::Unknown,
                _ => return None,
            };
            Some(Freshness { state, confirmed })
        };
        followed.iter().filter_map(|(id, entry)| Some((id.clone(), fresh(id, entry)?))).collect()
    }

    /// Whether a crawl has brought the object, and nothing has been reported about it meanwhile.
    fn came_by_crawl(&self, id: &ObjectId, before: u64, outcome: &watch::Sender<Outcome>) -> bool {
        let mut followed = self.lock();
        let Some(entry) = followed.get_mut(id).filter(|entry| entry.reports == before) else { return false };
        let brought = self.crawls.take(id);
        let Some(object) = brought.and_then(|object| self.accept(entry, object)) else { return false };
        entry.fetch = None;
        outcome.send_replace(Some(Ok(object)));
        true
    }

    /// Asks until the answer is newer than the last report.
    async fn run(&self, id: &ObjectId, outcome: watch::Sender<Outcome>) {
        let mut pace = Pace::new(self.core.poll);
        let mut denials = Denials::default();
        loop {
            let before = self.lock().get(id).map_or(0, |entry| entry.reports);
            let answer = self.core.get(id).await;
            let pause = {
                let mut followed = self.lock();
                let entry = followed.entry(id.clone()).or_default();
                match self.conclude(id, entry, before, answer, &mut denials, &outcome) {
                    Next::Done => {
                        entry.fetch = None;
                        if self.core.loaded(id).is_none() {
                            // Nothing to keep current: who asks again begins anew.
                            followed.remove(id);
                        }
                        return;
                    }
                    Next::Again => None,
                    Next::Later(failure) => Some(pace.after(&failure, Before::Answered)),
                }
            };
            if let Some(pause) = pause {
                sleep(pause).await;
            }
        }
    }

    /// Takes an answer in, with the followed objects locked.
    fn conclude(
        &self,
        id: &ObjectId,
        entry: &mut Followed,
        before: u64,
        answer: Result<Object, Failure>,
        denials: &mut Denials,
        outcome: &watch::Sender<Outcome>,
    ) -> Next {
        let removed_meanwhile = entry.removed > before;
        let gone_now = entry.reports > 0 && entry.removed == entry.reports;
        let told = match answer {
            Ok(object) if !removed_meanwhile => {
                entry.store(object, |object| self.core.put(object));
                self.core.loaded(id).ok_or_else(|| not_found(id))
            }
            Ok(_) if gone_now => Err(not_found(id)),
            Ok(_) => return Next::Again,
            Err(failure) if failure.is_not_found(id.name.as_str()) => match entry.reports == before {
                true => {
                    self.core.store.remove(id);
                    Err(not_found(id))
                }
                false if gone_now => Err(not_found(id)),
                // It has come back since.
                false => return Next::Again,
            },
            Err(failure) => {
                outcome.send_replace(Some(Err(self.core.refusal(id, failure.clone()))));
                if denials.persist(&failure, self.core.poll) && self.core.loaded(id).is_some() {
                    tracing::warn!("{id}: access has been denied for a while: what was shown is withdrawn");
                    self.core.store.withdraw_values(id);
                }
                // Who waits has been told. What is shown to readers must be brought up to date all the same.
                let goes_on = self.core.loaded(id).is_some() || self.expected.contains(id);
                return if goes_on { Next::Later(failure) } else { Next::Done };
            }
        };
        outcome.send_replace(Some(told));
        if entry.reports == before || gone_now { Next::Done } else { Next::Again }
    }

    /// The object is here already, and was followed by other means.
    pub fn adopt(&self, id: ObjectId) {
        let mut followed = self.lock();
        if self.core.loaded(&id).is_some() {
            followed.entry(id).or_default();
        }
    }

    /// What is listed may not be any more, in one namespace or in all. Names of which nobody wanted the values go; gives
    /// the objects that stay and have to be followed by other means, unless they are so already.
    pub fn delisted(&self, kind: Kind, namespace: Option<&Namespace>) -> Vec<ObjectId> {
        let mut followed = self.lock();
        let mut kept = Vec::new();
        for known in self.core.store.objects(kind, namespace) {
            let id = known.meta().id.clone();
            if followed.remove(&id).is_some() || self.expected.contains(&id) {
                kept.push(id);
            } else {
                self.core.store.remove(&id);
            }
        }
        kept
    }

    /// The listing has a complete list of one kind.
    pub fn listed(self: &Arc<Self>, kind: Kind, namespace: Option<&Namespace>, all: Vec<Meta>) {
        let mut followed = self.lock();
        let in_scope = |id: &ObjectId| id.kind == kind && namespace.is_none_or(|wanted| *wanted == id.namespace);
        let mut missing: Vec<ObjectId> = followed.keys().filter(|id| in_scope(id)).cloned().collect();
        let expected = self.expected.of(kind, namespace);
        let mut changed = Vec::new();
        if !missing.is_empty() || !expected.is_empty() {
            let versions: HashMap<&ObjectId, &Meta> = all.iter().map(|meta| (&meta.id, meta)).collect();
            missing.retain(|id| match versions.get(id) {
                Some(meta) => {
                    changed.push((*meta).clone());
                    false
                }
                None => true,
            });
            let new = expected.iter().filter(|id| !followed.contains_key(*id));
            changed.extend(new.filter_map(|id| versions.get(id).map(|meta| (*meta).clone())));
        }
        self.core.store.set_names(kind, namespace, all);
        for id in missing {
            if let Some(entry) = followed.get_mut(&id) {
                entry.reports += 1;
                entry.removed = entry.reports;
            }
        }
        for meta in changed {
            self.report(&mut followed, &meta);
        }
    }

    /// The listing has seen that the object is there in this version.
    pub fn present(self: &Arc<Self>, meta: Meta) {
        let mut followed = self.lock();
        self.core.store.put_name(meta.clone());
        self.report(&mut followed, &meta);
    }

    /// The listing has seen that the object is gone.
    pub fn removed(&self, id: &ObjectId) {
        let mut followed = self.lock();
        if let Some(entry) = followed.get_mut(id) {
            entry.reports += 1;
            entry.removed = entry.reports;
        }
        self.core.store.remove(id);
    }

    fn report(self: &Arc<Self>, followed: &mut HashMap<ObjectId, Followed>, meta: &Meta) {
        if self.expected.contains(&meta.id) && self.core.loaded(&meta.id).is_none() {
            followed.entry(meta.id.clone()).or_default();
        }
        let Some(entry) = followed.get_mut(&meta.id) else { return };
        entry.reports += 1;
        let known = self.core.loaded(&meta.id).map(|known| (known.meta.uid.clone(), known.meta.version.clone()));
        if known.or(entry.stored.clone()).is_none_or(|(uid, version)| uid != meta.uid || version != meta.version) {
            self.fetch(&meta.id, entry, None);
        }
    }
}

enum Next {
    Done,
    Again,
    Later(Failure),
}
