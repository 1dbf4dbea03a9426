//! What is asked of the API server and what it sends: seen on the wire, because its audit log does not show whether a
//! list had values in it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Barrier;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::{Mounted, Secrets, Site, names, stage};
use crate::support::cluster::Namespace;
use crate::support::events::Watch;
use crate::support::proxy::{Exchange, Proxy};
use crate::support::succeed;

/// A namespace of which everything goes through a proxy.
fn recorded() -> (Namespace, Secrets, Proxy) {
    let (namespace, secrets) = stage();
    let proxy = Proxy::start(namespace.cluster);
    (namespace, secrets, proxy)
}

/// Values that occur nowhere else, with their place in the view of the namespace.
fn plant(namespace: &Namespace, secrets: &Secrets) -> BTreeMap<&'static str, String> {
    let names = ["one", "two", "three"];
    let planted = names.map(|name| (name, format!("planted-{name}-in-{}", namespace.name)));
    for (name, value) in &planted {
        secrets.create(name, &[("k", value)]);
    }
    planted.into()
}

/// No answer so far had one of the values in it, as it is or in base64.
#[track_caller]
fn assert_none_received<'v>(proxy: &Proxy, values: impl IntoIterator<Item = &'v String>) {
    let exchanges = proxy.exchanges();
    for value in values {
        for form in [value.clone(), BASE64_STANDARD.encode(value)] {
            if let Some(exchange) = exchanges.iter().find(|exchange| holds(exchange, &form)) {
                panic!("{value:?} came with {} {}", exchange.request.method, exchange.request.target);
            }
        }
    }
}

fn holds(exchange: &Exchange, text: &str) -> bool {
    exchange.body().windows(text.len()).any(|window| window == text.as_bytes())
}

/// Only metadata was asked for, and nothing that could be served instead of it.
#[track_caller]
fn assert_metadata_only(proxy: &Proxy) {
    for request in proxy.requests(|_| true) {
        let accept = request.header("accept").expect("an Accept header");
        let form = if request.is_watch() { "PartialObjectMetadata" } else { "PartialObjectMetadataList" };
        assert_eq!(accept, format!("application/json;as={form};g=meta.k8s.io;v=v1"), "{}", request.target);
        assert_eq!(request.method, "GET", "{}", request.target);
    }
}

fn gets(proxy: &Proxy, namespace: &str, secret: &str) -> usize {
    let (namespace, secret) = (namespace.to_owned(), secret.to_owned());
    proxy.requests(move |request| request.is_get_of(&namespace, &secret)).len()
}

/// `ls -lR` of names: every directory down to the objects' own, each entry with its attributes, nothing inside objects.
fn list_names(dir: &Path, levels: u32) {
    for name in names(dir) {
        let path = dir.join(name);
        assert_ne!(std::fs::symlink_metadata(&path).expect("lstat").mode(), 0);
        if levels > 1 {
            list_names(&path, levels - 1);
        }
    }
}

#[test]
fn the_recorder_finds_a_value_that_was_sent() {
    let (namespace, secrets, proxy) = recorded();
    let planted = plant(&namespace, &secrets);
    let site = Site::new(&[proxy.context(&namespace.name)]);
    succeed(site.secretfs().args(["cat", "secret/one"]));
    let exchanges = proxy.exchanges();
    let found = |value: &str| exchanges.iter().any(|exchange| holds(exchange, &BASE64_STANDARD.encode(value)));
    assert!(found(&planted["one"]) && !found(&planted["two"]));
}

#[test]
fn names_in_a_clusters_view_bring_no_value_and_the_first_read_costs_one_request() {
    let (namespace, secrets, proxy) = recorded();
    let planted = plant(&namespace, &secrets);
    let view = Mounted::new(proxy.context(&namespace.name), &[]);
    list_names(&view.seen, 2);
    let ns = namespace.name.as_str();
    assert_eq!(view.names(ns), ["one", "three", "two"]);

    // Changes of what nobody has read bring no value either.
    let mut dir = Watch::new(&view.path(ns));
    let changed = format!("{}, changed", planted["two"]);
    secrets.set("two", &[("k", &changed)]);
    secrets.create("last", &[("k", "v")]);
    dir.wait_for("CREATE|ISDIR last");
    list_names(&view.seen, 2);
    assert_none_received(&proxy, planted.values().chain([&changed]));
    assert_metadata_only(&proxy);
    assert_eq!(proxy.requests(|request| !request.is_watch()).len(), 2, "one list of namespaces and one of Secrets");

    assert_eq!(view.read(&format!("{ns}/one/k")), planted["one"]);
    assert_eq!(view.read(&format!("{ns}/one/k")), planted["one"]);
    assert_eq!(view.names(&format!("{ns}/one")).len(), 3);
    let got = proxy.requests(|request| request.header("accept") == Some("application/json"));
    let targets: Vec<&str> = got.iter().map(|request| request.target.as_str()).collect();
    assert_eq!(targets, [format!("/api/v1/namespaces/{ns}/secrets/one")]);
    assert_none_received(&proxy, [&planted["two"], &changed, &planted["three"]]);
}

#[test]
fn concurrent_first_readers_cost_one_request() {
    const READERS: usize = 20;
    let (namespace, secrets, proxy) = recorded();
    let planted = plant(&namespace, &secrets);
    let view = Mounted::new(proxy.context(&namespace.name), &[&format!("ns/{}", namespace.name)]);
    let together = Barrier::new(READERS);
    std::thread::scope(|scope| {
        let read = || {
            together.wait();
            view.try_read("one/k")
        };
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(read)).collect();
        for reader in readers {
            assert_eq!(reader.join().expect("a reader"), Ok(planted["one"].clone()));
        }
    });
    assert_eq!(gets(&proxy, &namespace.name, "one"), 1);
    assert_none_received(&proxy, [&planted["two"], &planted["three"]]);
}

#[test]
fn a_name_that_does_not_exist_or_cannot_exist_costs_no_request() {
    let (namespace, secrets, proxy) = recorded();
    plant(&namespace, &secrets);
    let view = Mounted::new(proxy.context(&namespace.name), &[]);
    assert_eq!(view.read(&format!("{}/one/k", namespace.name)), format!("planted-one-in-{}", namespace.name));
    let before = proxy.exchanges().len();
    for name in ["nope", "UPPER", "a?watch=true", "a#b", "a%2f..", "..%2f..", " ", "é", "one\n", &"x".repeat(255)] {
        for path in [name.to_owned(), format!("{}/{name}", namespace.name), format!("{}/one/{name}", namespace.name)] {
            assert_eq!(view.try_read(&format!("{path}/k")), Err(libc::ENOENT), "{path:?}");
        }
    }
    assert_eq!(proxy.exchanges().len(), before);
}

#[test]
fn a_named_mount_makes_one_request_and_one_watch() {
    let (namespace, secrets, proxy) = recorded();
    let planted = plant(&namespace, &secrets);
    let mounted = Mounted::new(proxy.context(&namespace.name), &["secret/one"]);
    let mut root = Watch::new(&mounted.seen);
    assert_eq!(mounted.read("k"), planted["one"]);
    secrets.set("one", &[("k", "new")]);
    root.wait_for("MOVED_TO ..data");
    assert_eq!(mounted.read("k"), "new");
    let all = proxy.requests(|_| true);
    let ns = &namespace.name;
    assert_eq!(all.len(), 2, "{all:#?}");
    assert!(all[0].is_get_of(ns, "one"), "{all:#?}");
    assert!(all[1].is_watch() && all[1].selects_name("one"), "{all:#?}");
    assert_none_received(&proxy, [&planted["two"], &planted["three"]]);
}

#[test]
fn tree_and_ls_of_a_namespace_receive_no_value() {
    let (namespace, secrets, proxy) = recorded();
    let planted = plant(&namespace, &secrets);
    let site = Site::new(&[proxy.context(&namespace.name)]);
    let of_ns = format!("ns/{}", namespace.name);
    for args in [&["tree", &of_ns][..], &["tree"], &["ls", &of_ns], &["ls"]] {
        succeed(site.secretfs().args(args));
    }
    assert_none_received(&proxy, planted.values());
    assert_metadata_only(&proxy);
}
