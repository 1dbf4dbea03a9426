//! The way to the server through a proxy.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::{Site, VALUE};
use crate::support::{run, said};

/// A proxy that makes tunnels, all of them to the API server, and remembers what for.
struct Tunnels {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Tunnels {
    fn to(server: &str) -> Tunnels {
        let server = server.strip_prefix("https://").expect("https").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = asked.clone();
        // It ends with the test's process; what is connected ends with either side.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (server, log) = (server.clone(), log.clone());
                std::thread::spawn(move || tunnel(stream, &server, &log));
            }
        });
        Tunnels { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("a lock").clone()
    }
}

fn tunnel(mut client: TcpStream, server: &str, log: &Mutex<Vec<String>>) -> Option<()> {
    use std::io::Write;
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    log.lock().expect("a lock").push(head.lines().next()?.to_owned());
    let mut upstream = TcpStream::connect(server).ok()?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let (mut back, mut to_client) = (upstream.try_clone().ok()?, client.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut back, &mut to_client);
        let _ = to_client.shutdown(std::net::Shutdown::Both);
    });
    // What the reader has already taken goes first.
    let _ = std::io::copy(&mut reader, &mut upstream);
    let _ = upstream.shutdown(std::net::Shutdown::Both);
    Some(())
}

#[test]
fn the_way_may_lead_through_a_proxy_of_the_kubeconfig_or_of_the_environment() {
    let site = Site::new();
    let (_, token) = site.user("get");
    let user = json!({"token": token});
    let with = |more: &[(&str, &str)]| {
        let mut cluster = site.server();
        cluster.as_object_mut().expect("an object").extend(more.iter().map(|(k, v)| ((*k).into(), (*v).into())));
        site.config(&cluster, &user)
    };
    let url = &site.namespace.cluster.url;

    let tunnels = Tunnels::to(url);
    let authority = url.strip_prefix("https://").expect("https");
    site.reads(&with(&[("proxy-url", &tunnels.url)]));
    assert_eq!(tunnels.asked(), [format!("CONNECT {authority} HTTP/1.1")]);

    // A name that only the proxy knows.
    let tunnels = Tunnels::to(url);
    let config = with(&[("server", "https://api.cluster.invalid:6443"), ("tls-server-name", "kubernetes")]);
    let read = |variables: &[(&str, &str)]| {
        run(site.cat(&["--kubeconfig", &config, "--timeout", "10s"]).envs(variables.iter().copied()))
    };
    for (at, name) in ["HTTPS_PROXY", "https_proxy"].into_iter().enumerate() {
        let output = read(&[(name, &tunnels.url), ("NO_PROXY", "other.invalid,10.0.0.0/8")]);
        assert_eq!(output.stdout, VALUE.as_bytes(), "{}", said(&output));
        assert_eq!(tunnels.asked().len(), at + 1);
    }
    assert_eq!(tunnels.asked()[0], "CONNECT api.cluster.invalid:6443 HTTP/1.1");
    for except in ["api.cluster.invalid", ".cluster.invalid", "cluster.invalid:6443", "*"] {
        let output = read(&[("HTTPS_PROXY", &tunnels.url), ("NO_PROXY", except)]);
        assert!(output.status.code() == Some(6) && said(&output).contains("cannot be resolved"), "{}", said(&output));
    }
    assert_eq!(tunnels.asked().len(), 2, "NO_PROXY is heeded");
    // And one that is not there.
    let output = read(&[("HTTPS_PROXY", "http://127.0.0.1:1")]);
    assert_eq!(output.status.code(), Some(6), "{}", said(&output));
}
