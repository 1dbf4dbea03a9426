//! What every task of a cluster source shares, and how such a task waits, ends and reads one object.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::client::Client;
use super::failure::Failure;
use super::request;
use super::watch::{Timing, is_older};
use crate::object::{Object, ObjectId, object_from_json};
use crate::store::{Known, Refusal, Store};

/// See the module's documentation.
pub struct Core {
    pub client: Arc<Client>,
    pub store: Arc<Store>,
    pub poll: Duration,
    pub timing: Timing,
    /// Closed when the source is dropped.
    pub alive: watch::Receiver<()>,
}

impl Core {
    /// Runs `task` until it ends, the source is dropped or it is aborted.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut alive = self.alive.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = alive.changed() => {}
                () = task => {}
            }
        })
        .abort_handle()
    }

    /// Asks for one object and takes the answer for nothing else.
    pub async fn get(&self, id: &ObjectId) -> Result<Object, Failure> {
        let body = self.client.read(&request::object(id)).await?;
        let object = object_from_json(id.kind, body.as_slice())?;
        if object.id() == id { Ok(object) } else { Err(Failure::OtherObject) }
    }

    /// The object as the store has it, with its values.
    pub fn loaded(&self, id: &ObjectId) -> Option<Arc<Object>> {
        match self.store.get(id)? {
            Known::Loaded(object) => Some(object),
            Known::Named(_) => None,
        }
    }

    /// Stores the object unless this very version is there already.
    pub fn put(&self, object: Object) {
        let known = self
            .loaded(object.id())
            .is_some_and(|known| known.meta.uid == object.meta.uid && known.meta.version == object.meta.version);
        if !known {
            self.store.put(object);
        }
    }

    /// The same, but values of this version that were let go of are not wanted.
    pub fn put_changed(&self, object: Object) {
        let same = |known: &Known| known.meta().uid == object.meta.uid && known.meta().version == object.meta.version;
        if !self.store.get(object.id()).is_some_and(|known| same(&known)) {
            self.store.put(object);
        }
    }

    /// The same, unless a newer version of it is there: a GET may overtake a watch, and content does not go back and forth.
    pub fn put_newer(&self, object: Object) {
        let newer_known = self.loaded(object.id()).is_some_and(|known| {
            known.meta.uid == object.meta.uid && is_older(&object.meta.version, &known.meta.version)
        });
        if !newer_known {
            self.put_changed(object);
        }
    }

    /// What is told to whoever asked for the object.
    pub fn refusal(&self, id: &ObjectId, failure: Failure) -> Refusal {
        match failure.is_not_found(id.name.as_str()) {
            true => not_found(id),
            false => failure.refusal(id.to_string(), self.client.server()),
        }
    }
}

pub fn not_found(id: &ObjectId) -> Refusal {
    Refusal::NotFound { what: id.to_string() }
}

/// When to try again after a failure: soon while the server is away, seldom where it says no.
pub struct Pace {
    outage: Backoff,
    /// A server that has just restarted knows no old version: a list helps at once, unless it is always so.
    gone: Backoff,
    /// An answer may be garbled once, or always.
    oddity: Backoff,
    /// A server that has just restarted may not know its own rules yet and refuse what it allowed before.
    denial: Backoff,
    poll: Duration,
}

/// Tells a right that was taken away from a server that is confused for a moment: one that has just started may not know
/// its own rules yet. What is refused three times in a row, the last time at least two polls after the first, is refused.
#[derive(Debug, Default)]
pub struct Denials {
    first: Option<Instant>,
    count: u32,
}

impl Denials {
    /// Takes the outcome of a request; says whether it is refused for good.
    pub fn persist(&mut self, failure: &Failure, poll: Duration) -> bool {
        if failure.is_forbidden() {
            let first = *self.first.get_or_insert_with(Instant::now);
            self.count += 1;
            return self.count >= 3 && first.elapsed() >= 2 * poll;
        }
        // An outage says nothing about rights.
        false
    }

    pub fn reset(&mut self) {
        *self = Denials::default();
    }
}

/// Whether the server has ever answered what is asked of it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    Answered,
    Never,
}

impl Pace {
    pub fn new(poll: Duration) -> Self {
        let gone = Backoff::new(Duration::from_millis(10), Duration::from_secs(10));
        let seldom = || Backoff::new(Duration::from_millis(500).min(poll), poll);
        Pace { outage: Backoff::for_outage(), gone, oddity: seldom(), denial: seldom(), poll }
    }

    pub fn after(&mut self, failure: &Failure, before: Before) -> Duration {
        match failure.busy() {
            // Retry-After is for the server's good, but not without end.
            Some(Some(wait)) => wait.min(self.poll),
            _ if failure.is_outage() => self.outage.delay(),
            _ if *failure == Failure::Gone => self.gone.delay(),
            _ if failure.is_oddity() => self.oddity.delay(),
            _ if before == Before::Answered => self.denial.delay(),
            _ => self.poll,
        }
    }

    /// A watch has run and ended in order.
    pub fn reset(&mut self) {
        self.outage.reset();
        self.gone.reset();
        self.oddity.reset();
        self.denial.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_counts_when_it_is_the_third_in_a_row_and_has_lasted() {
        let status = |code| Failure::Status { code, reason: "", name: None, retry_after: None };
        let mut denials = Denials::default();
        let outcomes = [403, 403, 500, 403].map(|code| denials.persist(&status(code), Duration::ZERO));
        assert_eq!(outcomes, [false, false, false, true], "an outage neither counts nor begins anew");
        denials.reset();
        assert!(!denials.persist(&status(403), Duration::ZERO));
        let hour = Duration::from_secs(3600);
        assert!((0..9).all(|_| !denials.persist(&status(403), hour)), "too soon");
    }
}
