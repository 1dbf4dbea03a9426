//! A recording proxy: sees what secretfs receives from the API server, decrypted, and counts a planted text in it.
//!
//! The API server's audit log cannot tell a list of names from a list of values; this can. Nothing is timed through it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::api::client_config;
use crate::support::cluster::Cluster;
use crate::support::succeed;

/// A running proxy; it ends with the process.
pub struct Proxy {
    url: String,
    certificate: String,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    bytes: AtomicU64,
    planted: AtomicU64,
}

impl Proxy {
    /// Starts a proxy before `cluster` that looks for `planted` in all that the API server answers.
    pub fn start(cluster: &Cluster, planted: &'static [u8]) -> Self {
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![own.cert.der().clone()], key);
        let acceptor = TlsAcceptor::from(Arc::new(config.expect("a server's TLS settings")));
        let connector = TlsConnector::from(client_config(cluster));
        let upstream = cluster.url.strip_prefix("https://").expect("an https address").to_owned();
        let seen = Arc::new(Seen::default());
        let (send, receive) = channel();
        let counts = seen.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                send.send(listener.local_addr().expect("an address")).expect("somebody waits");
                loop {
                    let (client, _) = listener.accept().await.expect("a connection");
                    let (acceptor, connector) = (acceptor.clone(), connector.clone());
                    let server = TcpStream::connect(upstream.clone()).await.expect("the API server");
                    let counts = counts.clone();
                    tokio::spawn(async move {
                        let name = ServerName::try_from("127.0.0.1").expect("an address");
                        let client = acceptor.accept(client).await.expect("a TLS client");
                        let server = connector.connect(name, server).await.expect("a TLS server");
                        let (from_client, to_client) = tokio::io::split(client);
                        let (from_server, to_server) = tokio::io::split(server);
                        tokio::spawn(pass(from_client, to_server, None));
                        pass(from_server, to_client, Some((&counts, planted))).await;
                    });
                }
            });
        });
        let address = receive.recv().expect("the proxy's address");
        Proxy { url: format!("https://{address}"), certificate: own.cert.pem(), seen }
    }

    /// A kubeconfig of the admin's that leads through the proxy.
    pub fn kubeconfig(&self, cluster: &Cluster, dir: &Path) -> PathBuf {
        let text = succeed(cluster.kubectl().args(["config", "view", "--raw", "-o", "json"]));
        let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        config["clusters"][0]["cluster"] =
            serde_json::json!({"server": self.url, "certificate-authority-data": STANDARD.encode(&self.certificate)});
        let path = dir.join("proxied.kubeconfig");
        std::fs::write(&path, config.to_string()).expect("write");
        path
    }

    /// How many bytes of answers have come by, heads included.
    pub fn bytes(&self) -> u64 {
        self.seen.bytes.load(Ordering::Relaxed)
    }

    /// How often the planted text was in them.
    pub fn planted(&self) -> u64 {
        self.seen.planted.load(Ordering::Relaxed)
    }
}

/// Passes all bytes on until one side ends.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    search: Option<(&Seen, &'static [u8])>,
) {
    let mut buffer = vec![0; 64 << 10];
    // What may be the beginning of a planted text that goes on in the next piece.
    let mut window: Vec<u8> = Vec::new();
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if let Some((seen, planted)) = search {
            seen.bytes.fetch_add(read as u64, Ordering::Relaxed);
            window.extend_from_slice(&buffer[..read]);
            let found = window.windows(planted.len()).filter(|piece| piece == &planted).count();
            seen.planted.fetch_add(found as u64, Ordering::Relaxed);
            window.drain(..window.len().saturating_sub(planted.len() - 1));
        }
        if to.write_all(&buffer[..read]).await.is_err() || to.flush().await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
