//! A list of everything because the watch cannot go on: the API server was away and no longer has the version (410).

use std::collections::BTreeMap;
use std::time::Instant;

use super::fill::{self, Size, fill};
use super::{grep_all, mount};
use crate::bare::Client;
use crate::process::resident_bytes;
use crate::report::{Report, Unit};
use crate::support::events::Watcher;
use crate::support::kubeconfig::kubeconfig;
use crate::support::proxy::Proxy;
use crate::support::server::Server;
use crate::support::{subdir, tempdir, wait_until};

const SIZE: Size = Size { namespaces: 100, secrets: 100 };

pub fn run(report: &mut Report) {
    report.part("relist", &format!("{}, all read, when the API server answers 410", SIZE.describe()));
    let mut server = Server::start();
    fill(report, &server, SIZE);
    let dir = tempdir();
    let proxy = Proxy::start(&server);
    let through_proxy = dir.path().join("kubeconfig");
    std::fs::write(&through_proxy, kubeconfig(&[proxy.context("default")])).expect("write");
    let mount = mount(&subdir(dir.path(), "k8s"), &through_proxy);
    grep_all(&mount.dir);
    let path = |namespace: usize, secret: usize| mount.dir.join(fill::namespace(namespace)).join(fill::secret(secret));
    let mut watcher = Watcher::new();
    for number in 0..SIZE.objects() {
        let path = path(number / SIZE.secrets, number % SIZE.secrets);
        watcher.watch(&path.to_string_lossy(), &path);
    }
    let resident = resident_bytes(mount.pid());
    // What happens while nobody can tell us is not in the memory of the server that comes back.
    proxy.refuse();
    let set = |secret: usize, value: &str| {
        Client::connect(&server).set(&fill::namespace(42), &fill::secret(secret), "url", value);
    };
    set(1, "changed meanwhile");
    server.end();
    server.start_again();
    let before = proxy.exchanges().len();
    proxy.heal();
    let back = Instant::now();
    let shown = |secret: usize, value: &str| {
        std::fs::read_to_string(path(42, secret).join("url")).is_ok_and(|now| now == value)
    };
    wait_until("the change", || shown(1, "changed meanwhile"));
    report.alone(Unit::Seconds, "server back to change seen", back.elapsed().as_secs_f64(), None);
    // A later change has come: what came of the list has come before it.
    Client::connect(&server).set(&fill::namespace(42), &fill::secret(2), "url", "changed later");
    wait_until("the later change", || shown(2, "changed later"));
    let mut events: BTreeMap<String, usize> = BTreeMap::new();
    watcher.take(12).into_iter().for_each(|event| *events.entry(event.at).or_default() += 1);
    let changed = [1, 2].map(|secret| events.remove(&*path(42, secret).to_string_lossy()).unwrap_or_default());
    assert!(changed.iter().all(|events| *events > 0), "the changes were announced");
    report.exactly("events at Secrets that did not change", events.values().sum::<usize>() as u64, 0);
    let exchanges = proxy.exchanges();
    let after = &exchanges[before..];
    let is_410 = |body: &[u8]| body.windows(10).any(|text| text == b"\"code\":410");
    report.exactly("watches that could not go on", after.iter().filter(|one| is_410(&one.body())).count() as u64, 2);
    let begins = |path: &str| {
        let lists = after.iter().map(|one| &one.request).filter(|request| {
            let part = |name: &str| request.query().any(|part| part.starts_with(name));
            request.path() == path && !request.is_watch() && !part("continue=") && !part("limit=1") || part("limit=10")
        });
        lists.count() as u64
    };
    report.exactly("lists of Secrets begun", begins("/api/v1/secrets"), 1);
    report.exactly("lists of namespaces begun", begins("/api/v1/namespaces"), 1);
    report.alone(Unit::Bytes, "resident before", resident, None);
    report.alone(Unit::Bytes, "resident after", resident_bytes(mount.pid()), None);
}
