//! What one must be allowed to do: single rights as RBAC has them, those that a mount needs, and Roles that give them.
//!
//! Pure data. A right is as narrow as RBAC lets it be: it has a name wherever the request that needs it has one.

mod needed;
mod role;

pub use role::{Grant, InvalidSubject, Subject};

use std::collections::BTreeSet;
use std::fmt;

use crate::object::{Kind, Name, Namespace};

/// What is asked of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
}

impl Verb {
    /// As RBAC has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
        }
    }
}

/// What it is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    Namespaces,
    Objects(Kind),
    /// The tokens of ServiceAccounts.
    Tokens,
}

impl Resource {
    /// The API group, empty for the core group.
    pub fn group(self) -> &'static str {
        match self {
            Resource::Objects(kind) => kind.group(),
            Resource::Namespaces | Resource::Tokens => "",
        }
    }

    /// Whether it is in namespaces.
    pub fn is_namespaced(self) -> bool {
        match self {
            Resource::Objects(kind) => kind.is_namespaced(),
            Resource::Tokens => true,
            Resource::Namespaces => false,
        }
    }

    /// The resource, and what follows a slash in RBAC's rules.
    pub fn parts(self) -> (&'static str, Option<&'static str>) {
        match self {
            Resource::Namespaces => ("namespaces", None),
            Resource::Objects(kind) => (kind.plural(), None),
            Resource::Tokens => (Kind::ServiceAccount.plural(), Some("token")),
        }
    }
}

/// As in RBAC's rules: `secrets`, `serviceaccounts/token`.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (resource, None) => f.write_str(resource),
            (resource, Some(sub)) => write!(f, "{resource}/{sub}"),
        }
    }
}

/// One thing that may be done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Right {
    /// `None`: in all namespaces, or about what is in none.
    pub namespace: Option<Namespace>,
    pub resource: Resource,
    /// `None`: whatever its name.
    pub name: Option<Name>,
    pub verb: Verb,
}

/// Read as a sentence goes on after "may": `watch secrets web-tls in namespace prod`.
impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb.as_str(), self.resource)?;
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None if self.resource.is_namespaced() => f.write_str(" in all namespaces"),
            None => Ok(()),
        }
    }
}

/// A set of rights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights(BTreeSet<Right>);

impl Rights {
    /// In a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = &Right> {
        self.0.iter()
    }

    /// Both sets in one.
    #[must_use]
    pub fn and(mut self, other: Rights) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Those that no token needs.
    #[must_use]
    pub fn without_tokens(mut self) -> Self {
        self.0.retain(|right| right.resource != Resource::Tokens);
        self
    }

    /// Whether tokens are among what may be had.
    pub fn has_tokens(&self) -> bool {
        self.0.iter().any(|right| right.resource == Resource::Tokens)
    }

    fn add(&mut self, namespace: Option<&Namespace>, resource: Resource, name: Option<&Name>, verbs: &[Verb]) {
        let right = |verb: &Verb| Right { namespace: namespace.cloned(), resource, name: name.cloned(), verb: *verb };
        self.0.extend(verbs.iter().map(right));
    }
}
