//! Service account tokens.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Kind, Name, Namespace, ObjectId, Value};

/// What a TokenRequest asks for. Equal ones can share a token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenAsk {
    pub namespace: Namespace,
    pub service_account: Name,
    /// Empty: the API server's own.
    pub audience: String,
    pub expiration_seconds: u64,
    /// Name and uid of the pod with which it expires; only of a pod that exists.
    pub pod: Option<(Name, Arc<str>)>,
}

impl TokenAsk {
    /// The ServiceAccount whose token it is.
    pub fn account(&self) -> ObjectId {
        ObjectId { namespace: self.namespace.clone(), kind: Kind::ServiceAccount, name: self.service_account.clone() }
    }
}

/// A token as the API server issued it.
#[derive(Clone, Debug)]
pub struct Token {
    pub value: Value,
    /// When it was asked for, and when it ends: by this host's clock and by the API server's.
    pub issued: SystemTime,
    pub expires: SystemTime,
    /// What the API server says it was issued for (`spec.expirationSeconds`), which the rule for its renewal goes by; the
    /// kubelet never renews one without.
    pub lifetime: Option<Duration>,
}
