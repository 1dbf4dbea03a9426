//! HTTP/1.1 over TLS over TCP, directly or through a proxy: from a pinned target and an identity to a connection pool.
//!
//! The stack is hyper's, with the TLS settings that kube makes of a kubeconfig. It differs from kube's own in what it leaves
//! out (retries, request logging at ERROR, a buffer task in front of each request) and in what it sets on the socket:
//!
//! * `TCP_NODELAY`: requests are small.
//! * TCP keepalive after 15 s, then every 5 s, twice: the kernel notices a peer that is gone (a closed laptop lid, a VPN that
//!   dropped) within 25 s and ends its connections, without waking this process while all is well. That keeps dead
//!   connections out of the pool. A peer whose kernel still answers while its server does not is noticed by
//!   [`super::watch`]'s own deadline.
//!
//! What is received passes through a buffer of hyper, which [`Wiping`] wipes while the connection waits, and one of rustls,
//! which keeps the last record until the next one comes. Whatever they give back is wiped by [`crate::memory::Wiping`].

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::Full;
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connect, Connection, HttpConnector};
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt as _;
use kube::config::AuthInfo;
use tower_service::Service;

use super::config::{ConnectError, Target, secret_header};
use super::identity::ClientCertificate;
use super::wiping::Wiping;

pub type BoxError = Box<dyn Error + Send + Sync>;

/// Something that exchanges a request for a response. Each way to the server is another type; this is one.
pub trait Transport: Send + Sync {
    fn send(&self, request: Request<Full<Bytes>>) -> ResponseFuture;

    /// The same way without the connections of this one.
    fn afresh(&self) -> Arc<dyn Transport>;
}

struct Pool<C> {
    connector: C,
    client: Client<C, Full<Bytes>>,
}

impl<C: Connect + Clone + Send + Sync + 'static> Pool<C> {
    fn start(connector: C) -> Arc<dyn Transport> {
        // No pool timer: it would wake an idle daemon. The API server closes idle connections after 90 s; one that is
        // nearly that old is not used again, so that a request does not meet the close.
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(80))
            .pool_max_idle_per_host(8)
            .build(connector.clone());
        Arc::new(Pool { connector, client })
    }
}

impl<C: Connect + Clone + Send + Sync + 'static> Transport for Pool<C> {
    fn send(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        self.client.request(request)
    }

    fn afresh(&self) -> Arc<dyn Transport> {
        Pool::start(self.connector.clone())
    }
}

/// Makes a new pool without any connection.
pub fn connect(
    target: &Target,
    certificate: Option<&ClientCertificate>,
    timeout: Duration,
) -> Result<Arc<dyn Transport>, ConnectError> {
    // Two providers in one process make rustls panic when it must choose; the first caller's choice stands.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tls = tls_settings(target, certificate);
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Duration::from_secs(15)));
    tcp.set_keepalive_interval(Some(Duration::from_secs(5)));
    tcp.set_keepalive_retries(Some(2));

    let Some(proxy) = &target.proxy else { return pool(&tls, tcp, timeout) };
    let (address, login) = without_login(proxy)?;
    match proxy.scheme_str() {
        Some("socks5") => {
            let socks = SocksV5::new(address, tcp);
            match login {
                Some((user, password)) => pool(&tls, socks.with_auth(user, password), timeout),
                None => pool(&tls, socks, timeout),
            }
        }
        Some("https") => pool(&tls, tunnel(address, login, tls_connector(&tls, tcp)?)?, timeout),
        _ => pool(&tls, tunnel(address, login, tcp)?, timeout),
    }
}

fn tunnel<C>(proxy: Uri, login: Option<(String, String)>, connector: C) -> Result<Tunnel<C>, ConnectError> {
    let tunnel = Tunnel::new(proxy, connector);
    let Some((user, password)) = login else { return Ok(tunnel) };
    Ok(tunnel.with_auth(secret_header("Basic", &STANDARD.encode(format!("{user}:{password}")))?))
}

/// kube turns these settings into rustls's: it knows the host's trust store, reloads a bundle, and checks `tls-server-name`.
fn tls_settings(target: &Target, certificate: Option<&ClientCertificate>) -> kube::Config {
    let mut settings = kube::Config::new(target.server.clone());
    settings.root_cert = target.trust.roots.clone();
    settings.root_cert_file = target.trust.roots_file.clone();
    settings.accept_invalid_certs = target.trust.accept_anything;
    settings.tls_server_name = target.trust.server_name.clone();
    settings.auth_info = AuthInfo {
        client_certificate_data: certificate.map(|pem| STANDARD.encode(&pem.chain)),
        client_key_data: certificate.map(|pem| STANDARD.encode(&*pem.key).into()),
        ..AuthInfo::default()
    };
    settings
}

fn tls_connector<H>(
    tls: &kube::Config,
    connector: H,
) -> Result<
    impl Service<Uri, Response: Socket, Error = BoxError, Future: Send> + Clone + Send + Sync + use<H>,
    ConnectError,
>
where
    H: Service<Uri> + Clone + Send + Sync + 'static,
    H::Response: Socket,
    H::Future: Send + 'static,
    H::Error: Into<BoxError>,
{
    // kube's message may name a file, never what is in it.
    tls.rustls_https_connector_with_connector(connector).map_err(|e| ConnectError::Tls(e.to_string()))
}

fn pool<H>(tls: &kube::Config, connector: H, timeout: Duration) -> Result<Arc<dyn Transport>, ConnectError>
where
    H: Service<Uri> + Clone + Send + Sync + 'static,
    H::Response: Socket,
    H::Future: Send + 'static,
    H::Error: Into<BoxError>,
{
    if tls.cluster_url.scheme_str() == Some("http") {
        // Without TLS the host's trust store need not be read, which takes longer than everything else here.
        return Ok(Pool::start(Bounded { inner: connector, timeout }));
    }
    Ok(Pool::start(Bounded { inner: tls_connector(tls, connector)?, timeout }))
}

/// What a connection must be able to do; a short name for hyper's bounds.
pub trait Socket: Read + Write + Connection + Unpin + Send + 'static {}
impl<T: Read + Write + Connection + Unpin + Send + 'static> Socket for T {}

/// A connector with a deadline for everything up to the end of the TLS handshake. The pool finishes connections in the
/// background when their request has been given up; without this, a server that accepts and says nothing would collect them.
#[derive(Clone)]
struct Bounded<C> {
    inner: C,
    timeout: Duration,
}

impl<C> Service<Uri> for Bounded<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
    C::Response: 'static,
    C::Error: Into<BoxError>,
{
    type Response = Wiping<C::Response>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Wiping<C::Response>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(self.timeout, self.inner.call(uri));
        // A timeout is an io::Error, as the kernel's own would be.
        Box::pin(async move {
            match connecting.await {
                Ok(connected) => connected.map(Wiping).map_err(Into::into),
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        })
    }
}

/// Takes user and password out of a proxy's URL.
fn without_login(proxy: &Uri) -> Result<(Uri, Option<(String, String)>), ConnectError> {
    let invalid = || ConnectError::Invalid { what: "proxy", why: "it is not a URL with a host".to_owned() };
    let authority = proxy.authority().ok_or_else(invalid)?.as_str();
    let Some((login, host)) = authority.rsplit_once('@') else { return Ok((proxy.clone(), None)) };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let scheme = proxy.scheme_str().unwrap_or("http");
    let bare = Uri::builder().scheme(scheme).authority(host).path_and_query("/").build().map_err(|_| invalid())?;
    Ok((bare, Some((percent_decode(user), percent_decode(password)))))
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| value.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_login_of_a_proxy_is_taken_out_of_its_url() {
        let (bare, login) = without_login(&Uri::from_static("http://user:p%40ss%3Aw@proxy:3128/")).unwrap();
        assert_eq!(bare.to_string(), "http://proxy:3128/");
        assert_eq!(login, Some(("user".to_owned(), "p@ss:w".to_owned())));
        let (bare, login) = without_login(&Uri::from_static("socks5://proxy:1080")).unwrap();
        assert_eq!((bare.to_string().as_str(), login), ("socks5://proxy:1080/", None));
        assert_eq!(percent_decode("%+1%4"), "%+1%4");
    }
}
