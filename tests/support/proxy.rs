//! A proxy between secretfs and the API server: it records what passes, and fails as a test wants it to.
//!
//! It ends TLS with a certificate of its own, speaks TLS to the real server, and forwards HTTP/1.1 as it comes. Faults
//! are of two kinds. *Lines* fail as networks do, whatever is asked: refused, black hole, half-open, cut. *Answers* fail
//! as servers and gateways do, for the requests that a rule picks: other answers, none, late, slow or cut-off ones.

mod connection;
mod exchange;
mod fault;

pub use exchange::{Exchange, Request};
pub use fault::Fault;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{oneshot, watch};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use connection::Connection;

use super::cluster::Cluster;
use super::kubeconfig::Context;
use super::wait_until;

/// One proxy. All of its connections end when it is dropped.
pub struct Proxy {
    pub url: String,
    ca: String,
    token: String,
    shared: Arc<Shared>,
    _alive: oneshot::Sender<()>,
}

/// What a proxy shows to clients, its own authority.
pub struct Certificate {
    pub pem: String,
    acceptor: TlsAcceptor,
}

impl Certificate {
    pub fn new() -> Certificate {
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .expect("a server's TLS");
        Certificate { pem: own.cert.pem(), acceptor: TlsAcceptor::from(Arc::new(server)) }
    }
}

/// A rule for answers.
struct Rule {
    picks: Box<dyn Fn(&Request) -> bool + Send>,
    fault: Fault,
    /// How often it applies; `None` is always.
    left: Option<usize>,
}

/// How the lines are. Connections have numbers in the order in which they were accepted.
#[derive(Clone, Copy, Debug, Default)]
struct Lines {
    refused: bool,
    /// Nothing is forwarded in either direction, not even a handshake.
    black_hole: bool,
    /// Connections below this number are closed.
    cut_below: usize,
    /// Connections below this number forward nothing and are not closed.
    dead_below: usize,
}

#[derive(Default)]
struct State {
    exchanges: Vec<Exchange>,
    rules: Vec<Rule>,
    accepted: usize,
    open: BTreeSet<usize>,
    listening: bool,
}

struct Shared {
    state: Mutex<State>,
    lines: watch::Sender<Lines>,
    acceptor: Mutex<TlsAcceptor>,
    connector: TlsConnector,
    upstream: SocketAddr,
    port: u16,
}

impl Proxy {
    /// A proxy before `cluster`.
    pub fn start(cluster: &Cluster) -> Proxy {
        let own = Certificate::new();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(cluster.ca().as_bytes()).expect("PEM")).expect("a root");
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let upstream = cluster.url.strip_prefix("https://").expect("https").parse().expect("an address");
        // Bound as long as the proxy lives and never listening: nobody else gets the port while it refuses.
        let reserved = bound(0);
        let port = reserved.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            lines: watch::Sender::default(),
            acceptor: Mutex::new(own.acceptor),
            connector: TlsConnector::from(Arc::new(client)),
            upstream,
            port,
        });
        let (alive, ended) = oneshot::channel::<()>();
        let listening = shared.clone();
        std::thread::spawn(move || {
            let _reserved = reserved;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    _ = ended => {}
                    () = listen(listening) => {}
                }
            });
        });
        let proxy = Proxy {
            url: format!("https://127.0.0.1:{port}"),
            ca: own.pem,
            token: cluster.token(),
            shared,
            _alive: alive,
        };
        wait_until("the proxy", || proxy.state().listening);
        proxy
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// The admin's context through this proxy.
    pub fn context(&self, namespace: &str) -> Context {
        Context {
            name: "proxy".into(),
            server: self.url.clone(),
            ca: self.ca.clone(),
            token: self.token.clone(),
            namespace: namespace.into(),
        }
    }

    /// Shows another certificate from now on, and ends the connections of now.
    pub fn show(&self, certificate: &Certificate) {
        *self.shared.acceptor() = certificate.acceptor.clone();
        self.cut();
    }

    /// All that has passed so far.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.state().exchanges.clone()
    }

    /// What of it `wanted` picks.
    pub fn requests(&self, wanted: impl Fn(&Request) -> bool) -> Vec<Request> {
        self.state().exchanges.iter().map(|exchange| &exchange.request).filter(|one| wanted(one)).cloned().collect()
    }

    /// From now on requests that `picks` picks are answered like this. The latest rule that fits counts.
    pub fn answer(&self, picks: impl Fn(&Request) -> bool + Send + 'static, fault: Fault) {
        self.rule(picks, fault, None);
    }

    /// The same for the next such request only.
    pub fn answer_once(&self, picks: impl Fn(&Request) -> bool + Send + 'static, fault: Fault) {
        self.rule(picks, fault, Some(1));
    }

    fn rule(&self, picks: impl Fn(&Request) -> bool + Send + 'static, fault: Fault, left: Option<usize>) {
        self.state().rules.push(Rule { picks: Box::new(picks), fault, left });
    }

    /// Nobody listens any more, and nobody is connected: the server's process is gone.
    pub fn refuse(&self) {
        let now = self.state().accepted;
        self.shared.lines.send_modify(|lines| {
            lines.refused = true;
            lines.cut_below = now;
        });
        wait_until("the end of listening", || !self.state().listening);
        // Somebody may have been accepted in between.
        self.cut();
    }

    /// Connections are taken, and then nothing passes on any of them: the server's process is stopped, or the network
    /// swallows everything. They go on when it is over.
    pub fn black_hole(&self) {
        self.shared.lines.send_modify(|lines| lines.black_hole = true);
    }

    /// Nothing passes any more on the connections of now, for good, and nobody is told; new ones work: a router that has
    /// forgotten them.
    pub fn half_open(&self) {
        let now = self.state().accepted;
        self.shared.lines.send_modify(|lines| lines.dead_below = now);
    }

    /// Closes the connections of now; new ones work: the server was started again.
    pub fn cut(&self) {
        let now = self.state().accepted;
        self.shared.lines.send_modify(|lines| lines.cut_below = now);
        wait_until("the end of all connections", || self.state().open.range(..now).next().is_none());
    }

    /// Everything works again. What was half-open stays so.
    pub fn heal(&self) {
        self.state().rules.clear();
        self.shared.lines.send_modify(|lines| {
            lines.refused = false;
            lines.black_hole = false;
        });
        wait_until("the proxy's return", || self.state().listening);
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Several sockets may be bound to one port of this process's user.
fn bound(port: u16) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseport(true).expect("SO_REUSEPORT");
    socket.set_reuseaddr(true).expect("SO_REUSEADDR");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port))).expect("bind");
    socket
}

async fn listen(shared: Arc<Shared>) {
    let mut lines = shared.lines.subscribe();
    loop {
        let _ = lines.wait_for(|lines| !lines.refused).await;
        let listener = bound(shared.port).listen(1024).expect("listen");
        shared.state().listening = true;
        tokio::select! {
            () = accept(&shared, &listener) => {}
            _ = lines.wait_for(|lines| lines.refused) => {}
        }
        drop(listener);
        shared.state().listening = false;
    }
}

async fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let number = {
            let mut state = shared.state();
            let number = state.accepted;
            state.accepted += 1;
            state.open.insert(number);
            number
        };
        let mut connection = Connection { shared: shared.clone(), number, lines: shared.lines.subscribe() };
        tokio::spawn(async move {
            let mut lines = connection.lines.clone();
            tokio::select! {
                // How a connection ends is seen by both of its sides.
                _ = connection.serve(socket) => {}
                _ = lines.wait_for(|lines| number < lines.cut_below) => {}
            }
        });
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn acceptor(&self) -> MutexGuard<'_, TlsAcceptor> {
        self.acceptor.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes note of a request; gives its place in the record and how its answer fails.
    fn record(&self, request: Request) -> (usize, Option<Fault>) {
        let mut state = self.state();
        let fits = |rule: &&mut Rule| rule.left != Some(0) && (rule.picks)(&request);
        let fault = state.rules.iter_mut().rev().find(fits).map(|rule| {
            rule.left = rule.left.map(|left| left - 1);
            rule.fault.clone()
        });
        state.exchanges.push(Exchange { request, response: Vec::new(), failed: fault.is_some() });
        (state.exchanges.len() - 1, fault)
    }
}
