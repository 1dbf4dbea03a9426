//! Which token a pod gets.

use std::sync::Arc;

use super::{Problem, Subject};
use crate::object::pod::TokenSource;
use crate::object::{Kind, Name, Namespace, ObjectId};

/// Seconds. Source: `SetDefaults_ServiceAccountTokenProjection`, pkg/apis/core/v1/defaults.go.
const DEFAULT_EXPIRATION: u64 = 3600;

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
    pub(super) fn of(subject: &Subject, source: &TokenSource) -> Result<Self, Problem> {
        let account = match subject.pod.spec.service_account_name.as_str() {
            "" => "default",
            name => name,
        };
        let bad_name = |_| Problem::BadName { kind: Kind::ServiceAccount, name: account.to_owned() };
        Ok(TokenAsk {
            namespace: subject.id.namespace.clone(),
            service_account: Name::new(account).map_err(bad_name)?,
            audience: source.audience.clone(),
            expiration_seconds: source.expiration_seconds.unwrap_or(DEFAULT_EXPIRATION),
            pod: subject.is_live().then(|| (subject.id.name.clone(), subject.uid.clone())),
        })
    }

    /// The ServiceAccount whose token it is.
    pub fn account(&self) -> ObjectId {
        ObjectId { namespace: self.namespace.clone(), kind: Kind::ServiceAccount, name: self.service_account.clone() }
    }
}
