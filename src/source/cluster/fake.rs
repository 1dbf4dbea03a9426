//! A scripted HTTP server on the loopback, for faults and edges of the protocol that no real API server shows on demand.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use super::config::{ClusterOptions, Environment};
use super::watch::Timing;
use super::{Cluster, Login};
use crate::object::{Kind, Name, Namespace, ObjectId};
use crate::store::Store;

/// A request as the server got it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The header lines, lower-case names.
    pub headers: String,
    /// Of a request that has a Content-Length.
    pub body: String,
    /// How many connections there had been when it came, this one included.
    pub connection: usize,
}

impl Seen {
    pub fn is_watch(&self) -> bool {
        self.target.contains("watch=1")
    }
}

/// One step of an answer.
pub enum Step {
    Send(Vec<u8>),
    Wait(Duration),
    Do(fn()),
    /// Sends chunks of a body as they come, until there will be no more.
    Chunks(UnboundedReceiver<String>),
    /// Says nothing more and keeps the connection.
    Hang,
    Close,
}

pub type Answer = Vec<Step>;

/// See the module's documentation. Dropping it closes everything.
pub struct Fake {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    folder: TempDir,
    // Ends the accepting task, and with it the connections.
    _tasks: JoinSet<()>,
}

impl Fake {
    pub async fn start(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (log, answer) = (seen.clone(), Arc::new(answer));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            for number in 1.. {
                let (socket, _) = listener.accept().await.unwrap();
                let (log, answer) = (log.clone(), answer.clone());
                connections.spawn(async move {
                    let _ = serve(socket, number, &log, &*answer).await;
                });
            }
        });
        Fake { address, seen, folder: tempfile::tempdir().unwrap(), _tasks: tasks }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The requests whose target contains `part`.
    pub fn count(&self, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.target.contains(part)).count()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a kubeconfig for this server whose user is `user`.
    pub fn kubeconfig(&self, user: Json) -> PathBuf {
        self.kubeconfig_of(json!({"server": format!("http://{}", self.address)}), user)
    }

    /// The same for any cluster.
    pub fn kubeconfig_of(&self, cluster: Json, user: Json) -> PathBuf {
        let path = self.path("kubeconfig");
        let json = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": cluster}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me"}}],
            "users": [{"name": "me", "user": user}],
        });
        std::fs::write(&path, json.to_string()).unwrap();
        path
    }

    /// Short deadlines and the usual user.
    pub fn options(&self) -> ClusterOptions {
        self.options_for(self.kubeconfig(json!({"token": TOKEN})))
    }

    pub fn options_for(&self, kubeconfig: PathBuf) -> ClusterOptions {
        ClusterOptions {
            kubeconfig: Some(kubeconfig),
            timeout: Duration::from_millis(800),
            poll: Duration::from_millis(100),
            login: Login::Silent,
            ..ClusterOptions::default()
        }
    }

    pub async fn cluster(&self) -> (Cluster, Arc<Store>) {
        self.cluster_with(&self.options()).await
    }

    /// A source whose watches last a second.
    pub async fn cluster_with(&self, options: &ClusterOptions) -> (Cluster, Arc<Store>) {
        let store = Store::new();
        let timing = Timing { shortest: 1, spread: 0, grace: Duration::from_millis(300) };
        let cluster = Cluster::connect_in(options, &Environment::default(), timing, store.clone()).await;
        (cluster.unwrap(), store)
    }
}

pub const TOKEN: &str = "planted-token";

async fn serve(
    mut socket: TcpStream,
    connection: usize,
    log: &Mutex<Vec<Seen>>,
    answer: &(impl Fn(&Seen) -> Answer + ?Sized),
) -> std::io::Result<()> {
    // Answers are sent in pieces.
    socket.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            if socket.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8(buffer.drain(..end + 4).collect()).unwrap();
        let (first, headers) = head.split_once("\r\n").unwrap();
        let mut words = first.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let length = headers.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        while buffer.len() < length {
            if socket.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let body = String::from_utf8(buffer.drain(..length).collect()).unwrap();
        let seen = Seen { method, target, headers: headers.to_owned(), body, connection };
        log.lock().unwrap().push(seen.clone());
        for step in answer(&seen) {
            match step {
                Step::Send(bytes) => socket.write_all(&bytes).await?,
                Step::Wait(time) => tokio::time::sleep(time).await,
                Step::Do(something) => something(),
                Step::Chunks(mut chunks) => {
                    while let Some(chunk) = chunks.recv().await {
                        socket.write_all(format!("{:x}\r\n{chunk}\r\n", chunk.len()).as_bytes()).await?;
                    }
                    socket.write_all(b"0\r\n\r\n").await?;
                }
                // Until the other side goes away.
                Step::Hang => {
                    let _ = socket.read_buf(&mut buffer).await;
                    return Ok(());
                }
                Step::Close => return Ok(()),
            }
        }
    }
}

/// A complete answer.
pub fn answer(code: u16, content_type: &str, body: &str) -> Answer {
    vec![Step::Send(head(code, content_type, &format!("Content-Length: {}", body.len()))), Step::Send(body.into())]
}

pub fn head(code: u16, content_type: &str, more: &str) -> Vec<u8> {
    format!("HTTP/1.1 {code} Whatever\r\nContent-Type: {content_type}\r\n{more}\r\n\r\n").into_bytes()
}

pub fn ok(json: &Json) -> Answer {
    answer(200, "application/json", &json.to_string())
}

/// The API's `Status` about an object called `name`.
pub fn status(code: u16, reason: &str, name: &str) -> Answer {
    let json = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": format!("{reason}: {name}"), "details": {"name": name, "kind": "secrets"}});
    answer(code, "application/json", &json.to_string())
}

/// The beginning of a watch; its lines follow as chunks.
pub fn watch_head() -> Step {
    Step::Send(head(200, "application/json", "Transfer-Encoding: chunked"))
}

/// A watch that sends `events`, stays open for its second and ends in order.
pub fn watch(events: &[Json]) -> Answer {
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    let first = if lines.is_empty() { Vec::new() } else { format!("{:x}\r\n{lines}\r\n", lines.len()).into_bytes() };
    vec![watch_head(), Step::Send(first), Step::Wait(Duration::from_secs(1)), Step::Send(b"0\r\n\r\n".to_vec())]
}

pub fn event(kind: &str, object: &Json) -> Json {
    json!({"type": kind, "object": object})
}

pub fn bookmark(version: &str) -> Json {
    event("BOOKMARK", &json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"resourceVersion": version}}))
}

/// A Secret in the namespace prod with one key, `value` in base64.
pub fn secret(name: &str, version: &str, value: &str) -> Json {
    json!({"kind": "Secret", "apiVersion": "v1", "metadata": metadata(name, version), "data": {"key": value}})
}

pub fn partial(name: &str, version: &str) -> Json {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata(name, version)})
}

pub fn page(version: &str, next: &str, items: &[Json]) -> Json {
    json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "items": items,
        "metadata": {"resourceVersion": version, "continue": next}})
}

fn metadata(name: &str, version: &str) -> Json {
    json!({"name": name, "namespace": "prod", "uid": format!("uid-{name}"), "resourceVersion": version})
}

/// A pod in the namespace prod on a node.
pub fn pod(name: &str, version: &str, node: &str) -> Json {
    json!({"kind": "Pod", "apiVersion": "v1", "metadata": metadata(name, version), "spec": {"nodeName": node}})
}

pub fn pod_page(version: &str, next: &str, items: &[Json]) -> Json {
    json!({"kind": "PodList", "apiVersion": "v1", "items": items,
        "metadata": {"resourceVersion": version, "continue": next}})
}

pub fn pod_id(name: &str) -> ObjectId {
    ObjectId { kind: Kind::Pod, ..id(name) }
}

pub fn id(name: &str) -> ObjectId {
    ObjectId { namespace: Namespace::new("prod").unwrap(), kind: Kind::Secret, name: Name::new(name).unwrap() }
}

/// Waits until `done` says so, with a deadline that no working program needs.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain: {what}");
}
