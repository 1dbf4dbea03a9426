//! Fetches the values of listed objects: one GET however many ask, and again when the listing reports a change.
//!
//! What was asked for once is *followed* from then on. Listing and GETs run beside each other, so each followed object
//! counts the listing's reports about it: an answer that was asked for before the newest report is not the last word, and
//! one that was asked for before the object was removed is dropped. Reports that come while a GET is under way lead to one
//! more GET, however many they are.
//!
//! Lock order: the followed objects, then the store. The store is written under the lock here, so that a late answer cannot
//! slip past a removal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::core::{Before, Core, Denials, Pace, not_found};
use super::failure::Failure;
use crate::object::{Kind, Meta, Namespace, Object, ObjectId};
use crate::store::Refusal;

/// What came of a fetch; `None` while it is under way.
type Outcome = Option<Result<Arc<Object>, Refusal>>;

#[derive(Default)]
struct Followed {
    /// How many reports of the listing there were about it.
    reports: u64,
    /// The number of the last report that said that it is gone.
    removed: u64,
    /// The task that is fetching it now.
    fetch: Option<watch::Receiver<Outcome>>,
}

/// See the module's documentation.
pub struct Fetcher {
    core: Arc<Core>,
    followed: Mutex<HashMap<ObjectId, Followed>>,
}

impl Fetcher {
    pub fn new(core: Arc<Core>) -> Arc<Self> {
        Arc::new(Fetcher { core, followed: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectId, Followed>> {
        self.followed.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The object with its values, fetched if need be, and followed from now on.
    pub async fn follow(self: &Arc<Self>, id: ObjectId) -> Result<Arc<Object>, Refusal> {
        let mut fetch = {
            let mut followed = self.lock();
            let entry = followed.entry(id.clone()).or_default();
            if let Some(object) = self.core.loaded(&id) {
                return Ok(object);
            }
            self.fetch(&id, entry)
        };
        // The GET has a deadline of its own; this one is for a fetch that is waiting to try again.
        let limit = self.core.client.timeout() + Duration::from_millis(200);
        let outcome = timeout(limit, fetch.wait_for(Option::is_some)).await;
        match outcome.map(|outcome| outcome.map(|outcome| outcome.clone())) {
            Ok(Ok(Some(result))) => result,
            _ => Err(self.core.refusal(&id, Failure::TimedOut)),
        }
    }

    /// Joins the fetch that is under way or starts one.
    fn fetch(self: &Arc<Self>, id: &ObjectId, entry: &mut Followed) -> watch::Receiver<Outcome> {
        if let Some(fetch) = &entry.fetch {
            return fetch.clone();
        }
        let (outcome, fetch) = watch::channel(None);
        entry.fetch = Some(fetch.clone());
        let (fetcher, id) = (self.clone(), id.clone());
        self.core.spawn(async move { fetcher.run(&id, outcome).await });
        fetch
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
        entry: &Followed,
        before: u64,
        answer: Result<Object, Failure>,
        denials: &mut Denials,
        outcome: &watch::Sender<Outcome>,
    ) -> Next {
        let removed_meanwhile = entry.removed > before;
        let gone_now = entry.reports > 0 && entry.removed == entry.reports;
        let told = match answer {
            Ok(object) if !removed_meanwhile => {
                self.core.put(object);
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
                return if self.core.loaded(id).is_some() { Next::Later(failure) } else { Next::Done };
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
    /// the objects that stay and have to be followed by other means.
    pub fn delisted(&self, kind: Kind, namespace: Option<&Namespace>) -> Vec<ObjectId> {
        let mut followed = self.lock();
        let mut kept = Vec::new();
        for known in self.core.store.objects(kind, namespace) {
            let id = known.meta().id.clone();
            match followed.remove(&id) {
                Some(_) => kept.push(id),
                None => self.core.store.remove(&id),
            }
        }
        kept
    }

    /// The listing has a complete list of one kind.
    pub fn listed(self: &Arc<Self>, kind: Kind, namespace: Option<&Namespace>, all: Vec<Meta>) {
        let mut followed = self.lock();
        let in_scope = |id: &ObjectId| id.kind == kind && namespace.is_none_or(|wanted| *wanted == id.namespace);
        let mut missing: Vec<ObjectId> = followed.keys().filter(|id| in_scope(id)).cloned().collect();
        let mut changed = Vec::new();
        if !missing.is_empty() {
            let versions: HashMap<&ObjectId, &Meta> = all.iter().map(|meta| (&meta.id, meta)).collect();
            missing.retain(|id| match versions.get(id) {
                Some(meta) => {
                    changed.push((*meta).clone());
                    false
                }
                None => true,
            });
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
        let Some(entry) = followed.get_mut(&meta.id) else { return };
        entry.reports += 1;
        let known = self.core.loaded(&meta.id);
        if known.is_none_or(|known| known.meta.uid != meta.uid || known.meta.version != meta.version) {
            self.fetch(&meta.id, entry);
        }
    }
}

enum Next {
    Done,
    Again,
    Later(Failure),
}
