//! Fills an API server with Secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::bare::Client;
use crate::report::Report;
use crate::rounds::seconds;
use crate::support::cluster::Cluster;

/// As many as the API server serves without much contention.
const WRITERS: usize = 4;

/// In each value; base64 keeps every three bytes together.
pub const PLANTED: &str = "planted-valu";
pub const PLANTED_BASE64: &[u8] = b"cGxhbnRlZC12YWx1";

/// Namespaces with so many Secrets each.
#[derive(Clone, Copy)]
pub struct Size {
    pub namespaces: usize,
    pub secrets: usize,
}

impl Size {
    pub fn objects(self) -> usize {
        self.namespaces * self.secrets
    }

    pub fn describe(self) -> String {
        format!("{} Secrets in {} namespaces, 3 keys of 100 bytes each", self.objects(), self.namespaces)
    }
}

pub fn namespace(number: usize) -> String {
    format!("load-{number:03}")
}

pub fn secret(number: usize) -> String {
    format!("secret-{number:03}")
}

/// Makes them all, and says how long it took.
pub fn fill(report: &Report, cluster: &Cluster, size: Size) {
    let made = seconds(|| {
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                scope.spawn(move || {
                    let mut api = Client::connect(cluster);
                    (writer..size.namespaces)
                        .step_by(WRITERS)
                        .for_each(|number| make_namespace(&mut api, number, size.secrets));
                });
            }
        });
    });
    report.say(format!("  (made in {made:.0} s by {WRITERS} connections)"));
}

fn make_namespace(api: &mut Client, number: usize, secrets: usize) {
    let namespace = namespace(number);
    let object = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    api.create("/api/v1/namespaces", &object);
    for number in 0..secrets {
        let value = |key: &str| {
            let value = format!("{PLANTED} of {key} in {namespace}/{number:03} ");
            (key.to_owned(), STANDARD.encode(format!("{value:.<100}")).into())
        };
        let data: serde_json::Map<_, _> = ["username", "password", "url"].map(value).into_iter().collect();
        let object = serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret(number)}, "data": data
        });
        api.create(&format!("/api/v1/namespaces/{namespace}/secrets"), &object);
    }
}
