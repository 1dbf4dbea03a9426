//! A proxy between secretfs and the API server: it records what passes, and fails as a test wants it to.
//!
//! It ends TLS with a certificate of its own, speaks TLS to the real server, and forwards HTTP/1.1 as it comes. Faults
//! are of two kinds. *Lines* fail as networks do, whatever is asked: refused, black hole, half-open, cut. *Answers* fail
//! as servers and gateways do, for the requests that a rule picks: other answers, none, late, slow or cut-off ones.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

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

/// What was asked.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub fn is_watch(&self) -> bool {
        self.query().any(|part| matches!(part, "watch=1" | "watch=true"))
    }

    /// Whether it is about the one object of this name in its collection.
    pub fn selects_name(&self, name: &str) -> bool {
        self.query().any(|part| part.strip_prefix("fieldSelector=metadata.name%3D") == Some(name))
    }

    /// The parts of the query.
    pub fn query(&self) -> impl Iterator<Item = &str> {
        self.target.split_once('?').map_or("", |(_, query)| query).split('&')
    }

    /// Whether it asks for one named Secret with its values.
    pub fn is_get_of(&self, namespace: &str, secret: &str) -> bool {
        self.path() == format!("/api/v1/namespaces/{namespace}/secrets/{secret}")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A request and all that was sent back for it so far, head and framing included.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub request: Request,
    pub response: Vec<u8>,
    /// Whether a rule made its answer fail.
    pub failed: bool,
}

impl Exchange {
    /// The status of the answer; `None` while there is none.
    pub fn status(&self) -> Option<u16> {
        let line = self.response.split(|byte| *byte == b'\r').next()?;
        std::str::from_utf8(line).ok()?.split(' ').nth(1)?.parse().ok()
    }

    /// What has come of the body, without chunk sizes between its parts.
    pub fn body(&self) -> Vec<u8> {
        let Some(end) = head_end(&self.response) else { return Vec::new() };
        let head = String::from_utf8_lossy(&self.response[..end]).to_lowercase();
        assert!(!head.contains("content-encoding"), "nothing can be found in a compressed body: {head}");
        let mut raw = &self.response[end..];
        if !head.contains("transfer-encoding: chunked") {
            return raw.to_vec();
        }
        let mut body = Vec::new();
        while let Some(line) = raw.windows(2).position(|two| two == b"\r\n") {
            let size = std::str::from_utf8(&raw[..line]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
            let size = size.expect("a chunk's size");
            let rest = &raw[line + 2..];
            body.extend_from_slice(&rest[..size.min(rest.len())]);
            raw = rest.get(size + 2..).unwrap_or_default();
        }
        body
    }
}

/// How the answer to a request fails.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The server is not asked; this is the answer: status, further header lines, content type, body.
    Answer(u16, String, &'static str, String),
    /// Nothing ever comes back.
    Silence,
    /// The connection is closed instead of an answer.
    Close,
    /// The request is passed on after this time.
    Delay(Duration),
    /// The connection is closed after so many bytes of the body.
    Truncate(usize),
    /// After so many bytes of the body nothing comes any more.
    Stall(usize),
    /// The body comes in pieces of so many bytes, each after a pause.
    Trickle(usize, Duration),
}

impl Fault {
    /// The answer that an API server gives with this status: a `Status` object.
    pub fn status(code: u16) -> Fault {
        Self::status_with(code, "")
    }

    /// The same with `Retry-After`.
    pub fn retry_after(code: u16, seconds: u32) -> Fault {
        Self::status_with(code, &format!("Retry-After: {seconds}\r\n"))
    }

    fn status_with(code: u16, headers: &str) -> Fault {
        let reason = match code {
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            410 => "Expired",
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "Unknown",
        };
        let body = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "the test's proxy said so", "reason": reason, "code": code,
        });
        Fault::Answer(code, headers.to_owned(), "application/json", body.to_string())
    }

    /// What gateways and captive portals say.
    pub fn html(code: u16) -> Fault {
        Fault::Answer(code, String::new(), "text/html", "<html><body>Sorry!</body></html>".into())
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
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    upstream: SocketAddr,
    port: u16,
}

impl Proxy {
    /// A proxy before `cluster`.
    pub fn start(cluster: &Cluster) -> Proxy {
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .expect("a server's TLS");
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
            acceptor: TlsAcceptor::from(Arc::new(server)),
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
            ca: own.cert.pem(),
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

struct Connection {
    shared: Arc<Shared>,
    number: usize,
    lines: watch::Receiver<Lines>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.state().open.remove(&self.number);
    }
}

type Client = server::TlsStream<TcpStream>;
type Upstream = client::TlsStream<TcpStream>;

impl Connection {
    /// Waits until something may pass.
    async fn passable(&mut self) {
        let number = self.number;
        let _ = self.lines.wait_for(|lines| !lines.black_hole && number >= lines.dead_below).await;
    }

    async fn serve(&mut self, socket: TcpStream) -> std::io::Result<()> {
        socket.set_nodelay(true)?;
        self.passable().await;
        let mut client = self.shared.acceptor.clone().accept(socket).await?;
        let mut upstream: Option<Upstream> = None;
        let mut asked = Vec::new();
        let mut answered = vec![0; 64 << 10];
        let mut answer = Answer::default();
        loop {
            self.passable().await;
            tokio::select! {
                count = client.read_buf(&mut asked) => {
                    if count? == 0 {
                        return Ok(());
                    }
                    while let Some((request, length)) = parse(&asked) {
                        let raw: Vec<u8> = asked.drain(..length).collect();
                        let (place, fault) = self.shared.record(request);
                        answer = Answer { place, ..Answer::default() };
                        if !self.meet(fault, &mut answer, &mut client).await? {
                            continue;
                        }
                        let server = match &mut upstream {
                            Some(server) => server,
                            none => none.insert(self.connect().await?),
                        };
                        server.write_all(&raw).await?;
                        server.flush().await?;
                    }
                }
                count = receive(&mut upstream, &mut answered) => {
                    let count = count?;
                    if count == 0 {
                        return Ok(());
                    }
                    self.passable().await;
                    self.pass(&answered[..count], &mut answer, &mut client).await?;
                }
                // Back to the beginning, where it is looked at.
                _ = self.lines.changed() => {}
            }
        }
    }

    /// Says whether the request is to be passed on to the server.
    async fn meet(&self, fault: Option<Fault>, answer: &mut Answer, client: &mut Client) -> std::io::Result<bool> {
        match fault {
            None => return Ok(true),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                return Ok(true);
            }
            Some(Fault::Answer(code, headers, content_type, body)) => {
                let length = body.len();
                let text = format!(
                    "HTTP/1.1 {code} Injected\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
                );
                self.pass(text.as_bytes(), answer, client).await?;
            }
            Some(Fault::Silence) => {}
            Some(Fault::Close) => return Err(std::io::ErrorKind::ConnectionAborted.into()),
            Some(later @ (Fault::Truncate(_) | Fault::Stall(_) | Fault::Trickle(..))) => {
                answer.fault = Some(later);
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn connect(&self) -> std::io::Result<Upstream> {
        let socket = TcpStream::connect(self.shared.upstream).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::from(self.shared.upstream.ip());
        self.shared.connector.clone().connect(name, socket).await
    }

    /// Passes a part of the answer on to the client.
    async fn pass(&self, bytes: &[u8], answer: &mut Answer, client: &mut Client) -> std::io::Result<()> {
        let before_body = answer.before_body(bytes);
        self.send(&bytes[..before_body], answer, client).await?;
        let body = &bytes[before_body..];
        let passed = answer.passed;
        answer.passed += body.len();
        match answer.fault.clone() {
            Some(Fault::Truncate(limit)) => {
                self.send(&body[..body.len().min(limit.saturating_sub(passed))], answer, client).await?;
                if answer.passed >= limit {
                    return Err(std::io::ErrorKind::ConnectionAborted.into());
                }
                Ok(())
            }
            Some(Fault::Stall(limit)) => {
                self.send(&body[..body.len().min(limit.saturating_sub(passed))], answer, client).await
            }
            Some(Fault::Trickle(size, pause)) => {
                for piece in body.chunks(size) {
                    tokio::time::sleep(pause).await;
                    self.send(piece, answer, client).await?;
                }
                Ok(())
            }
            _ => self.send(body, answer, client).await,
        }
    }

    async fn send(&self, bytes: &[u8], answer: &Answer, client: &mut Client) -> std::io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        // Before it is sent: whoever has received something finds it in the record.
        self.shared.state().exchanges[answer.place].response.extend_from_slice(bytes);
        client.write_all(bytes).await?;
        client.flush().await
    }
}

/// The answer that is passing.
#[derive(Default)]
struct Answer {
    place: usize,
    fault: Option<Fault>,
    /// What has come of the head, while it is not complete.
    head: Vec<u8>,
    in_body: bool,
    /// Bytes of the body that have come from the server.
    passed: usize,
}

impl Answer {
    /// How many of the bytes that come now belong to the head.
    fn before_body(&mut self, bytes: &[u8]) -> usize {
        if self.in_body {
            return 0;
        }
        let known = self.head.len();
        self.head.extend_from_slice(bytes);
        match head_end(&self.head) {
            Some(end) => {
                self.in_body = true;
                end - known
            }
            None => bytes.len(),
        }
    }
}

async fn receive(upstream: &mut Option<Upstream>, into: &mut [u8]) -> std::io::Result<usize> {
    match upstream {
        Some(server) => server.read(into).await,
        None => std::future::pending().await,
    }
}

/// Where the head of a message ends.
fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Reads one request; `None` until it is complete. Gives it with its length, body included.
fn parse(bytes: &[u8]) -> Option<(Request, usize)> {
    let end = head_end(bytes)?;
    let head = std::str::from_utf8(&bytes[..end]).expect("a head in ASCII");
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next().expect("a first line").split(' ');
    let mut word = || first.next().unwrap_or_default().to_owned();
    let (method, target) = (word(), word());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let request = Request { method, target, headers };
    assert!(request.header("transfer-encoding").is_none(), "the proxy cannot read chunked requests");
    let body = request.header("content-length").map_or(0, |length| length.parse().expect("a length"));
    (bytes.len() >= end + body).then_some((request, end + body))
}
