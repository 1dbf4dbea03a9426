//! Roles and bindings that give rights, as manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::{Resource, Right, Rights, Verb};
use crate::object::{Name, Namespace};

/// Who gets rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    User(String),
    Group(String),
    ServiceAccount(Namespace, Name),
}

/// Indicates a text that names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names nobody: write USER, group:NAME or sa:NAMESPACE/NAME")]
pub struct InvalidSubject(String);

impl FromStr for Subject {
    type Err = InvalidSubject;

    /// Reads `USER`, `user:USER`, `group:NAME` or `sa:NAMESPACE/NAME`; a user that is a service account becomes one.
    fn from_str(text: &str) -> Result<Self, InvalidSubject> {
        let invalid = || InvalidSubject(text.chars().take(64).collect());
        let account = |namespace: &str, name: &str| {
            let namespace = Namespace::new(namespace).map_err(|_| invalid())?;
            Ok(Subject::ServiceAccount(namespace, Name::new(name).map_err(|_| invalid())?))
        };
        if let Some(account_name) = text.strip_prefix("sa:") {
            let (namespace, name) = account_name.split_once('/').ok_or_else(invalid)?;
            return account(namespace, name);
        }
        if let Some((namespace, name)) =
            text.strip_prefix("system:serviceaccount:").and_then(|account| account.split_once(':'))
        {
            return account(namespace, name);
        }
        let (make, name): (fn(String) -> Subject, &str) = match text.strip_prefix("group:") {
            Some(group) => (Subject::Group, group),
            None => (Subject::User, text.strip_prefix("user:").unwrap_or(text)),
        };
        if name.is_empty() || name.contains(char::is_control) { Err(invalid()) } else { Ok(make(name.to_owned())) }
    }
}

/// Rights for somebody. Its text is YAML: for what is in no namespace a ClusterRole and
/// its ClusterRoleBinding, and for each namespace a Role and its RoleBinding.
pub struct Grant<'a> {
    pub rights: &'a Rights,
    /// Of the Roles and their bindings.
    pub name: &'a str,
    /// Of the ClusterRole and its binding.
    pub cluster_name: &'a str,
    pub subject: &'a Subject,
}

/// A rule as in a Role.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    resource: Resource,
    /// Empty: all.
    names: Vec<Name>,
    verbs: Vec<Verb>,
}

/// The fewest rules that give exactly these rights. Names of different verbs or resources never share one: a rule gives each of
/// its verbs on each of its names.
fn rules<'a>(rights: impl Iterator<Item = &'a Right>) -> Vec<Rule> {
    let mut verbs: BTreeMap<(Resource, Option<&Name>), BTreeSet<Verb>> = BTreeMap::new();
    // What may be done whatever the name comes first: of the same verb no name is needed then.
    for Right { resource, name, verb, .. } in rights {
        let any = verbs.get(&(*resource, None)).is_some_and(|any| any.contains(verb));
        if !any {
            verbs.entry((*resource, name.as_ref())).or_default().insert(*verb);
        }
    }
    let mut names: BTreeMap<(Resource, bool, Vec<Verb>), Vec<Name>> = BTreeMap::new();
    for ((resource, name), verbs) in verbs {
        let names = names.entry((resource, name.is_some(), verbs.into_iter().collect())).or_default();
        names.extend(name.cloned());
    }
    names.into_iter().map(|((resource, _, verbs), names)| Rule { resource, names, verbs }).collect()
}

/// JSON strings are YAML, whatever is in them.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", texts.map(quoted).collect::<Vec<_>>().join(", "))
}

const API: &str = "rbac.authorization.k8s.io";

impl fmt::Display for Grant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut places: BTreeMap<Option<&Namespace>, Vec<&Right>> = BTreeMap::new();
        for right in self.rights.iter() {
            places.entry(right.namespace.as_ref()).or_default().push(right);
        }
        for (at, (namespace, rights)) in places.into_iter().enumerate() {
            if at > 0 {
                writeln!(f, "---")?;
            }
            self.role(f, namespace, &rules(rights.into_iter()))?;
            writeln!(f, "---")?;
            self.binding(f, namespace)?;
        }
        Ok(())
    }
}

impl Grant<'_> {
    fn head(&self, f: &mut fmt::Formatter<'_>, namespace: Option<&Namespace>, kind: &str) -> fmt::Result {
        let (prefix, name) = if namespace.is_some() { ("", self.name) } else { ("Cluster", self.cluster_name) };
        writeln!(f, "apiVersion: {API}/v1\nkind: {prefix}{kind}\nmetadata:\n  name: {}", quoted(name))?;
        match namespace {
            Some(namespace) => writeln!(f, "  namespace: {}", quoted(namespace.as_str())),
            None => Ok(()),
        }
    }

    fn role(&self, f: &mut fmt::Formatter<'_>, namespace: Option<&Namespace>, rules: &[Rule]) -> fmt::Result {
        self.head(f, namespace, "Role")?;
        writeln!(f, "rules:")?;
        for Rule { resource, names, verbs } in rules {
            writeln!(f, "  - apiGroups: [{}]", quoted(resource.group()))?;
            writeln!(f, "    resources: [{}]", quoted(&resource.to_string()))?;
            if !names.is_empty() {
                writeln!(f, "    resourceNames: {}", list(names.iter().map(Name::as_str)))?;
            }
            writeln!(f, "    verbs: {}", list(verbs.iter().map(|verb| verb.as_str())))?;
        }
        Ok(())
    }

    fn binding(&self, f: &mut fmt::Formatter<'_>, namespace: Option<&Namespace>) -> fmt::Result {
        self.head(f, namespace, "RoleBinding")?;
        let (kind, name) = match namespace {
            Some(_) => ("Role", self.name),
            None => ("ClusterRole", self.cluster_name),
        };
        writeln!(f, "roleRef:\n  apiGroup: {API}\n  kind: {kind}\n  name: {}\nsubjects:", quoted(name))?;
        let (kind, name) = match self.subject {
            Subject::ServiceAccount(namespace, name) => {
                let (namespace, name) = (quoted(namespace.as_str()), quoted(name.as_str()));
                return writeln!(f, "  - kind: ServiceAccount\n    namespace: {namespace}\n    name: {name}");
            }
            Subject::User(name) => ("User", name),
            Subject::Group(name) => ("Group", name),
        };
        writeln!(f, "  - apiGroup: {API}\n    kind: {kind}\n    name: {}", quoted(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Kind;

    fn right(resource: Resource, name: Option<&str>, verb: Verb) -> Right {
        Right { namespace: None, resource, name: name.map(|name| Name::new(name).unwrap()), verb }
    }

    #[test]
    fn a_rule_gives_no_more_than_its_rights() {
        let secret = Resource::Objects(Kind::Secret);
        let bundle = Resource::Objects(Kind::ClusterTrustBundle);
        let rights: BTreeSet<Right> = [
            right(secret, Some("b"), Verb::Get),
            right(secret, Some("a"), Verb::Watch),
            right(secret, Some("a"), Verb::Get),
            right(secret, Some("c"), Verb::Watch),
            right(secret, Some("c"), Verb::Get),
            right(bundle, Some("x"), Verb::Get),
            right(bundle, Some("x"), Verb::Watch),
            right(bundle, None, Verb::Watch),
            right(bundle, None, Verb::List),
        ]
        .into();
        let found = rules(rights.iter());
        let names = |names: &[&str]| names.iter().map(|name| Name::new(name).unwrap()).collect::<Vec<_>>();
        let rule = |resource, of: &[&str], verbs: &[Verb]| Rule { resource, names: names(of), verbs: verbs.to_vec() };
        let expected = [
            rule(secret, &["b"], &[Verb::Get]),
            rule(secret, &["a", "c"], &[Verb::Get, Verb::Watch]),
            rule(bundle, &[], &[Verb::List, Verb::Watch]),
            rule(bundle, &["x"], &[Verb::Get]),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn subjects_are_read_as_kubectl_users_write_them() {
        let account = Subject::ServiceAccount(Namespace::new("prod").unwrap(), Name::new("web").unwrap());
        for (text, subject) in [
            ("jane", Subject::User("jane".into())),
            ("user:group:x", Subject::User("group:x".into())),
            ("jane@example.com", Subject::User("jane@example.com".into())),
            ("group:system:masters", Subject::Group("system:masters".into())),
            ("sa:prod/web", account.clone()),
            ("system:serviceaccount:prod:web", account),
        ] {
            assert_eq!(text.parse(), Ok(subject), "{text}");
        }
        for text in ["", "group:", "sa:web", "sa:A/web", "sa:prod/", "a\nb"] {
            assert!(text.parse::<Subject>().is_err(), "{text:?}");
        }
    }
}
