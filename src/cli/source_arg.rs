//! The SOURCE argument: `ns/NAME`, `secret/NAME`, `cm/NAME` and the fstab form `NAMESPACE/KIND/NAME`, with a key after
//! it where a verb takes one.

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
}

/// Why a SOURCE makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    #[error("{text:?} is not a SOURCE: write ns/NAME, secret/NAME, cm/NAME or NAMESPACE/KIND/NAME")]
    Form { text: String },
    #[error("{text:?}: unknown kind {kind:?}: use secret, cm (configmap) or ns")]
    Kind { text: String, kind: String },
    #[error("{text:?}: {source}")]
    Name { text: String, source: InvalidName },
    #[error("{text:?} names a key: only cat, ls and tree take one")]
    Key { text: String },
}

impl SourceArg {
    /// Reads SOURCE, which may end in a key.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let bad_name = |source| SourceError::Name { text: text.to_owned(), source };
        let parts: Vec<&str> = text.split('/').collect();
        let object = |namespace: Option<&str>, kind: Kind, name: &str, key: Option<&str>| {
            Ok(SourceArg::Object {
                namespace: namespace.map(Namespace::new).transpose().map_err(bad_name)?,
                kind,
                name: Name::new(name).map_err(bad_name)?,
                key: key.map(Key::new).transpose().map_err(bad_name)?,
            })
        };
        let kind_of = |word: &str| word.parse::<Kind>().ok();
        match parts[..] {
            [word, name] if is_namespace_word(word) => Namespace::new(name).map(SourceArg::Namespace).map_err(bad_name),
            // A namespace may be called "secret", but then KIND/NAME/KEY is meant: write -n for the other.
            [word, name] | [word, name, _] if kind_of(word).is_some() => {
                object(None, kind_of(word).unwrap_or(Kind::Secret), name, parts.get(2).copied())
            }
            [word, _] => Err(SourceError::Kind { text: text.to_owned(), kind: word.to_owned() }),
            [namespace, word, name] | [namespace, word, name, _] => match kind_of(word) {
                Some(kind) => object(Some(namespace), kind, name, parts.get(3).copied()),
                None => Err(SourceError::Kind { text: text.to_owned(), kind: word.to_owned() }),
            },
            _ => Err(SourceError::Form { text: text.to_owned() }),
        }
    }

    /// Reads SOURCE for a verb that shows whole objects.
    pub fn parse_without_key(text: &str) -> Result<Self, SourceError> {
        match Self::parse(text)? {
            SourceArg::Object { key: Some(_), .. } => Err(SourceError::Key { text: text.to_owned() }),
            source => Ok(source),
        }
    }

    /// The object, if SOURCE is one, in `default` unless it names a namespace itself.
    pub fn object_id(&self, default: &Namespace) -> Option<ObjectId> {
        match self {
            SourceArg::Object { namespace, kind, name, .. } => Some(ObjectId {
                namespace: namespace.clone().unwrap_or_else(|| default.clone()),
                kind: *kind,
                name: name.clone(),
            }),
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
        ] {
            let message = SourceArg::parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
        assert!(matches!(SourceArg::parse_without_key("secret/a/k"), Err(SourceError::Key { .. })));
    }
}
