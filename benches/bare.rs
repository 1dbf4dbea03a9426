//! A bare HTTPS client on one warm connection: what it costs to ask the API server with nothing in between.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::PATIENCE;
use crate::support::cluster::Cluster;

/// One connection. It is synchronous: a request is written, its answer read, and nothing else happens.
pub struct Client {
    tls: StreamOwned<ClientConnection, TcpStream>,
    host: String,
    token: String,
    /// What has been read and not been used.
    rest: Vec<u8>,
}

/// How a body's end is found.
enum Framing {
    Length(usize),
    Chunked,
}

pub const JSON: &str = "application/json";
pub const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// What is sent with a request.
struct Sent<'a> {
    accept: &'a str,
    content: &'a str,
    body: &'a str,
}

const NOTHING: Sent<'_> = Sent { accept: JSON, content: JSON, body: "" };

impl Client {
    /// As the admin.
    pub fn connect(cluster: &Cluster) -> Self {
        Self::at(&cluster.url, cluster, cluster.token())
    }

    /// As the owner of the token, at an address that leads to the cluster.
    pub fn at(url: &str, cluster: &Cluster, token: String) -> Self {
        let host = url.strip_prefix("https://").expect("an https address").to_owned();
        let stream = TcpStream::connect(&host).expect("connect to the API server");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        let connection = ClientConnection::new(client_config(cluster), name).expect("TLS");
        Client { tls: StreamOwned::new(connection, stream), host, token, rest: Vec::new() }
    }

    pub fn get(&mut self, path: &str) -> Vec<u8> {
        self.ask("GET", path, &NOTHING)
    }

    pub fn create(&mut self, path: &str, object: &serde_json::Value) {
        self.ask("POST", path, &Sent { body: &object.to_string(), ..NOTHING });
    }

    /// Sets the only key of a Secret.
    pub fn set(&mut self, namespace: &str, secret: &str, key: &str, value: &str) {
        let body = serde_json::json!({"data": {key: STANDARD.encode(value)}}).to_string();
        let sent = Sent { content: "application/merge-patch+json", body: &body, ..NOTHING };
        self.ask("PATCH", &secret_path(namespace, secret), &sent);
    }

    /// Makes a Secret with one key.
    pub fn create_secret(&mut self, namespace: &str, name: &str, key: &str, value: &str) {
        let object = serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {key: STANDARD.encode(value)}
        });
        self.create(&format!("/api/v1/namespaces/{namespace}/secrets"), &object);
    }

    /// All pages of a list of `page` objects each, not parsed beyond the continue token. Returns the number of requests and of bytes.
    pub fn list_all(&mut self, path: &str, page: usize, accept: &str) -> (usize, usize) {
        let (mut requests, mut bytes, mut next) = (0, 0, String::new());
        loop {
            let path = format!("{path}?limit={page}&continue={next}");
            let body = self.ask("GET", &path, &Sent { accept, ..NOTHING });
            requests += 1;
            bytes += body.len();
            match continue_token(&body) {
                Some(token) => next = token,
                None => return (requests, bytes),
            }
        }
    }

    fn ask(&mut self, method: &str, path: &str, sent: &Sent<'_>) -> Vec<u8> {
        match self.begin(method, path, sent) {
            Framing::Length(length) => self.take(length),
            Framing::Chunked => {
                let mut whole = Vec::new();
                while let Some(chunk) = self.chunk() {
                    whole.extend(chunk);
                }
                whole
            }
        }
    }

    /// Sends a request and reads the head of its answer, which must be a success.
    fn begin(&mut self, method: &str, path: &str, sent: &Sent<'_>) -> Framing {
        let Sent { accept, content, body } = sent;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nAccept: {accept}\r\n\
             User-Agent: bare\r\nContent-Type: {content}\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            self.token,
            body.len()
        );
        self.tls.write_all(request.as_bytes()).expect("send a request");
        self.tls.flush().expect("send a request");
        let end = loop {
            if let Some(at) = find(&self.rest, b"\r\n\r\n") {
                break at + 4;
            }
            self.more();
        };
        let head = String::from_utf8(self.take(end)).expect("an HTTP head").to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap_or_default();
        assert!(status.starts_with('2'), "{method} {path}: {head}");
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        match header("content-length:") {
            Some(length) => Framing::Length(length.parse().expect("a length")),
            None => {
                assert_eq!(header("transfer-encoding:"), Some("chunked"), "{head}");
                Framing::Chunked
            }
        }
    }

    /// The next chunk of a chunked body; `None` is its end.
    fn chunk(&mut self) -> Option<Vec<u8>> {
        let end = loop {
            if let Some(at) = find(&self.rest, b"\r\n") {
                break at;
            }
            self.more();
        };
        let line = String::from_utf8(self.take(end + 2)).expect("a chunk's length");
        let length = usize::from_str_radix(line.trim(), 16).expect("a chunk's length");
        let mut chunk = self.take(length + 2);
        chunk.truncate(length);
        (length > 0).then_some(chunk)
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        while self.rest.len() < length {
            self.more();
        }
        let left = self.rest.split_off(length);
        std::mem::replace(&mut self.rest, left)
    }

    fn more(&mut self) {
        // The longest TLS record.
        let mut buffer = [0; 16 << 10];
        let read = self.tls.read(&mut buffer).expect("read an answer");
        assert!(read > 0, "the API server closed the connection");
        self.rest.extend_from_slice(&buffer[..read]);
    }

    /// Watches a path from a version on. Returns when the server has accepted it.
    pub fn watch(mut self, path: &str, version: &str) -> Watch {
        let path = format!("{path}{}watch=1&resourceVersion={version}", if path.contains('?') { '&' } else { '?' });
        assert!(matches!(self.begin("GET", &path, &NOTHING), Framing::Chunked), "a watch has no length");
        // It is silent while nothing changes.
        self.tls.sock.set_read_timeout(None).expect("no timeout");
        Watch { client: self, line: Vec::new() }
    }
}

/// The raw events of a watch.
pub struct Watch {
    client: Client,
    line: Vec<u8>,
}

impl Watch {
    /// When the next event was there to the last byte.
    pub fn arrival(&mut self) -> Instant {
        loop {
            if let Some(end) = find(&self.line, b"\n") {
                let at = Instant::now();
                self.line.drain(..=end);
                return at;
            }
            let chunk = self.client.chunk().expect("the watch goes on");
            self.line.extend(chunk);
        }
    }
}

pub fn secret_path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets/{name}")
}

/// The resourceVersion of an object.
pub fn version(object: &[u8]) -> String {
    let object: serde_json::Value = serde_json::from_slice(object).expect("JSON");
    object["metadata"]["resourceVersion"].as_str().expect("a version").to_owned()
}

/// A client's TLS settings: the cluster's own certificate authority.
fn client_config(cluster: &Cluster) -> Arc<ClientConfig> {
    let certificate = CertificateDer::from_pem_slice(cluster.ca().as_bytes()).expect("PEM");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a certificate");
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// The token of the next page, in a list's metadata at the beginning of the body.
fn continue_token(body: &[u8]) -> Option<String> {
    const FIELD: &[u8] = br#""continue":""#;
    let head = &body[..body.len().min(4096)];
    let from = find(head, FIELD)? + FIELD.len();
    let length = find(&head[from..], b"\"")?;
    Some(String::from_utf8_lossy(&head[from..from + length]).into_owned()).filter(|token| !token.is_empty())
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}
