//! Looks at a cluster for `secretfs doctor`: each step of the way to it, and what may be asked there. Nothing is followed,
//! and no value of a Secret is asked for.

use super::client::Client;
use super::config::{ClusterOptions, ConnectError, Environment, Target};
use super::failure::Failure;
use super::request::{Collection, Verb, object_metadata, object_metadata_watch, version};
use crate::object::{Namespace, ObjectId};

/// One thing that may be allowed or not.
#[derive(Clone, Debug)]
pub enum Right {
    Get(ObjectId),
    Watch(ObjectId),
    List(Names),
    WatchAll(Names),
}

/// Whose names are listed.
#[derive(Clone, Debug)]
pub struct Names(Collection);

impl Names {
    /// All namespaces.
    pub fn of_namespaces() -> Self {
        Names(Collection::Namespaces)
    }

    /// All objects of a kind, in one namespace or in all.
    pub fn of_objects(kind: crate::object::Kind, namespace: Option<Namespace>) -> Self {
        Names(Collection::Objects { kind, namespace, selector: None })
    }
}

/// What the server says to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// Allowed, but there is no such object.
    Missing,
    Denied,
    /// Something else failed: why.
    Failed(String),
}

/// A cluster whose credentials have been read.
pub struct Examination {
    client: Client,
}

impl Examination {
    /// Which cluster the options name: the context and the server.
    ///
    /// # Errors
    /// As [`Cluster::connect`](super::Cluster::connect), except for credentials.
    pub fn find(options: &ClusterOptions) -> Result<(String, Namespace), ConnectError> {
        let target = Target::find(options, &Environment::of_this_process())?;
        Ok((target.description, target.namespace))
    }

    /// Reads the credentials; an exec plugin runs here.
    ///
    /// # Errors
    /// As [`Cluster::connect`](super::Cluster::connect).
    pub async fn start(options: &ClusterOptions) -> Result<Self, ConnectError> {
        let target = Target::find(options, &Environment::of_this_process())?;
        Ok(Examination { client: Client::new(target, options.login, options.timeout).await? })
    }

    /// Asks the server for its version, which it tells nearly everybody.
    pub async fn reach(&self) -> Verdict {
        self.verdict(self.client.read(&version()).await)
    }

    /// By how many seconds the server's clock is ahead of ours, in what it has answered so far. HTTP tells whole seconds.
    pub fn clock_ahead(&self) -> Option<i64> {
        self.client.clock_ahead()
    }

    /// Tries the request that this right is for.
    pub async fn may(&self, right: &Right) -> Verdict {
        let seconds = 5;
        let request = match right {
            Right::Get(id) => object_metadata(id),
            Right::Watch(id) => object_metadata_watch(id, seconds),
            Right::List(Names(names)) => names.page(1, None),
            Right::WatchAll(Names(names)) => names.watch(None, seconds),
        };
        match request.verb {
            Verb::Watch => self.verdict(self.client.open(&request).await),
            _ => self.verdict(self.client.read(&request).await),
        }
    }

    fn verdict<T>(&self, answer: Result<T, Failure>) -> Verdict {
        match answer {
            Ok(_) => Verdict::Allowed,
            Err(failure) if failure.is_forbidden() => Verdict::Denied,
            Err(Failure::Status { code: 404, .. }) => Verdict::Missing,
            Err(failure) => Verdict::Failed(format!("{}: {failure}", self.client.server())),
        }
    }
}
