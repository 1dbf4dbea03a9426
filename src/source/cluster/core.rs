//! What every task of a cluster source shares, and how such a task waits, ends and reads one object.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::backoff::Backoff;
use super::client::Client;
use super::failure::Failure;
use super::request;
use super::watch::Timing;
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
    /// Runs `task` until it ends or the source is dropped.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut alive = self.alive.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = alive.changed() => {}
                () = task => {}
            }
        });
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
    /// A server that has just restarted knows no old version, and a line may be garbled on its way: that is over at once,
    /// unless it is always so.
    oddity: Backoff,
    poll: Duration,
}

impl Pace {
    pub fn new(poll: Duration) -> Self {
        let oddity = Backoff::new(Duration::from_millis(10), Duration::from_secs(10));
        Pace { outage: Backoff::for_outage(), oddity, poll }
    }

    pub fn after(&mut self, failure: &Failure) -> Duration {
        match failure.busy() {
            // Retry-After is for the server's good, but not without end.
            Some(Some(wait)) => wait.min(self.poll),
            _ if failure.is_outage() => self.outage.delay(),
            _ if failure.is_oddity() => self.oddity.delay(),
            _ => self.poll,
        }
    }

    /// A watch has run and ended in order.
    pub fn reset(&mut self) {
        self.outage.reset();
        self.oddity.reset();
    }
}
