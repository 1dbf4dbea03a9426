//! Views that are larger than what is kept of them: the cache's bound, and what a crawl costs.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::support::api::Api;
use crate::support::cluster::{Namespace, namespace};
use crate::support::events::{Watch, Watcher};
use crate::support::kubeconfig::{Context, kubeconfig};
use crate::support::mount::Mount;
use crate::support::proxy::{Exchange, Fault, Proxy};
use crate::support::server::Server;
use crate::support::{run, subdir, succeed, tempdir, wait_until};

/// A namespace whose Secrets are seen through a mount, with a record of the requests.
struct Stage {
    namespace: Namespace,
    api: Api,
    proxy: Proxy,
    dir: tempfile::TempDir,
}

impl Stage {
    fn new() -> Stage {
        let namespace = namespace();
        let api = Api::of(namespace.cluster);
        let proxy = Proxy::start(namespace.cluster);
        Stage { api, proxy, namespace, dir: tempdir() }
    }

    fn secret(&self, name: &str, value: &str) -> serde_json::Value {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "namespace": self.namespace.name}, "stringData": {"k": value},
        })
    }

    /// The view of the namespace.
    fn mount(&self, args: &[&str]) -> Mount {
        self.mount_source(&[args, &[&format!("ns/{}", self.namespace.name)]].concat())
    }

    fn mount_source(&self, args: &[&str]) -> Mount {
        let file = self.dir.path().join("kubeconfig");
        let context: Context = self.proxy.context(&self.namespace.name);
        std::fs::write(&file, kubeconfig(&[context])).expect("write");
        Mount::with(args, &subdir(self.dir.path(), "mnt"), |command| {
            command.env("KUBECONFIG", &file);
        })
    }

    /// Requests for values so far.
    fn values_asked(&self) -> usize {
        let requests = self.requests();
        ["get", "list of values"].iter().filter_map(|what| requests.get(what)).sum()
    }

    /// Requests so far, by what they are: `list`, `list of values`, `watch` and `get`.
    fn requests(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for request in self.proxy.requests(|_| true) {
            let values = !request.header("accept").is_some_and(|accept| accept.contains("PartialObjectMetadata"));
            let what = match (request.is_watch(), request.path().ends_with("/secrets"), values) {
                (true, ..) => "watch",
                (_, true, true) => "list of values",
                (_, true, false) => "list",
                _ => "get",
            };
            *counts.entry(what).or_default() += 1;
        }
        counts
    }
}

/// Has the kernel forget the pages of this file, so that a read of it reaches the daemon.
fn forget_pages(path: &PathBuf) {
    let file = std::fs::File::open(path).expect("open");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("fadvise");
}

#[test]
fn values_are_kept_up_to_the_bound_and_come_back_into_the_same_files() {
    let stage = Stage::new();
    let value = |number: usize| format!("{number:03}").repeat(20_000);
    let name = |number: usize| format!("s{number:02}");
    (0..20).for_each(|number| stage.api.create(&stage.secret(&name(number), &value(number))));
    let mount = stage.mount(&["--cache-size", "500k"]);
    let path = |number: usize| mount.path(&format!("{}/k", name(number)));
    let read = |number: usize| std::fs::read_to_string(path(number)).expect("read");
    let number_of = |number: usize| std::fs::metadata(path(number)).expect("stat").ino();
    assert_eq!(read(0), value(0));
    let first = number_of(0);
    (1..20).for_each(|number| assert_eq!(read(number), value(number)));
    // Pages of a crawl may come above it for a moment.
    wait_until("the bound", || mount.status()["bytes"].as_u64().expect("a number") <= 500_000);
    assert_eq!(mount.status()["objects"], 20);

    // Dropped: the file is as it was, and a read brings the content back.
    let asked = stage.values_asked();
    assert_eq!(std::fs::metadata(path(0)).expect("stat").size(), 60_000);
    assert_eq!(stage.values_asked(), asked);
    let mut watch = Watch::new(&mount.path("s00"));
    forget_pages(&path(0));
    assert_eq!(read(0), value(0));
    assert_eq!((stage.values_asked(), number_of(0)), (asked + 1, first));
    assert_eq!(watch.seen(), [] as [&str; 0], "nothing has changed");
    // Kept: no request.
    forget_pages(&path(0));
    assert_eq!(read(0), value(0));
    assert_eq!(stage.values_asked(), asked + 1);

    // What changes while it is dropped is updated like anything else.
    let mut watch = Watch::new(&mount.path("s01"));
    stage.api.replace(&stage.secret("s01", "new"));
    watch.wait_for("MOVED_TO ..data");
    assert_eq!(std::fs::read_to_string(path(1)).expect("read"), "new");
    // And what goes, goes.
    stage.api.delete(&stage.secret("s02", ""));
    wait_until("the deletion", || {
        std::fs::read(path(2)).is_err_and(|error| error.raw_os_error() == Some(libc::ENOENT))
    });
}

#[test]
fn the_bound_also_holds_for_what_is_reached_by_name() {
    let stage = Stage::new();
    let value = |number: usize| format!("{number:03}").repeat(20_000);
    (0..6).for_each(|number| stage.api.create(&stage.secret(&format!("s{number}"), &value(number))));
    // Neither lists nor watches of Secrets.
    stage.proxy.answer(|request| request.path().ends_with("/secrets"), Fault::status(403));
    let mount = stage.mount_source(&["--poll", "200ms", "--cache-size", "200k"]);
    let path = |number: usize| mount.path(&format!("{}/s{number}/k", stage.namespace.name));
    let read = |number: usize| std::fs::read_to_string(path(number)).expect("read");
    assert_eq!(read(0), value(0));
    let first = std::fs::metadata(path(0)).expect("stat").ino();
    (1..6).for_each(|number| assert_eq!(read(number), value(number)));
    wait_until("the bound", || mount.status()["bytes"].as_u64().expect("a number") <= 200_000);
    // Polling does not bring back what was dropped.
    let gets = || stage.requests()["get"];
    let before = gets();
    wait_until("more polls", || gets() > before + 12);
    assert!(mount.status()["bytes"].as_u64().expect("a number") <= 200_000);
    forget_pages(&path(0));
    assert_eq!((read(0), std::fs::metadata(path(0)).expect("stat").ino()), (value(0), first));
    let mut watch = Watch::new(&mount.path(&format!("{}/s1", stage.namespace.name)));
    stage.api.replace(&stage.secret("s1", "new"));
    watch.wait_for("MOVED_TO ..data");
    assert_eq!(read(1), "new");
}

#[test]
fn a_crawl_is_served_by_pages() {
    let stage = Stage::new();
    let name = |number: usize| format!("s{number:04}");
    (0..1000).for_each(|number| stage.api.create(&stage.secret(&name(number), &format!("value {number}"))));
    let mount = stage.mount(&[]);
    let found = succeed(Command::new("grep").args(["-rh", "value"]).arg(&mount.seen));
    let mut values: Vec<&str> = found.lines().collect();
    values.sort_unstable();
    values.dedup();
    assert_eq!(values.len(), 1000);
    let requests = stage.requests();
    assert!(requests.values().sum::<usize>() <= 10, "{requests:?}");
    assert_eq!((requests.get("list"), requests.get("list of values")), (Some(&1), Some(&2)), "{requests:?}");
    assert_eq!(mount.status()["loaded"], 1000);
    // What came by a page is followed like anything else.
    let mut watch = Watch::new(&mount.path("s0777"));
    stage.api.replace(&stage.secret("s0777", "new"));
    watch.wait_for("MOVED_TO ..data");
    assert_eq!(std::fs::read_to_string(mount.path("s0777/k")).expect("read"), "new");
}

/// Makes so many namespaces with so many Secrets each, and gives what is in these.
fn fill(server: &Server, namespaces: usize, secrets: usize) -> BTreeSet<String> {
    let api = Api::of(server);
    let mut values = BTreeSet::new();
    for namespace in 0..namespaces {
        let namespace = format!("n{namespace:03}");
        succeed(server.kubectl().args(["create", "namespace", &namespace]));
        for secret in 0..secrets {
            let value = format!("value-{namespace}-{secret}");
            api.create(&json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": format!("s{secret:03}"), "namespace": namespace}, "stringData": {"k": value},
            }));
            values.insert(value);
        }
    }
    values
}

/// What secretfs has asked this server's Secrets for, by the server's own log: verb, namespace and name of each request.
fn asked(server: &Server) -> Vec<(String, String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let entries = server.audit(|entry| {
        let ours = text(&entry["userAgent"]).starts_with("secretfs/");
        ours && entry["verb"] != "watch" && entry["objectRef"]["resource"] == "secrets"
    });
    let what = |entry: &serde_json::Value| {
        let object = &entry["objectRef"];
        (text(&entry["verb"]), text(&object["namespace"]), text(&object["name"]))
    };
    entries.iter().map(what).collect()
}

fn grep(dir: &Path) -> BTreeSet<String> {
    let found = succeed(Command::new("grep").args(["-rhao", "value-n[0-9]*-[0-9]*"]).arg(dir));
    found.lines().map(str::to_owned).collect()
}

#[test]
fn a_crawl_of_the_cluster_takes_the_clusters_pages() {
    let server = Server::start();
    let values = fill(&server, 40, 25);
    let dir = tempdir();
    // The values do not fit: what comes in a page must not push out what is read next.
    let mount = Mount::with(&["--cache-size", "2000"], &subdir(dir.path(), "mnt"), |command| {
        command.env("KUBECONFIG", server.kubeconfig());
    });
    assert_eq!(asked(&server).len(), 1, "the names");
    assert_eq!(grep(&mount.seen), values);
    let requests = asked(&server);
    // The names, four GETs and a page in each of two namespaces, and then the cluster: the names before, and 960 objects.
    let gets = requests.iter().filter(|(verb, ..)| verb == "get").count();
    let pages = requests.iter().filter(|(verb, namespace, _)| verb == "list" && !namespace.is_empty()).count();
    let of_cluster = requests.iter().filter(|(verb, namespace, _)| verb == "list" && namespace.is_empty()).count();
    assert_eq!((gets, pages, of_cluster), (8, 2, 4), "{requests:?}");
    assert_eq!(mount.status()["objects"], values.len());
    wait_until("the bound", || mount.status()["bytes"].as_u64().expect("a number") <= 2000);
    // Once more, with no content in the kernel's cache: again by pages.
    for secret in 0..values.len() {
        forget_pages(&mount.path(&format!("n{:03}/s{:03}/k", secret / 25, secret % 25)));
    }
    assert_eq!(grep(&mount.seen), values);
    assert!(asked(&server).len() <= 2 * requests.len(), "{:?}", asked(&server));
}

#[test]
fn who_may_list_namespaces_only_crawls_them_by_a_page_each() {
    let server = Server::start();
    let values = fill(&server, 20, 12);
    for namespace in 0..20 {
        let kubectl = |args: &[&str]| succeed(server.kubectl().args(["-n", &format!("n{namespace:03}")]).args(args));
        kubectl(&["create", "role", "reader", "--verb=get,list,watch", "--resource=secrets"]);
        kubectl(&["create", "rolebinding", "reader", "--role=reader", "--user=user-00"]);
    }
    let cluster = |args: &[&str]| succeed(server.kubectl().args(args));
    cluster(&["create", "clusterrole", "namespaces", "--verb=get,list,watch", "--resource=namespaces"]);
    cluster(&["create", "clusterrolebinding", "namespaces", "--clusterrole=namespaces", "--user=user-00"]);
    let dir = tempdir();
    let file = dir.path().join("kubeconfig");
    let context = Context {
        name: "user-00".into(),
        server: server.url.clone(),
        ca: server.ca(),
        token: "token-user-00".into(),
        namespace: "default".into(),
    };
    std::fs::write(&file, kubeconfig(&[context])).expect("write");
    let mount = Mount::with(&[], &subdir(dir.path(), "mnt"), |command| {
        command.env("KUBECONFIG", &file);
        // Each namespace is a connection, and whoever mounts may have set a low soft limit.
        let few = Rlimit { current: Some(24), ..getrlimit(Resource::Nofile) };
        // SAFETY: setrlimit is async-signal-safe; nothing else happens between fork and exec.
        unsafe { command.pre_exec(move || Ok(setrlimit(Resource::Nofile, few)?)) };
    });
    // grep complains about namespaces that may not be read.
    let mut command = Command::new("grep");
    let found = run(command.args(["-rhao", "value-n[0-9]*-[0-9]*"]).arg(&mount.seen));
    let found: BTreeSet<String> = String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect();
    assert_eq!(found, values);
    let requests = asked(&server);
    let of_values = |(verb, namespace, _): &&(String, String, String)| verb == "get" || namespace.starts_with('n');
    // In each namespace a list of names and a page; in the first two, four GETs before that.
    assert_eq!(requests.iter().filter(of_values).count(), 2 * 20 + 8, "{requests:?}");
}

#[test]
fn who_reads_a_few_objects_gets_no_others() {
    let stage = Stage::new();
    let name = |number: usize| format!("s{number}");
    (0..10).for_each(|number| stage.api.create(&stage.secret(&name(number), "value")));
    let mount = stage.mount(&[]);
    for number in 0..4 {
        assert_eq!(std::fs::read_to_string(mount.path(&format!("s{number}/k"))).expect("read"), "value");
    }
    assert_eq!(mount.status()["loaded"], 4);
    let requests = stage.requests();
    assert_eq!((requests.get("get"), requests.get("list of values")), (Some(&4), None), "{requests:?}");
}

/// Whether this answer says that the version is no longer there, by its status or in a watch's event.
fn is_gone(exchange: &Exchange) -> bool {
    exchange.body().windows(10).any(|text| text == b"\"code\":410")
}

#[test]
fn a_list_of_everything_after_a_410_tells_what_changed_and_nothing_else() {
    let mut server = Server::start();
    let values = fill(&server, 4, 25);
    let dir = tempdir();
    let proxy = Proxy::start(&server);
    let file = dir.path().join("kubeconfig");
    std::fs::write(&file, kubeconfig(&[proxy.context("default")])).expect("write");
    let mount = Mount::with(&["--kinds", "secrets,configmaps"], &subdir(dir.path(), "mnt"), |command| {
        command.env("KUBECONFIG", &file);
    });
    assert_eq!(grep(&mount.seen), values);
    let path = |namespace: usize, secret: usize| mount.path(&format!("n{namespace:03}/secrets/s{secret:03}"));
    let mut watcher = Watcher::new();
    for namespace in 0..4 {
        let parent = mount.path(&format!("n{namespace:03}/secrets"));
        watcher.watch(&format!("n{namespace:03}"), &parent);
        for secret in 0..25 {
            watcher.watch(&format!("n{namespace:03}/s{secret:03}"), &path(namespace, secret));
        }
    }
    let secret = |namespace: usize, secret: usize, value: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "stringData": {"k": value},
            "metadata": {"name": format!("s{secret:03}"), "namespace": format!("n{namespace:03}")},
        })
    };
    // A server that was started again remembers no version from before.
    proxy.refuse();
    let api = Api::of(&server);
    api.replace(&secret(1, 1, "changed"));
    api.delete(&secret(2, 2, ""));
    api.create(&secret(3, 99, "new"));
    server.end();
    server.start_again();
    let before = proxy.exchanges().len();
    proxy.heal();
    let reads = |namespace, number, value: &str| {
        std::fs::read_to_string(path(namespace, number).join("k")).is_ok_and(|now| now == value)
    };
    wait_until("the change", || reads(1, 1, "changed"));
    wait_until("the deletion", || !path(2, 2).exists());
    wait_until("the new one", || reads(3, 99, "new"));
    // What comes later comes after all that the list has caused.
    Api::of(&server).replace(&secret(0, 0, "later"));
    wait_until("the later change", || reads(0, 0, "later"));
    let told: BTreeSet<String> = watcher.take(1).into_iter().map(|event| event.at).collect();
    assert_eq!(told.into_iter().collect::<Vec<_>>(), ["n000/s000", "n001/s001", "n002", "n002/s002", "n003"]);

    let exchanges = proxy.exchanges().split_off(before);
    let watches = exchanges.iter().filter(|one| one.request.is_watch() && is_gone(one));
    let gone: BTreeSet<&str> = watches.map(|one| one.request.path()).collect();
    assert!(gone.contains("/api/v1/secrets"), "a watch was told 410: {gone:?}");
    for what in ["secrets", "configmaps", "namespaces"] {
        // One name is asked for to see whether versions went backwards.
        let lists = exchanges.iter().map(|one| &one.request).filter(|request| {
            let whole = request.query().any(|part| part.starts_with("limit=") && part != "limit=1");
            request.path() == format!("/api/v1/{what}") && !request.is_watch() && whole
        });
        let lists: Vec<&str> = lists.map(|request| request.target.as_str()).collect();
        assert!(lists.len() <= 1, "{lists:?}");
        assert_eq!(lists.len(), usize::from(gone.contains(&*format!("/api/v1/{what}"))), "{what}");
    }
}
