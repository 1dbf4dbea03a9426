//! HTTP over TLS over TCP, directly or through a proxy: from a pinned target and an identity to connections.
//!
//! A few watches and all requests beside them go by HTTP/1.1, each watch on a connection of its own. From the ninth watch on
//! everything goes by HTTP/2, if the server speaks it (see [`super::http2`]), and the first eight are told to begin anew.
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
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::rt::{Read, Write};
use hyper_rustls::{DefaultServerNameResolver, FixedServerNameResolver, HttpsConnector, ResolveServerName};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connect, Connection, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt as _;
use kube::config::AuthInfo;
use rustls::pki_types::ServerName;
use tokio::sync::watch;
use tower_service::Service;

use super::body::Body;
use super::config::{ConnectError, Target, secret_header};
use super::http2::{Lines, Received};
use super::identity::ClientCertificate;
use super::wiping::Wiping;

pub type BoxError = Box<dyn Error + Send + Sync>;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An answer, before a deadline.
    Request,
    /// An answer that goes on.
    Watch,
}

/// Something that exchanges a request for a response. Each way to the server is another type; this is one.
pub trait Transport: Send + Sync {
    fn send(&self, request: Request<Bytes>, purpose: Purpose) -> BoxFuture<'_, Result<Response<Body>, BoxError>>;

    /// The same way without the connections of this one.
    fn afresh(&self) -> Arc<dyn Transport>;
}

/// So many watches have a connection each.
const FEW: usize = 8;

type Http1<C> = Client<C, Full<Bytes>>;

struct Pool<C> {
    connector: C,
    http1: Mutex<Http1<C>>,
    /// `None` where the server is known not to speak HTTP/2.
    http2: Option<Arc<Lines>>,
    /// There have been more than a few watches.
    many: AtomicBool,
    /// A server that has been asked for HTTP/2 and speaks none.
    old: AtomicBool,
    watches: Arc<AtomicUsize>,
    /// Set when HTTP/2 is in use.
    shared: watch::Sender<bool>,
}

/// One of the open watches, until it is dropped.
pub struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Waits until everything is to go by HTTP/2.
pub struct Moved(watch::Receiver<bool>);

impl Moved {
    pub async fn wait(&mut self) {
        if self.0.wait_for(|shared| *shared).await.is_err() {
            // Its pool is gone, and will not tell.
            std::future::pending().await
        }
    }
}

impl<C: Connect + Clone + Send + Sync + 'static> Pool<C> {
    fn start(connector: C, http2: Option<Arc<Lines>>) -> Arc<dyn Transport> {
        Arc::new(Pool {
            http1: Mutex::new(http1(connector.clone())),
            connector,
            http2,
            many: AtomicBool::default(),
            old: AtomicBool::default(),
            watches: Arc::default(),
            shared: watch::Sender::default(),
        })
    }

    fn http1(&self) -> MutexGuard<'_, Http1<C>> {
        self.http1.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Counts a watch, and looks whether these are many.
    fn count(&self) -> Counted {
        if self.watches.fetch_add(1, Relaxed) >= FEW {
            self.many.store(true, Relaxed);
        }
        Counted(self.watches.clone())
    }

    /// HTTP/2 is in use: what goes by HTTP/1.1 comes to an end.
    fn leave_http1(&self) {
        if !self.shared.send_replace(true) {
            // Connections that wait for a request would wait in vain.
            *self.http1() = http1(self.connector.clone());
        }
    }

    /// Sends by HTTP/2. `Err(request)`: the server speaks none.
    async fn send_shared(
        &self,
        lines: &Arc<Lines>,
        request: Request<Bytes>,
        purpose: Purpose,
    ) -> Result<Result<Response<Received>, BoxError>, Request<Bytes>> {
        loop {
            let room = match lines.room(purpose).await {
                Ok(Some(room)) => room,
                Ok(None) => return Err(request),
                Err(error) => return Ok(Err(error)),
            };
            match room.send(request.clone()).await {
                Ok(response) => return Ok(Ok(response)),
                Err(Some(error)) => return Ok(Err(error)),
                // It was closed just then.
                Err(None) => {}
            }
        }
    }
}

fn http1<C: Connect + Clone + Send + Sync + 'static>(connector: C) -> Http1<C> {
    // No pool timer: it would wake an idle daemon. The API server closes idle connections after 90 s; one that is
    // nearly that old is not used again, so that a request does not meet the close.
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(80))
        .pool_max_idle_per_host(8)
        .build(connector)
}

impl<C: Connect + Clone + Send + Sync + 'static> Transport for Pool<C> {
    fn send(&self, mut request: Request<Bytes>, purpose: Purpose) -> BoxFuture<'_, Result<Response<Body>, BoxError>> {
        Box::pin(async move {
            let counted = (purpose == Purpose::Watch).then(|| self.count());
            if let Some(lines) = &self.http2
                && self.many.load(Relaxed)
                && !self.old.load(Relaxed)
            {
                match self.send_shared(lines, request, purpose).await {
                    Ok(answer) => {
                        let answer = answer?;
                        self.leave_http1();
                        return Ok(answer.map(|body| Body::of_http2(body, counted)));
                    }
                    Err(unsent) => {
                        self.old.store(true, Relaxed);
                        request = unsent;
                    }
                }
            }
            let answer = self.http1().request(request.map(Full::from));
            let moved = (purpose == Purpose::Watch).then(|| Moved(self.shared.subscribe()));
            Ok(answer.await?.map(|body| Body::of_http1(body, counted, moved)))
        })
    }

    fn afresh(&self) -> Arc<dyn Transport> {
        Arc::new(Pool {
            http1: Mutex::new(http1(self.connector.clone())),
            connector: self.connector.clone(),
            http2: self.http2.as_ref().map(|lines| lines.afresh()),
            many: AtomicBool::new(self.many.load(Relaxed)),
            old: AtomicBool::new(self.old.load(Relaxed)),
            watches: self.watches.clone(),
            shared: watch::Sender::new(*self.shared.borrow()),
        })
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
        Some("https") => pool(&tls, tunnel(address, login, Tls::new(&tls)?.connector(tcp, &[]))?, timeout),
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

/// How to speak TLS: kube's settings, which do not say which protocols to offer.
struct Tls {
    settings: rustls::ClientConfig,
    name: Arc<dyn ResolveServerName + Send + Sync>,
}

impl Tls {
    fn new(tls: &kube::Config) -> Result<Self, ConnectError> {
        // kube's message may name a file, never what is in it.
        let settings = tls.rustls_client_config().map_err(|error| ConnectError::Tls(error.to_string()))?;
        let name: Arc<dyn ResolveServerName + Send + Sync> = match &tls.tls_server_name {
            Some(name) => {
                let name = ServerName::try_from(name.clone()).map_err(|error| ConnectError::Tls(error.to_string()))?;
                Arc::new(FixedServerNameResolver::new(name))
            }
            None => Arc::new(DefaultServerNameResolver::default()),
        };
        Ok(Tls { settings, name })
    }

    /// Connects with TLS and offers these protocols, the best one first.
    fn connector<H>(&self, connector: H, protocols: &[&[u8]]) -> HttpsConnector<H> {
        let mut settings = self.settings.clone();
        settings.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        HttpsConnector::new(connector, settings, false, self.name.clone())
    }
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
        return Ok(Pool::start(Bounded { inner: connector, timeout }, None));
    }
    let server = tls.cluster_url.clone();
    let tls = Tls::new(tls)?;
    let many = Bounded { inner: tls.connector(connector.clone(), &[b"h2", b"http/1.1"]), timeout };
    let few = Bounded { inner: tls.connector(connector, &[]), timeout };
    Ok(Pool::start(few, Some(Lines::new(many, server))))
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
