//! Which token a pod gets.

use super::{Problem, Subject};
use crate::object::pod::TokenSource;
use crate::object::{Kind, Name, TokenAsk};

/// Seconds. Source: `SetDefaults_ServiceAccountTokenProjection`, pkg/apis/core/v1/defaults.go.
const DEFAULT_EXPIRATION: u64 = 3600;

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
}
