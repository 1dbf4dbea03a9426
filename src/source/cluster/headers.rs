//! Impersonation: who the requests act as, by `--as` and by the kubeconfig.

use http::{HeaderMap, HeaderName, HeaderValue};
use kube::config::AuthInfo;

use super::config::ConnectError;

/// kubectl's `--as`, `--as-group` and `--as-uid`. What is not given is taken from the kubeconfig.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Impersonation {
    pub user: Option<String>,
    pub groups: Vec<String>,
    pub uid: Option<String>,
}

/// The headers of every request. Source: client-go's transport/round_trippers.go, `impersonatingRoundTripper`.
pub fn impersonation_headers(user: &AuthInfo, flags: &Impersonation) -> Result<HeaderMap, ConnectError> {
    let mut headers = HeaderMap::new();
    let mut add = |name: &str, value: &str| {
        let invalid = || ConnectError::Invalid { what: "impersonation", why: format!("{name} cannot be a header") };
        let name = HeaderName::try_from(name).map_err(|_| invalid())?;
        headers.append(name.clone(), HeaderValue::from_str(value).map_err(|_| invalid())?);
        Ok::<_, ConnectError>(())
    };
    if let Some(name) = flags.user.as_ref().or(user.impersonate.as_ref()).filter(|name| !name.is_empty()) {
        add("impersonate-user", name)?;
    }
    if let Some(uid) = flags.uid.as_ref().or(user.impersonate_uid.as_ref()).filter(|uid| !uid.is_empty()) {
        add("impersonate-uid", uid)?;
    }
    let configured = user.impersonate_groups.as_deref().unwrap_or_default();
    for group in if flags.groups.is_empty() { configured } else { &flags.groups } {
        add("impersonate-group", group)?;
    }
    for (key, values) in user.impersonate_user_extra.iter().flatten() {
        let name = format!("impersonate-extra-{}", header_key(key));
        values.iter().try_for_each(|value| add(&name, value))?;
    }
    if headers.keys().any(|name| name != "impersonate-user") && !headers.contains_key("impersonate-user") {
        return Err(ConnectError::Invalid {
            what: "impersonation",
            why: "a group, uid or extra needs a user to act as (--as)".to_owned(),
        });
    }
    Ok(headers)
}

/// Percent-encodes what a header name cannot hold, and '%' itself, as client-go's `headerKeyEscape` does.
fn header_key(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => text.push(byte.into()),
            b'!' | b'#' | b'$' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' => {
                text.push(byte.into());
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_before_the_kubeconfig() {
        let user = AuthInfo {
            impersonate: Some("from-file".into()),
            impersonate_groups: Some(vec!["g1".into(), "g2".into()]),
            impersonate_user_extra: Some([("example.com/scope".to_owned(), vec!["a".to_owned()])].into()),
            ..AuthInfo::default()
        };
        let headers = impersonation_headers(&user, &Impersonation::default()).unwrap();
        assert_eq!(headers["impersonate-user"], "from-file");
        assert_eq!(headers.get_all("impersonate-group").iter().collect::<Vec<_>>(), ["g1", "g2"]);
        assert_eq!(headers["impersonate-extra-example.com%2fscope"], "a");

        let flags = Impersonation { user: Some("typed".into()), groups: vec!["g3".into()], uid: Some("7".into()) };
        let headers = impersonation_headers(&user, &flags).unwrap();
        assert_eq!(headers["impersonate-user"], "typed");
        assert_eq!(headers["impersonate-uid"], "7");
        assert_eq!(headers.get_all("impersonate-group").iter().collect::<Vec<_>>(), ["g3"]);
    }

    #[test]
    fn a_group_without_a_user_is_refused() {
        let flags = Impersonation { groups: vec!["g".into()], ..Impersonation::default() };
        assert!(impersonation_headers(&AuthInfo::default(), &flags).is_err());
        assert!(impersonation_headers(&AuthInfo::default(), &Impersonation::default()).unwrap().is_empty());
    }
}
