//! Pods whose containers are shown: `<container>/<mountPath...>`.
//!
//! A pod needs objects; these are asked for with [`Source::need`](crate::source::Source::need) and followed. Whenever one of
//! them changes, all its volumes are worked out anew ([`crate::pod`]), compared with what is shown, and written where they
//! differ. A volume that cannot be worked out keeps what it shows, as the kubelet has it.

mod draft;
mod places;
mod report;
mod resync;
mod show;
mod skeleton;
mod tokens;

pub use report::{PodProblem, PodsReport};
pub use resync::SYNC_PERIOD;
pub(super) use show::running;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::object::pod::PodSpec;
use crate::object::{Body, Kind, Object, ObjectId, TokenAsk, Value};
use crate::pod::{Have, Lookup, Needs, Problem, Subject};
use crate::store::{Known, Refusal, Store};
use crate::volume::{Backing, Layout, Ownership, Payload};
use places::Places;
use resync::Resync;
use skeleton::Below;
use tokens::Tokens;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Pods {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    shown: BTreeMap<ObjectId, Shown>,
    /// The shown pods that need an object.
    users: HashMap<ObjectId, BTreeSet<ObjectId>>,
    /// What has been asked for, with the source's last word if that was a refusal.
    asked: HashMap<ObjectId, Option<Refusal>>,
    /// The same for the trust bundles of the cluster.
    bundles: Option<Result<(), Refusal>>,
    tokens: Tokens,
}

/// How far a pod has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// What it needs is being asked for.
    Gathering,
    /// Everything has been asked for.
    Gathered,
    /// Its directory has its content and is kept current.
    Filled,
}

/// One pod that is shown.
struct Shown {
    stage: Stage,
    /// Its containers by name.
    skeleton: Below,
    places: Places,
    volumes: BTreeMap<Arc<str>, VolumeState>,
    /// Containers of which something cannot be shown as it is asked for, and why.
    problems: Vec<(Arc<str>, Problem)>,
    needs: BTreeSet<ObjectId>,
    resync: Resync,
}

/// What makes a pod another one although its name is the same: a deleted one may come back, and a template may change, whose
/// new pods get new volumes. A pod's own volumes stay what they are: the kubelet writes them for the sake of content only.
#[derive(Debug, PartialEq, Eq)]
enum Life {
    /// The uid.
    Pod(Arc<str>),
    Template(PodSpec),
}

/// What of a volume is set when it is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    backing: Backing,
    layout: Layout,
    /// With the pod's fsGroup in it.
    ownership: Ownership,
}

/// A volume of a shown pod.
#[derive(Default)]
struct VolumeState {
    /// The pod that it was worked out for at last.
    life: Option<Arc<Life>>,
    /// Counts the times that it was set up so that its directory cannot stay.
    number: u32,
    /// What it shows; `None` until it could be worked out for the first time.
    payload: Option<Payload>,
    /// How it shows that.
    look: Option<Look>,
    /// The name of its newest generation.
    generation: Arc<str>,
    /// The paths of its first payload.
    first: Option<BTreeSet<Arc<str>>>,
    /// Parts of it that were made because somebody mounts them and they were not there.
    made: BTreeSet<String>,
    /// Why it cannot be worked out now.
    problems: Vec<Problem>,
    /// Whether containers have been able to begin, with all parts that they mount.
    started: bool,
    /// Access to what it is made of was taken away: it shows nothing.
    withdrawn: bool,
    /// The name of the storage that it is, if its content is not ours to give.
    foreign: Option<String>,
}

impl Pods {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The shown pods that need an object.
    pub fn users_of(&self, id: &ObjectId) -> Vec<ObjectId> {
        let state = self.lock();
        match id.kind {
            // Volumes pick them by signer and labels.
            Kind::ClusterTrustBundle => state.shown.keys().cloned().collect(),
            _ => state.users.get(id).into_iter().flatten().cloned().collect(),
        }
    }

    /// There is news of an object. If that is not one of its content it is that there is none, whatever was said before.
    pub fn hear_of(&self, id: &ObjectId, store: &Store) {
        // That no list has it says nothing: it may be there all the same.
        let is_told = !store.is_withdrawn(id) && !store.is_hidden(id);
        if store.get(id).is_none()
            && is_told
            && let Some(asked) = self.lock().asked.get_mut(id)
        {
            *asked = None;
        }
    }

    /// All objects of a kind are here. Gives the shown pods for which that is news.
    pub fn hear_of_all(&self, kind: Kind) -> Vec<ObjectId> {
        let mut state = self.lock();
        match &mut state.bundles {
            Some(bundles) if kind == Kind::ClusterTrustBundle && bundles.is_err() => *bundles = Ok(()),
            _ => return Vec::new(),
        }
        state.shown.keys().cloned().collect()
    }

    /// Whether a shown pod needs the object: its values stay.
    pub fn uses(&self, id: &ObjectId) -> bool {
        self.lock().users.contains_key(id)
    }

    fn stage(&self, id: &ObjectId) -> Option<Stage> {
        self.lock().shown.get(id).map(|shown| shown.stage)
    }

    /// Shows a pod no more. Gives the names of its containers, and the objects that nothing shown needs now.
    fn drop_pod(&self, id: &ObjectId) -> Option<(Vec<Arc<str>>, Vec<ObjectId>)> {
        let mut state = self.lock();
        let unused = state.set_needs(id, BTreeSet::new());
        let shown = state.shown.remove(id)?;
        state.tokens.release(id);
        Some((shown.skeleton.into_keys().collect(), unused))
    }
}

impl State {
    /// Takes note of the objects that a pod needs. Gives those that nothing shown needs any more.
    fn set_needs(&mut self, pod: &ObjectId, new: BTreeSet<ObjectId>) -> Vec<ObjectId> {
        let Some(shown) = self.shown.get_mut(pod) else { return Vec::new() };
        let old = std::mem::replace(&mut shown.needs, new.clone());
        for id in &new {
            self.users.entry(id.clone()).or_default().insert(pod.clone());
        }
        let mut unused = Vec::new();
        for id in old.difference(&new) {
            if let Some(users) = self.users.get_mut(id) {
                users.remove(pod);
                if users.is_empty() {
                    self.users.remove(id);
                    self.asked.remove(id);
                    unused.push(id.clone());
                }
            }
        }
        unused
    }

    /// Those that nobody has asked for yet.
    fn not_asked(&self, needs: &Needs) -> Vec<ObjectId> {
        needs.objects.iter().filter(|id| !self.asked.contains_key(*id)).cloned().collect()
    }

    /// Whether anything has not been asked for yet.
    fn lacks(&self, needs: &Needs) -> bool {
        !self.not_asked(needs).is_empty()
            || needs.tokens.iter().any(|ask| matches!(self.tokens.get(ask), Have::Unknown))
            || (needs.bundles && self.bundles.is_none())
    }
}

impl Life {
    fn of(subject: &Subject) -> Self {
        match subject.is_live() {
            true => Life::Pod(subject.uid.clone()),
            false => Life::Template(subject.pod.spec.clone()),
        }
    }
}

/// What is known now, for the rules of pods.
struct Knowledge<'a> {
    store: &'a Store,
    state: &'a State,
}

impl Lookup for Knowledge<'_> {
    fn object(&self, id: &ObjectId) -> Have<Arc<Object>> {
        match self.store.get(id) {
            Some(Known::Loaded(object)) => Have::Ready(object),
            Some(Known::Named(_)) => match self.state.asked.get(id) {
                Some(Some(refusal)) => Have::Refused(refusal.to_string()),
                _ => Have::Unknown,
            },
            None if self.store.is_withdrawn(id) => Have::Refused("access was taken away".to_owned()),
            None => match self.state.asked.get(id) {
                None => Have::Unknown,
                Some(None | Some(Refusal::NotFound { .. })) => Have::Missing,
                Some(Some(refusal)) => Have::Refused(refusal.to_string()),
            },
        }
    }

    fn token(&self, ask: &TokenAsk) -> Have<Option<Value>> {
        self.state.tokens.get(ask)
    }

    fn bundles(&self) -> Have<Vec<Arc<Object>>> {
        match &self.state.bundles {
            None => Have::Unknown,
            Some(Err(refusal)) => Have::Refused(refusal.to_string()),
            Some(Ok(())) => {
                let known = self.store.objects(Kind::ClusterTrustBundle, None).into_iter();
                let loaded = known.filter_map(|known| match known {
                    Known::Loaded(object) if matches!(object.body, Body::TrustBundle(_)) => Some(object),
                    _ => None,
                });
                Have::Ready(loaded.collect())
            }
        }
    }
}
