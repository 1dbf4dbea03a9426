//! A cluster as a source: names by metadata, values by named requests, both kept current by watches.
//!
//! From the command line to the store:
//!
//! 1. [`config`] finds the kubeconfig and pins a context; [`proxy`] and [`headers`] settle the way there and who asks.
//! 2. [`identity`] reads the credentials, [`exec`] by a plugin; [`session`] renews them; [`transport`] connects.
//! 3. [`client`] makes the requests of [`request`], bounded by [`buffer`], and tells failures apart ([`failure`]).
//! 4. [`watch`] reads watches; [`named`] follows one object; [`listing`] keeps names, [`fetch`] the values of listed
//!    objects. They share [`core`] and wait by [`backoff`].
//!
//! An outage deletes nothing: only a DELETED event, the API's own 404 about that object and a complete list remove anything.

mod backoff;
mod buffer;
mod client;
mod config;
mod core;
mod exec;
mod failure;
mod fetch;
mod headers;
mod identity;
mod listing;
mod named;
mod proxy;
mod request;
mod session;
mod transport;
mod watch;
mod wiping;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::future::BoxFuture;

pub use client::{RequestCounts, Trouble};
pub use config::{ClusterOptions, ConnectError, Login};

use self::core::{Core, not_found};
use client::Client;
use config::{Environment, Target};
use fetch::Fetcher;
use listing::{Listing, NamespaceNames, ObjectNames};
use named::Named;
use request::Collection;
use watch::Timing;

use super::{Report, Scope, Source};
use crate::object::{Namespace, Object, ObjectId};
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
    fetcher: Arc<Fetcher>,
    listings: Mutex<Vec<Arc<Listing>>>,
    named: Mutex<HashMap<ObjectId, Arc<Named>>>,
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
        let (sender, alive) = tokio::sync::watch::channel(());
        let core = Arc::new(Core { client: Arc::new(client), store, poll: options.poll, timing, alive });
        let fetcher = Fetcher::new(core.clone());
        Ok(Cluster { core, fetcher, listings: Mutex::default(), named: Mutex::default(), _alive: sender })
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

    /// The listing of a collection, started if there is none yet.
    fn listing(&self, collection: Collection) -> Arc<Listing> {
        let mut listings = lock(&self.listings);
        if let Some(listing) = listings.iter().find(|listing| listing.collection == collection) {
            return listing.clone();
        }
        let listing = match &collection {
            Collection::Namespaces => {
                let names = NamespaceNames { store: self.core.store.clone() };
                Listing::start(&self.core, collection, names)
            }
            Collection::Objects { kind, namespace, .. } => {
                let names = ObjectNames { kind: *kind, namespace: namespace.clone(), fetcher: self.fetcher.clone() };
                Listing::start(&self.core, collection, names)
            }
        };
        listings.push(listing.clone());
        listing
    }

    /// The listing that has the object's name, or will have it.
    fn listing_of(&self, id: &ObjectId) -> Option<Arc<Listing>> {
        let covers = |listing: &&Arc<Listing>| match &listing.collection {
            Collection::Objects { kind, namespace, .. } => {
                *kind == id.kind && namespace.as_ref().is_none_or(|namespace| *namespace == id.namespace)
            }
            Collection::Namespaces => false,
        };
        lock(&self.listings).iter().find(covers).cloned()
    }

    fn named(&self, id: ObjectId) -> Arc<Named> {
        lock(&self.named).entry(id.clone()).or_insert_with(|| Named::start(&self.core, id)).clone()
    }
}

impl Source for Cluster {
    fn list(&self, scope: Scope) -> BoxFuture<'_, Result<(), Refusal>> {
        let namespaces = scope.namespace.is_none().then_some(Collection::Namespaces);
        let objects = scope.kinds.into_iter().map(|kind| Collection::Objects {
            kind,
            namespace: scope.namespace.clone(),
            selector: scope.selector.clone(),
        });
        let collections: Vec<_> = namespaces.into_iter().chain(objects).collect();
        Box::pin(async move {
            // All at once, then one after another.
            let listings: Vec<_> = collections.into_iter().map(|collection| self.listing(collection)).collect();
            for listing in listings {
                listing.first().await?;
            }
            Ok(())
        })
    }

    fn follow(&self, id: ObjectId) -> BoxFuture<'_, Result<Arc<Object>, Refusal>> {
        Box::pin(async move {
            let Some(listing) = self.listing_of(&id) else { return self.named(id).wait().await };
            let progress = listing.progress();
            if progress.complete && progress.live && self.core.store.get(&id).is_none() {
                return Err(not_found(&id));
            }
            if !progress.complete && progress.refusal.is_some() {
                // Names may not be listed, but this one may be read.
                return self.named(id).wait().await;
            }
            self.fetcher.follow(id).await
        })
    }

    fn report(&self) -> Report {
        let ClusterStatus { trouble, requests, .. } = self.status();
        Report {
            trouble: trouble.map(|trouble| (trouble.since, trouble.why)),
            requests: vec![
                ("gets", requests.gets),
                ("lists", requests.lists),
                ("watches", requests.watches),
                ("failures", requests.failures),
                ("open_watches", requests.open_watches),
            ],
        }
    }

    fn describe(&self) -> String {
        self.core.client.target().description.clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
