//! A piece of wire before the API server: it forwards bytes as they are, TLS and all, until it is cut or goes dead.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use super::cluster::Cluster;

/// What becomes of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Whole,
    Cut,
    /// Nothing is forwarded any more, and nothing is closed.
    Dead,
}

type Connections = Arc<Mutex<BTreeMap<usize, watch::Sender<Fate>>>>;

/// What has gone through so far.
#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    /// Bytes from the API server, TLS's own included.
    received: AtomicU64,
}

/// All of its connections end when it is dropped.
pub struct Wire {
    pub url: String,
    open: Connections,
    counts: Arc<Counts>,
    _end: oneshot::Sender<()>,
}

impl Wire {
    pub fn to(cluster: &Cluster) -> Wire {
        let upstream: SocketAddr = cluster.url.strip_prefix("https://").expect("https").parse().expect("an address");
        let open = Connections::default();
        let counts = Arc::<Counts>::default();
        let (connections, counting) = (open.clone(), counts.clone());
        let (end, ended) = oneshot::channel::<()>();
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                send.send(listener.local_addr().expect("an address")).expect("the test");
                tokio::select! {
                    _ = ended => {}
                    () = accept(listener, upstream, connections, counting) => {}
                }
            });
        });
        let address = receive.recv().expect("the wire's address");
        Wire { url: format!("https://{address}"), open, counts, _end: end }
    }

    /// How many connections there are.
    pub fn open(&self) -> usize {
        self.open.lock().expect("the wire").len()
    }

    /// How many connections have been made.
    pub fn made(&self) -> usize {
        self.counts.connections.load(Relaxed)
    }

    /// How many bytes have come from the API server.
    pub fn received(&self) -> u64 {
        self.counts.received.load(Relaxed)
    }

    /// Closes the connection that is open for longest.
    pub fn cut_one(&self) {
        let open = self.open.lock().expect("the wire");
        open.values().next().expect("a connection").send_replace(Fate::Cut);
    }

    /// All connections that are open now say nothing any more.
    pub fn deaden(&self) {
        self.open.lock().expect("the wire").values().for_each(|fate| {
            fate.send_replace(Fate::Dead);
        });
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, open: Connections, counts: Arc<Counts>) {
    for number in 0.. {
        let (near, _) = listener.accept().await.expect("a connection");
        counts.connections.fetch_add(1, Relaxed);
        let (fate, told) = watch::channel(Fate::Whole);
        open.lock().expect("the wire").insert(number, fate);
        let (open, counts) = (open.clone(), counts.clone());
        tokio::spawn(async move {
            if let Ok(far) = TcpStream::connect(upstream).await {
                let _ = near.set_nodelay(true);
                let _ = far.set_nodelay(true);
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::select! {
                    () = forward(near_in, far_out, told.clone(), |_| ()) => {}
                    () = forward(far_in, near_out, told, |length| {
                        counts.received.fetch_add(length, Relaxed);
                    }) => {}
                }
            }
            open.lock().expect("the wire").remove(&number);
        });
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut fate: watch::Receiver<Fate>,
    count: impl Fn(u64),
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = tokio::select! {
            _ = fate.wait_for(|fate| *fate == Fate::Cut) => return,
            read = from.read(&mut buffer) => read,
        };
        let Ok(length @ 1..) = read else { return };
        count(length as u64);
        if *fate.borrow() == Fate::Whole && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
