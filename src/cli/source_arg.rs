//! The SOURCE argument: `ns/NAME`, `secret/NAME`, `pod/NAME`, `deploy/NAME`, `node/NAME` and the fstab form
//! `NAMESPACE/KIND/NAME`, with what is below it after it where a verb takes that: a key, or a container and a path in it.

use crate::object::{InvalidName, Key, Kind, Name, Namespace, ObjectId};

/// What the user wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceArg {
    /// No SOURCE: all namespaces.
    Cluster,
    Namespace(Namespace),
    Object {
        /// Named in SOURCE itself; otherwise -n or the context's.
        namespace: Option<Namespace>,
        kind: Kind,
        name: Name,
        key: Option<Key>,
    },
    /// A pod, or the pods that a workload makes.
    Pod {
        namespace: Option<Namespace>,
        kind: Kind,
        name: Name,
        /// `CONTAINER/mountPath...`, or empty.
        path: String,
    },
    /// The pods of a node.
    Node {
        name: Name,
        /// `NAMESPACE/POD/CONTAINER/mountPath...`, or empty.
        path: String,
    },
}

/// Why a SOURCE makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    #[error(
        "{text:?} is not a SOURCE: write ns/NAME, secret/NAME, cm/NAME, pod/NAME, deploy/NAME, node/NAME or NAMESPACE/KIND/NAME"
    )]
    Form { text: String },
    #[error(
        "{text:?}: unknown kind {kind:?}: use secret, cm (configmap), ns, pod, deploy, sts, ds, rs, job, cronjob or node"
    )]
    Kind { text: String, kind: String },
    #[error("{text:?}: {source}")]
    Name { text: String, source: InvalidName },
    #[error("{text:?} names a key or a path in it: only cat, ls and tree take that")]
    Key { text: String },
    #[error("{text:?}: a node is in no namespace: write node/NAME")]
    Namespaced { text: String },
}

impl SourceArg {
    /// Reads SOURCE, which may end in a key.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let bad_name = |source| SourceError::Name { text: text.to_owned(), source };
        let parts: Vec<&str> = text.split('/').collect();
        let kind_of = |word: &str| word.parse::<Kind>().ok().filter(|kind| *kind == Kind::Node || kind.is_shown());
        let unknown = |word: &str| SourceError::Kind { text: text.to_owned(), kind: word.to_owned() };
        let (namespace, kind, name, rest) = match parts[..] {
            [word, name] if is_namespace_word(word) => {
                return Namespace::new(name).map(SourceArg::Namespace).map_err(bad_name);
            }
            // A namespace may be called "secret", but then KIND/NAME/KEY is meant: write -n for the other.
            [word, name, ref rest @ ..] if kind_of(word).is_some() => (None, word, name, rest),
            [namespace, word, name, ref rest @ ..] if kind_of(word).is_some() => (Some(namespace), word, name, rest),
            [word, _] => return Err(unknown(word)),
            [_, word, _] | [_, word, _, _] => return Err(unknown(word)),
            _ => return Err(SourceError::Form { text: text.to_owned() }),
        };
        let kind = kind_of(kind).ok_or_else(|| unknown(kind))?;
        let namespace = namespace.map(Namespace::new).transpose().map_err(bad_name)?;
        let name = Name::new(name).map_err(bad_name)?;
        match kind {
            Kind::Node if namespace.is_some() => Err(SourceError::Namespaced { text: text.to_owned() }),
            Kind::Node => Ok(SourceArg::Node { name, path: rest.join("/") }),
            kind if kind.has_pod() => Ok(SourceArg::Pod { namespace, kind, name, path: rest.join("/") }),
            kind => {
                let key = match rest {
                    [] => None,
                    [key] => Some(Key::new(key).map_err(bad_name)?),
                    _ => return Err(SourceError::Form { text: text.to_owned() }),
                };
                Ok(SourceArg::Object { namespace, kind, name, key })
            }
        }
    }

    /// Reads SOURCE for a verb that shows whole objects.
    pub fn parse_without_key(text: &str) -> Result<Self, SourceError> {
        match Self::parse(text)? {
            SourceArg::Object { key: Some(_), .. } => Err(SourceError::Key { text: text.to_owned() }),
            SourceArg::Pod { path, .. } | SourceArg::Node { path, .. } if !path.is_empty() => {
                Err(SourceError::Key { text: text.to_owned() })
            }
            source => Ok(source),
        }
    }

    /// The object, if SOURCE is one, in `default` unless it names a namespace itself.
    pub fn object_id(&self, default: &Namespace) -> Option<ObjectId> {
        match self {
            SourceArg::Object { namespace, kind, name, .. } | SourceArg::Pod { namespace, kind, name, .. } => {
                Some(ObjectId {
                    namespace: namespace.clone().unwrap_or_else(|| default.clone()),
                    kind: *kind,
                    name: name.clone(),
                })
            }
            _ => None,
        }
    }
}

fn is_namespace_word(word: &str) -> bool {
    matches!(word, "ns" | "namespace" | "namespaces")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(namespace: Option<&str>, kind: Kind, name: &str, key: Option<&str>) -> SourceArg {
        SourceArg::Object {
            namespace: namespace.map(|text| Namespace::new(text).unwrap()),
            kind,
            name: Name::new(name).unwrap(),
            key: key.map(|text| Key::new(text).unwrap()),
        }
    }

    fn pod(namespace: Option<&str>, kind: Kind, name: &str, path: &str) -> SourceArg {
        let namespace = namespace.map(|text| Namespace::new(text).unwrap());
        SourceArg::Pod { namespace, kind, name: Name::new(name).unwrap(), path: path.into() }
    }

    #[test]
    fn every_documented_form_is_read() {
        for (text, expected) in [
            ("ns/prod", SourceArg::Namespace(Namespace::new("prod").unwrap())),
            ("secret/a", object(None, Kind::Secret, "a", None)),
            ("secrets/a", object(None, Kind::Secret, "a", None)),
            ("cm/a.b", object(None, Kind::ConfigMap, "a.b", None)),
            ("configmap/a", object(None, Kind::ConfigMap, "a", None)),
            ("secret/a/tls.crt", object(None, Kind::Secret, "a", Some("tls.crt"))),
            ("prod/secret/a", object(Some("prod"), Kind::Secret, "a", None)),
            ("prod/cm/a/k", object(Some("prod"), Kind::ConfigMap, "a", Some("k"))),
            ("pod/web-0", pod(None, Kind::Pod, "web-0", "")),
            ("prod/deploy/web/c/etc/tls/tls.crt", pod(Some("prod"), Kind::Deployment, "web", "c/etc/tls/tls.crt")),
            ("cronjob/a/c", pod(None, Kind::CronJob, "a", "c")),
            ("node/n1", SourceArg::Node { name: Name::new("n1").unwrap(), path: String::new() }),
            ("node/n1/prod/web-0", SourceArg::Node { name: Name::new("n1").unwrap(), path: "prod/web-0".into() }),
        ] {
            assert_eq!(SourceArg::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_reason() {
        for (text, part) in [
            ("mysecret", "is not a SOURCE"),
            ("", "is not a SOURCE"),
            ("a/b/c/d/e", "is not a SOURCE"),
            ("pvc/a", "unknown kind \"pvc\""),
            ("a/b/c", "unknown kind \"b\""),
            ("secret/A", "not a valid object name"),
            ("secret/", "not a valid object name"),
            ("secret/a/..", "not a valid key"),
            ("A_B/secret/a", "not a valid namespace"),
            ("ns/a.b", "not a valid namespace"),
            ("sa/a", "unknown kind \"sa\""),
            ("prod/node/n1", "a node is in no namespace"),
            ("secret/a/b/c", "is not a SOURCE"),
        ] {
            let message = SourceArg::parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
        assert!(matches!(SourceArg::parse_without_key("secret/a/k"), Err(SourceError::Key { .. })));
    }
}
