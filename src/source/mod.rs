//! Where objects come from: a cluster's API server or manifests, behind one interface.
//!
//! A source pushes what it learns into the [`Store`]; it knows nothing of volumes, directories or the kernel.

pub mod cluster;
pub mod freshness;
pub mod manifests;

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::BoxFuture;

pub use freshness::{Freshness, Knowledge};

use crate::object::{Kind, Name, Namespace, Object, ObjectId, Token, TokenAsk};
use crate::rights::Right;
use crate::store::Refusal;

/// A set of objects whose names a view shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `None` is the whole cluster (or all documents), each namespace a directory.
    pub namespace: Option<Namespace>,
    pub kinds: Vec<Kind>,
    /// kubectl's `-l`, as typed; the API server or [`crate::object::selector`] reads it.
    pub selector: Option<String>,
}

/// A set of objects that a view needs with all that they say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Set {
    /// The pods that are bound to a node, all or those whose labels match: see [`Scope::selector`].
    PodsOf { node: Name, selector: Option<String> },
    /// All ClusterTrustBundles: volumes pick theirs by signer and labels.
    TrustBundles,
}

impl Set {
    /// What its objects are.
    pub fn kind(&self) -> Kind {
        match self {
            Set::PodsOf { .. } => Kind::Pod,
            Set::TrustBundles => Kind::ClusterTrustBundle,
        }
    }

    /// Whether the object is one of them, as far as its labels do not matter.
    pub fn holds(&self, object: &Object) -> bool {
        match self {
            Set::PodsOf { node, .. } => object.pod().is_some_and(|pod| pod.spec.node_name == node.as_str()),
            Set::TrustBundles => object.id().kind == Kind::ClusterTrustBundle,
        }
    }
}

/// How it is with a source, for `status`.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Since when the source cannot be asked, and why; `None` while all is well.
    pub trouble: Option<(SystemTime, String)>,
    /// Requests to the API server by kind, and how many watches are open.
    pub requests: Vec<(&'static str, u64)>,
}

/// What a view asks of a source. Both promises are kept until the source is dropped: what has been asked for once is
/// kept current in the store the source was made with.
pub trait Source: Send + Sync + 'static {
    /// Keeps the names of all objects in `scope` current: namespaces by [`Store::set_namespaces`] (cluster scope only),
    /// objects by [`Store::set_names`] and single changes. Resolves when the first complete listing is in the store, or
    /// when it is settled which names cannot be had at once: see [`Store::access`].
    fn list(&self, scope: Scope) -> BoxFuture<'_, Result<(), Refusal>>;

    /// Finds out about the names of one kind in one namespace, whose [`Access`](crate::store::Access) is not `Listed`, and
    /// keeps them current from then on. Resolves when the store has them, or knows that they may not be listed.
    fn look(&self, _namespace: Namespace, _kind: Kind) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async { Ok(()) })
    }

    /// Fetches the object with its values and keeps it current. Resolves when the store knows it, or knows that it is
    /// not there ([`Refusal::NotFound`]); it goes on following in either case, so that an object made later appears, unless
    /// the object is one of those that can only be asked for by name ([`Access::ByName`](crate::store::Access)).
    /// Concurrent calls for one object cost one request. Calling it again for an object that is already followed and
    /// known costs none.
    fn follow(&self, id: ObjectId) -> BoxFuture<'_, Result<Arc<Object>, Refusal>>;

    /// The same for an object that something shown needs. Even where names of that kind may be anybody's guesses, this one is
    /// waited for, so that it appears when it is made.
    fn need(&self, id: ObjectId) -> BoxFuture<'_, Result<Arc<Object>, Refusal>> {
        self.follow(id)
    }

    /// Fetches all objects of a set and keeps the set current in the store, each object with all that it says. Resolves when
    /// the first complete list is in the store.
    fn gather(&self, _set: Set) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async { Ok(()) })
    }

    /// Asks for a new token. `Ok(None)`: there is nobody to issue one, as from manifests.
    fn token(&self, _ask: TokenAsk) -> BoxFuture<'_, Result<Option<Token>, Refusal>> {
        Box::pin(async { Ok(None) })
    }

    /// Who asks, as the source knows the caller. `None` where that makes no difference, as from manifests.
    fn user(&self) -> BoxFuture<'_, Result<Option<String>, Refusal>> {
        Box::pin(async { Ok(None) })
    }

    /// Whether the caller may do this.
    fn may(&self, _right: Right) -> BoxFuture<'_, Result<bool, Refusal>> {
        Box::pin(async { Ok(true) })
    }

    /// Nobody uses the object any more: it need not be kept current, unless it is named again.
    fn forget(&self, _id: &ObjectId) {}

    /// What `df` and `status` show: the cluster's context or the manifests' paths; never a credential.
    fn describe(&self) -> String;

    /// How it is with the source now.
    fn report(&self) -> Report {
        Report::default()
    }

    /// How fresh everything is that is known. Takes time in proportion to the objects that are kept, and waits for nothing.
    fn knowledge(&self) -> Knowledge {
        Knowledge::default()
    }
}
