//! Validated names. Whatever comes from a command line, a lookup in the mount or a server becomes one of these
//! types before it is used, so that no string that the API could not have issued reaches a URL or a directory.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::Kind;

/// Indicates a string that cannot be the name of a thing of this sort.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a valid {what}: {rule}")]
pub struct InvalidName {
    pub name: String,
    pub what: &'static str,
    pub rule: &'static str,
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $what:literal, $rule:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks `text` and takes it as a name.
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                if $check(text) {
                    Ok(Self(text.into()))
                } else {
                    // Names come from outside; a message never repeats more of one than helps to recognise it.
                    let name = text.chars().take(64).collect();
                    Err(InvalidName { name, what: $what, rule: $rule })
                }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    /// The name of a namespace: a DNS-1123 label. Source: `ValidateNamespaceName`, apimachinery's validation.
    Namespace,
    "namespace",
    "use at most 63 lower-case letters, digits and '-', beginning and ending with a letter or digit",
    is_dns_label
);

impl Namespace {
    /// Where objects are that are in no namespace, as the API's own code has it.
    pub fn none() -> Self {
        Namespace("".into())
    }
}

name_type!(
    /// The name of an object: a DNS-1123 subdomain. Source: `NameIsDNSSubdomain`, apimachinery's validation.
    Name,
    "object name",
    "use at most 253 lower-case letters, digits, '-' and '.', each part beginning and ending with a letter or digit",
    is_dns_subdomain
);

impl Name {
    /// The name of an object of `kind`. That of a trust bundle which is linked to a signer begins with the signer's:
    /// `example.com:signer:bundle`. Source: `ValidateClusterTrustBundleName`, pkg/apis/core/validation/names.go.
    pub fn of(kind: Kind, text: &str) -> Result<Self, InvalidName> {
        let parts: Vec<&str> = text.split(':').collect();
        if kind == Kind::ClusterTrustBundle && parts.len() == 3 && parts.into_iter().all(is_dns_subdomain) {
            return Ok(Name(text.into()));
        }
        Name::new(text)
    }
}

name_type!(
    /// A key of a Secret or ConfigMap, which is a file name. Source: `IsConfigMapKey`, apimachinery's validation.
    Key,
    "key",
    "use at most 253 letters, digits, '-', '_' and '.', not '.' and not beginning with '..'",
    is_key
);

fn is_dns_label(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

fn is_dns_subdomain(text: &str) -> bool {
    // Unlike a lone label, a part of a subdomain has no length limit of its own.
    text.len() <= 253
        && text.split('.').all(|part| {
            let bytes = part.as_bytes();
            let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            bytes.first().is_some_and(edge)
                && bytes.last().is_some_and(edge)
                && bytes.iter().all(|b| edge(b) || *b == b'-')
        })
}

fn is_key(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text != "."
        && !text.starts_with("..")
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_dns_labels() {
        for good in ["default", "a", "0", "kube-system", &"a".repeat(63)] {
            assert!(Namespace::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "a/b", "..", "a%2f", "ä", &"a".repeat(64)] {
            assert!(Namespace::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn object_names_are_dns_subdomains() {
        for good in ["a", "a.b", "sh.helm.release.v1.web.v1", &"a".repeat(253)] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a..b", ".a", "a.", "a?watch=true", "a#b", "a%2f", "a/b", "A", &"a".repeat(254)] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn trust_bundles_of_signers_are_named_after_them() {
        for good in ["a.b", "example.com:signer.x:bundle"] {
            assert!(Name::of(Kind::ClusterTrustBundle, good).is_ok(), "{good}");
        }
        for bad in ["a:b", "a:b:", "a::c", "a:b:c:d", "a/b:c:d"] {
            assert!(Name::of(Kind::ClusterTrustBundle, bad).is_err(), "{bad}");
        }
        assert!(Name::of(Kind::Secret, "a:b:c").is_err());
    }

    #[test]
    fn keys_follow_the_api_servers_rule() {
        for good in [".dotfile", "tls.crt", ".so.is.this", "so_is_this_17", "A-b", &"k".repeat(253)] {
            assert!(Key::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "..bad", "b*d", "bad!&bad", "a/b", "ä", "a b", &"k".repeat(254)] {
            assert!(Key::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_message_does_not_repeat_a_whole_bad_name() {
        let message = Name::new(&"X".repeat(10_000)).unwrap_err().to_string();
        assert!(message.len() < 300, "{message}");
    }
}
