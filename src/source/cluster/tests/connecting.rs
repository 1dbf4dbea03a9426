//! The way to the server: TLS, proxies, and what is never written on the way.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::super::fake::*;
use crate::source::Source as _;

/// A server that shows a certificate for `name` and ends the connection. Gives its port and the certificate in PEM.
async fn tls_server(name: &str) -> (u16, String, JoinSet<()>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![cert.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let _ = acceptor.accept(socket).await;
        }
    });
    (port, cert.pem(), tasks)
}

async fn message(fake: &Fake, cluster: Json) -> String {
    let mut options = fake.options_for(fake.kubeconfig_of(cluster, json!({"token": TOKEN})));
    options.timeout = Duration::from_secs(2);
    let (cluster, _) = fake.cluster_with(&options).await;
    cluster.follow(id("web")).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_server_must_prove_who_it_is() {
    let fake = Fake::start(|_| vec![]).await;
    let (port, pem, _server) = tls_server("api.example.com").await;
    let (_, stranger, _) = tls_server("api.example.com").await;
    let cluster = |pem: &str, more: Json| {
        let mut cluster = json!({"server": format!("https://127.0.0.1:{port}"),
            "certificate-authority-data": STANDARD.encode(pem)});
        cluster.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        cluster
    };
    let unknown = message(&fake, cluster(&stranger, json!({"tls-server-name": "api.example.com"}))).await;
    assert!(unknown.contains("TLS failed") && unknown.contains("certificate"), "{unknown}");
    let other_name = message(&fake, cluster(&pem, json!({}))).await;
    assert!(other_name.contains("TLS failed") && other_name.contains("name"), "{other_name}");
    // With both right the handshake succeeds, and it is this server that then closes the connection.
    let proven = message(&fake, cluster(&pem, json!({"tls-server-name": "api.example.com"}))).await;
    assert!(proven.contains("closed before"), "{proven}");
    let unchecked = json!({"server": format!("https://127.0.0.1:{port}"), "insecure-skip-tls-verify": true});
    assert!(message(&fake, unchecked).await.contains("closed before"));
}

#[tokio::test]
async fn a_proxy_of_the_kubeconfig_is_asked_for_a_tunnel() {
    // The proxy and the server behind it are one: after CONNECT the same connection is answered as the server.
    let fake = Fake::start(|seen| match seen.target.as_str() {
        "cluster.example.com:8080" => vec![Step::Send(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())],
        _ if seen.is_watch() => watch(&[]),
        _ => ok(&secret("web", "1", "")),
    })
    .await;
    let proxy = format!("http://user:p%40ss@{}", fake.address);
    let cluster = json!({"server": "http://cluster.example.com:8080", "proxy-url": proxy});
    let options = fake.options_for(fake.kubeconfig_of(cluster, json!({"token": TOKEN})));
    let (cluster, _) = fake.cluster_with(&options).await;
    cluster.follow(id("web")).await.unwrap();
    let tunnel = &fake.seen()[0];
    assert_eq!(tunnel.target, "cluster.example.com:8080");
    assert!(tunnel.headers.contains(&format!("Basic {}", STANDARD.encode("user:p@ss"))), "{}", tunnel.headers);
    assert!(!tunnel.headers.contains(TOKEN), "the token is for the server only");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named() {
    let fake = Fake::start(|_| answer(407, "text/html", "planted")).await;
    let cluster = json!({"server": "https://cluster.example.com", "proxy-url": format!("http://{}", fake.address)});
    let message = message(&fake, cluster).await;
    assert!(message.contains("proxy") && !message.contains("planted"), "{message}");
}

/// All logs of this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn not_even_the_finest_log_shows_a_value_or_a_token() {
    let log = Log::default();
    let writer = log.clone();
    // Not for this thread only: tracing decides for all threads at once whether a line of code is heard.
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    let subscriber = subscriber.with_writer(move || writer.clone()).finish();
    tracing::subscriber::set_global_default(subscriber).expect("only this test listens");
    let value = STANDARD.encode("planted-value");
    let answers = [
        ok(&secret("web", "1", &value)),
        ok(&secret("web", "1", "planted-value!")),
        answer(500, "text/html", "planted-value"),
        status(401, "Unauthorized", "planted-value"),
    ];
    for script in answers {
        let script = Mutex::new(Some(script));
        let fake = Fake::start(move |seen| match seen.is_watch() {
            true => watch(&[event("MODIFIED", &secret("web", "2", "planted-value!"))]),
            false => script.lock().unwrap().take().unwrap_or_else(|| vec![Step::Close]),
        })
        .await;
        let (cluster, _) = fake.cluster().await;
        let _ = cluster.follow(id("web")).await;
        until("some requests", || fake.seen().len() >= 2).await;
    }
    super::sharing::exchange("planted-token", "planted-value").await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("DEBUG secretfs::source::cluster::named: prod/secret/web"), "it is heard at all");
    assert!(log.contains("h2::codec"), "HTTP/2 too");
    for planted in ["planted", &*value] {
        let line = log.lines().find(|line| line.contains(planted));
        assert_eq!(line, None);
    }
}
