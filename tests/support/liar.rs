//! A server that says what no API server says, or nothing, on demand.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value as Json, json};

/// A server that answers each path as a test wants, secrets and all. Its threads end with it.
pub struct Liar {
    pub address: SocketAddr,
    over: Arc<AtomicBool>,
}

/// Status code, content type, body. With [`SILENCE`] nothing is said for as long as the other side waits.
pub type Lie = (u16, &'static str, Vec<u8>);

pub const SILENCE: u16 = 0;

impl Liar {
    pub fn new(answer: impl Fn(&str) -> Lie + Send + Sync + 'static) -> Liar {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("an address");
        let over = Arc::new(AtomicBool::new(false));
        let (answer, ended) = (Arc::new(answer), over.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let answer = answer.clone();
                std::thread::spawn(move || {
                    let mut lines = BufReader::new(stream.try_clone().expect("dup")).lines();
                    while let Some(Ok(first)) = lines.next() {
                        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                        let (code, kind, body) = answer(first.split(' ').nth(1).unwrap_or_default());
                        if code == SILENCE {
                            while lines.next().is_some_and(|line| line.is_ok()) {}
                            return;
                        }
                        let head = format!(
                            "HTTP/1.1 {code} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
                            body.len()
                        );
                        let mut stream = &stream;
                        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Liar { address, over }
    }

    pub fn kubeconfig(&self, user: &Json) -> String {
        kubeconfig(&json!({"server": format!("http://{}", self.address)}), user)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = std::net::TcpStream::connect(self.address);
    }
}

/// A kubeconfig with one context.
pub fn kubeconfig(cluster: &Json, user: &Json) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "k", "cluster": cluster}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "users": [{"name": "u", "user": user}],
    })
    .to_string()
}
