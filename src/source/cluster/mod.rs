//! A cluster as a source: names by metadata, values by named requests, both kept current by watches.
//!
//! From the command line to the store:
//!
//! 1. [`config`] finds the kubeconfig and pins a context; [`proxy`] and [`headers`] settle the way there and who asks.
//! 2. [`identity`] reads the credentials, [`exec`] by a plugin; [`session`] renews them; [`transport`] connects.
//! 3. [`client`] makes the requests of [`request`], bounded by [`buffer`], and tells failures apart ([`failure`]).
//! 4. [`watch`] reads watches; [`named`] follows one object, [`followers`] has them all; [`listing`] keeps names, [`fetch`]
//!    the values of listed objects ([`crawl`] many at once), and [`places`] decides by the user's rights which listings there are;
//!    [`gathered`] keeps sets of whole objects. They share [`core`] and wait by [`backoff`].
//! 5. [`token`] asks for service account tokens, [`review`] who the caller is and what it may do.
//!
//! An outage deletes nothing: only a DELETED event, the API's own 404 about that object and a complete list remove anything.

mod backoff;
mod body;
mod buffer;
mod client;
mod config;
mod core;
mod crawl;
mod examine;
mod exec;
mod expected;
mod failure;
mod fetch;
mod followers;
mod gathered;
mod headers;
mod http2;
mod identity;
mod listing;
mod named;
mod places;
mod proxy;
mod request;
mod review;
mod session;
mod token;
mod transport;
mod watch;
mod wiping;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

pub use client::{RequestCounts, Trouble};
pub use config::{ClusterOptions, ConnectError, Login};
pub use examine::{Examination, Verdict};

use self::core::{Core, not_found};
use client::Client;
use config::{Environment, Target};
use named::Absence;
use places::Places;
use watch::Timing;

use super::{Knowledge, Report, Scope, Set, Source};
use crate::object::{Kind, Namespace, Object, ObjectId, Token, TokenAsk};
use crate::store::{Refusal, Store};

/// What `status` shows of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterStatus {
    /// Context and server.
    pub description: String,
    /// `None` while the server answers.
    pub trouble: Option<Trouble>,
    pub requests: RequestCounts,
}

/// A cluster's API server as a [`Source`]. Dropping it ends all of its tasks and connections.
pub struct Cluster {
    core: Arc<Core>,
    places: Arc<Places>,
    _alive: tokio::sync::watch::Sender<()>,
}

impl Cluster {
    /// Finds the cluster that `options` and the environment name, and reads the credentials; an exec plugin runs here, once.
    /// Makes no request: whether the server answers shows with the first one. Must be called inside a tokio runtime (with
    /// its I/O and time drivers), which then drives the source; after a fork, not before.
    pub async fn connect(options: ClusterOptions, store: Arc<Store>) -> Result<Cluster, ConnectError> {
        Cluster::connect_in(&options, &Environment::of_this_process(), Timing::default(), store).await
    }

    async fn connect_in(
        options: &ClusterOptions,
        environment: &Environment,
        timing: Timing,
        store: Arc<Store>,
    ) -> Result<Cluster, ConnectError> {
        let target = Target::find(options, environment)?;
        let client = Client::new(target, options.login, options.timeout).await?;
        Ok(Cluster::with(Arc::new(client), options.poll, timing, store))
    }

    fn with(client: Arc<Client>, poll: Duration, timing: Timing, store: Arc<Store>) -> Cluster {
        let (sender, alive) = tokio::sync::watch::channel(());
        let core = Arc::new(Core { client, store, poll, timing, alive });
        let places = Places::new(core.clone());
        Cluster { core, places, _alive: sender }
    }

    /// The namespace to use where none is given: `-n`, else the context's, else `default`.
    pub fn default_namespace(&self) -> &Namespace {
        &self.core.client.target().namespace
    }

    pub fn status(&self) -> ClusterStatus {
        ClusterStatus {
            description: self.describe(),
            trouble: self.core.client.trouble(),
            requests: self.core.client.counts(),
        }
    }
}

impl Cluster {
    /// The object, followed from now on by whatever keeps it current.
    async fn obtain(&self, id: ObjectId, absence: Absence) -> Result<Arc<Object>, Refusal> {
        let places = &self.places;
        loop {
            if let Some(answer) = places.gathered(&id) {
                return answer;
            }
            let listing = places.listing_of(&id).map(|listing| (listing.progress(), listing));
            // Names may not be listed, but this one may be read; or they are listed by their labels, and this one is needed
            // whatever its labels are.
            let listing = listing.filter(|(progress, _)| progress.complete || progress.refusal.is_none());
            let listing = listing.filter(|_| absence == Absence::Leave || !places.has_selector());
            let Some((progress, listing)) = listing else {
                match places.followers.follow(id.clone(), absence).await {
                    Some(answer) => return answer,
                    // A listing has taken over meanwhile.
                    None => continue,
                }
            };
            if progress.complete && progress.live && self.core.store.get(&id).is_none() {
                return Err(not_found(&id));
            }
            return places.fetcher.follow(id, &listing.collection).await;
        }
    }
}

impl Source for Cluster {
    fn list(&self, scope: Scope) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(self.places.list(scope))
    }

    fn look(&self, namespace: Namespace, kind: Kind) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(self.places.look(namespace, kind))
    }

    fn follow(&self, id: ObjectId) -> BoxFuture<'_, Result<Arc<Object>, Refusal>> {
        Box::pin(self.obtain(id, self.places.absence()))
    }

    fn need(&self, id: ObjectId) -> BoxFuture<'_, Result<Arc<Object>, Refusal>> {
        self.places.expect(&id);
        Box::pin(self.obtain(id, Absence::Wait))
    }

    fn gather(&self, set: Set) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(self.places.gather(set))
    }

    fn token(&self, ask: TokenAsk) -> BoxFuture<'_, Result<Option<Token>, Refusal>> {
        Box::pin(async move { token::issue(&self.core.client, &ask).await.map(Some) })
    }

    fn user(&self) -> BoxFuture<'_, Result<Option<String>, Refusal>> {
        Box::pin(async move { review::user(&self.core.client).await.map(Some) })
    }

    fn may(&self, right: crate::rights::Right) -> BoxFuture<'_, Result<bool, Refusal>> {
        Box::pin(async move { review::may(&self.core.client, &right).await })
    }

    fn forget(&self, id: &ObjectId) {
        self.places.forget(id);
    }

    fn report(&self) -> Report {
        let ClusterStatus { trouble, requests, .. } = self.status();
        Report {
            trouble: trouble.map(|trouble| (trouble.since, trouble.why)),
            requests: vec![
                ("gets", requests.gets),
                ("lists", requests.lists),
                ("watches", requests.watches),
                ("tokens", requests.tokens),
                ("failures", requests.failures),
                ("open_watches", requests.open_watches),
            ],
        }
    }

    fn knowledge(&self) -> Knowledge {
        self.places.knowledge()
    }

    fn describe(&self) -> String {
        self.core.client.target().description.clone()
    }
}
