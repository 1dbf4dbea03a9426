//! Which proxy leads to the cluster, decided as kubectl (Go's golang.org/x/net/http/httpproxy) decides it.
//!
//! kube 5 compares NO_PROXY with the proxy's own address instead of the cluster's, so the decision is made here.

use std::env;
use std::net::IpAddr;

use http::Uri;

use super::config::ConnectError;

/// The proxy variables of a process; the upper-case name of each comes first.
#[derive(Clone, Debug, Default)]
pub struct ProxyVariables {
    pub https_proxy: Option<String>,
    pub http_proxy: Option<String>,
    pub no_proxy: Option<String>,
}

impl ProxyVariables {
    pub fn of_this_process() -> Self {
        let either = |upper: &str| {
            let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
            set(upper).or_else(|| set(&upper.to_ascii_lowercase()))
        };
        ProxyVariables {
            https_proxy: either("HTTPS_PROXY"),
            http_proxy: either("HTTP_PROXY"),
            no_proxy: either("NO_PROXY"),
        }
    }
}

/// The proxy for `server`, if any. A `proxy-url` of the kubeconfig is meant for this cluster: NO_PROXY does not apply to it.
pub fn choose(configured: Option<&str>, server: &Uri, variables: &ProxyVariables) -> Result<Option<Uri>, ConnectError> {
    if let Some(url) = configured.filter(|url| !url.is_empty()) {
        return parse(url, "proxy-url").map(Some);
    }
    let from_environment = match server.scheme_str() {
        Some("http") => &variables.http_proxy,
        _ => &variables.https_proxy,
    };
    match from_environment {
        Some(url) if !bypassed(server, variables.no_proxy.as_deref().unwrap_or("")) => {
            parse(url, "HTTPS_PROXY").map(Some)
        }
        _ => Ok(None),
    }
}

fn parse(url: &str, what: &'static str) -> Result<Uri, ConnectError> {
    // The URL may hold a password: no message repeats it.
    let invalid = |why: &str| ConnectError::Invalid { what, why: why.to_owned() };
    let text = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let text = text.replacen("socks5h://", "socks5://", 1);
    let uri: Uri = text.parse().map_err(|_| invalid("it is not a URL"))?;
    match uri.scheme_str() {
        Some("http" | "https" | "socks5") if uri.host().is_some() => Ok(uri),
        _ => Err(invalid("it must begin with http://, https:// or socks5://")),
    }
}

/// Whether `no_proxy` names the server. The loopback is never proxied.
fn bypassed(server: &Uri, no_proxy: &str) -> bool {
    let host = server.host().unwrap_or("").trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    let port = server.port_u16().unwrap_or(if server.scheme_str() == Some("http") { 80 } else { 443 });
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|ip| ip.is_loopback()) {
        return true;
    }
    no_proxy.split(',').map(|entry| entry.trim().to_ascii_lowercase()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Some((network, bits)) = entry.split_once('/') {
            return address.is_some_and(|ip| in_network(ip, network, bits));
        }
        let (name, entry_port) = split_port(&entry);
        if entry_port.is_some_and(|wanted| wanted != port) {
            return false;
        }
        match (name.parse::<IpAddr>(), address) {
            (Ok(wanted), Some(ip)) => return wanted == ip,
            (Ok(_), None) | (Err(_), Some(_)) => return false,
            (Err(_), None) => {}
        }
        let name = name.strip_prefix('*').unwrap_or(name);
        match name.strip_prefix('.') {
            Some(_) => host.ends_with(name),
            None => !name.is_empty() && (host == name || host.strip_suffix(name).is_some_and(|h| h.ends_with('.'))),
        }
    })
}

fn split_port(entry: &str) -> (&str, Option<u16>) {
    if let Some(rest) = entry.strip_prefix('[') {
        let (name, rest) = rest.split_once(']').unwrap_or((rest, ""));
        return (name, rest.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match entry.rsplit_once(':') {
        // More than one colon without brackets is an IPv6 address.
        Some((name, port)) if !name.contains(':') => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    }
}

fn in_network(address: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let same =
        |a: u128, b: u128, width: u32| bits <= width && (bits == 0 || (a >> (width - bits)) == (b >> (width - bits)));
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bypass(server: &'static str, no_proxy: &str) -> bool {
        bypassed(&Uri::from_static(server), no_proxy)
    }

    #[test]
    fn no_proxy_names_the_cluster_not_the_proxy() {
        for (server, no_proxy) in [
            ("https://10.0.0.1:6443", "10.0.0.1"),
            ("https://10.0.0.1:6443", "192.168.0.0/16, 10.0.0.0/8"),
            ("https://10.0.0.1:6443", "10.0.0.1:6443"),
            ("https://10.0.0.1", "10.0.0.1:443"),
            ("https://api.example.com", "example.com"),
            ("https://API.example.com.", "example.com"),
            ("https://example.com", "example.com"),
            ("https://api.example.com", ".example.com"),
            ("https://api.example.com", "*.example.com"),
            ("https://api.example.com:6443", "a.b,,example.com:6443"),
            ("https://anything", "*"),
            ("https://[fd00::1]:6443", "fd00::/8"),
            ("https://[fd00::1]:6443", "[fd00::1]:6443"),
            ("https://[fd00::1]:6443", "fd00::1"),
            ("https://127.0.0.1:6443", ""),
            ("https://localhost:6443", ""),
            ("https://[::1]", ""),
        ] {
            assert!(bypass(server, no_proxy), "{server} {no_proxy}");
        }
        for (server, no_proxy) in [
            ("https://10.0.0.1:6443", ""),
            ("https://10.0.0.1:6443", "10.0.0.2"),
            ("https://10.0.0.1:6443", "10.0.0.1:443"),
            ("https://11.0.0.1", "10.0.0.0/8"),
            ("https://example.com", ".example.com"),
            ("https://badexample.com", "example.com"),
            ("https://api.example.com:6443", "example.com:443"),
            ("https://api.example.com", "10.0.0.0/8, ::/0, 0.0.0.0/99, x/y"),
            ("https://10.0.0.1", "0.1"),
        ] {
            assert!(!bypass(server, no_proxy), "{server} {no_proxy}");
        }
    }

    #[test]
    fn a_proxy_of_the_kubeconfig_comes_first_and_ignores_no_proxy() {
        let server = Uri::from_static("https://10.0.0.1:6443");
        let variables = ProxyVariables {
            https_proxy: Some("proxy.corp:3128".into()),
            http_proxy: Some("http://other:1".into()),
            no_proxy: Some("10.0.0.0/8".into()),
        };
        let chosen = |configured, variables: &ProxyVariables| {
            choose(configured, &server, variables).unwrap().map(|uri| uri.to_string())
        };
        assert_eq!(chosen(Some("socks5h://p:1080"), &variables).as_deref(), Some("socks5://p:1080/"));
        assert_eq!(chosen(None, &variables), None);
        assert_eq!(chosen(Some(""), &variables), None);
        let variables = ProxyVariables { no_proxy: None, ..variables };
        assert_eq!(chosen(None, &variables).as_deref(), Some("http://proxy.corp:3128/"));
    }

    #[test]
    fn a_bad_proxy_is_refused_without_its_password() {
        let server = Uri::from_static("https://10.0.0.1:6443");
        for bad in ["ftp://u:planted@p", "http://u:planted@ p", "http://"] {
            let error = choose(Some(bad), &server, &ProxyVariables::default()).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("planted"), "{error:?}");
        }
    }
}
