//! Looks at a cluster for `secretfs doctor`: each step of the way to it, and what may be asked there. No value of a Secret is
//! asked for.

use std::sync::Arc;

use super::client::Client;
use super::config::{ClusterOptions, ConnectError, Environment, Target};
use super::failure::Failure;
use super::request::{Collection, object_metadata, object_metadata_watch, version};
use super::watch::Timing;
use super::{Cluster, review};
use crate::object::{Kind, Name, Namespace, ObjectId};
use crate::rights::{Resource, Right, Verb};
use crate::source::Set;
use crate::store::{Refusal, Store};

/// What the server says to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// Allowed, but there is no such object.
    Missing,
    Denied,
    /// The server does not say: why.
    Unknown(String),
    /// The credentials are not accepted: why.
    Unauthorized(String),
    /// Something else failed: why.
    Failed(String),
}

/// How long a watch is asked for that is not read, in seconds.
const SECONDS: u64 = 5;

/// A cluster whose credentials have been read.
pub struct Examination {
    client: Arc<Client>,
    options: ClusterOptions,
}

impl Examination {
    /// Which cluster the options name: the context and the server.
    ///
    /// # Errors
    /// As [`Cluster::connect`](super::Cluster::connect), except for credentials.
    pub fn find(options: &ClusterOptions) -> Result<String, ConnectError> {
        Ok(Target::find(options, &Environment::of_this_process())?.description)
    }

    /// Reads the credentials; an exec plugin runs here.
    ///
    /// # Errors
    /// As [`Cluster::connect`](super::Cluster::connect).
    pub async fn start(options: &ClusterOptions) -> Result<Self, ConnectError> {
        let target = Target::find(options, &Environment::of_this_process())?;
        let client = Arc::new(Client::new(target, options.login, options.timeout).await?);
        Ok(Examination { client, options: options.clone() })
    }

    /// Asks the server for its version, which it tells nearly everybody.
    pub async fn reach(&self) -> Verdict {
        self.verdict(self.client.read(&version()).await)
    }

    /// By how many seconds the server's clock is ahead of ours, in what it has answered so far. HTTP tells whole seconds.
    pub fn clock_ahead(&self) -> Option<i64> {
        self.client.clock_ahead()
    }

    /// The cluster as a source, with the same credentials and connections.
    pub fn cluster(&self, store: Arc<Store>) -> Cluster {
        Cluster::with(self.client.clone(), self.options.poll, Timing::default(), store)
    }

    /// Whether this may be done. Tries it, for metadata, where that changes nothing and costs the server little; else asks the
    /// server whether it would be allowed. Pods of no name are those of `node`, where one is given.
    pub async fn may(&self, right: &Right, node: Option<&Name>) -> Verdict {
        let Right { namespace, resource, name, verb } = right;
        if let (Resource::Objects(kind), Some(name)) = (resource, name) {
            let namespace = namespace.clone().unwrap_or_else(Namespace::none);
            let id = ObjectId { namespace, kind: *kind, name: name.clone() };
            match verb {
                Verb::Get => return self.verdict(self.client.read(&object_metadata(&id)).await),
                Verb::Watch => return self.verdict(self.client.open(&object_metadata_watch(&id, SECONDS)).await),
                Verb::List | Verb::Create => {}
            }
        }
        let names = match (resource, name, node) {
            (Resource::Namespaces, None, _) => Some(Collection::Namespaces),
            // Of the pods the authorizer of nodes tells by this request only.
            (Resource::Objects(Kind::Pod), None, Some(node)) => {
                Some(Collection::Whole(Set::PodsOf { node: node.clone(), selector: None }))
            }
            (Resource::Objects(kind), None, _) => {
                Some(Collection::Objects { kind: *kind, namespace: namespace.clone(), selector: None })
            }
            _ => None,
        };
        match (verb, names) {
            (Verb::List, Some(names)) => self.verdict(self.client.read(&names.page(1, None)).await),
            (Verb::Watch, Some(names @ Collection::Whole(Set::PodsOf { .. }))) => {
                self.verdict(self.client.open(&names.watch(None, SECONDS)).await)
            }
            _ => match review::may(&self.client, right).await {
                Ok(true) => Verdict::Allowed,
                Ok(false) => Verdict::Denied,
                Err(refusal @ Refusal::Unauthorized { .. }) => Verdict::Unauthorized(refusal.to_string()),
                Err(refusal) => Verdict::Unknown(refusal.to_string()),
            },
        }
    }

    fn verdict<T>(&self, answer: Result<T, Failure>) -> Verdict {
        match answer {
            Ok(_) => Verdict::Allowed,
            Err(failure) if failure.is_forbidden() => Verdict::Denied,
            Err(Failure::Status { code: 404, .. }) => Verdict::Missing,
            Err(failure) if failure.is_unauthorized() || matches!(failure, Failure::Credentials(_)) => {
                Verdict::Unauthorized(format!("{}: {failure}", self.client.server()))
            }
            Err(failure) => Verdict::Failed(format!("{}: {failure}", self.client.server())),
        }
    }
}
