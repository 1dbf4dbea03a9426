//! Views that are larger than what is kept of them: the cache's bound, and what a crawl costs.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::json;

use crate::support::api::Api;
use crate::support::cluster::{Namespace, namespace};
use crate::support::events::Watch;
use crate::support::kubeconfig::{Context, kubeconfig};
use crate::support::mount::Mount;
use crate::support::proxy::Proxy;
use crate::support::{subdir, tempdir, wait_until};

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

    fn mount(&self, args: &[&str]) -> Mount {
        let file = self.dir.path().join("kubeconfig");
        let context: Context = self.proxy.context(&self.namespace.name);
        std::fs::write(&file, kubeconfig(&[context])).expect("write");
        let source = format!("ns/{}", self.namespace.name);
        Mount::with(&[args, &[&source]].concat(), &subdir(self.dir.path(), "mnt"), |command| {
            command.env("KUBECONFIG", &file);
        })
    }

    fn gets(&self, name: &str) -> usize {
        self.proxy.requests(|request| request.is_get_of(&self.namespace.name, name)).len()
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
    for number in 1..20 {
        assert_eq!(read(number), value(number));
        let status = mount.status();
        assert!(status["bytes"].as_u64().expect("a number") <= 500_000, "{status}");
    }
    assert_eq!(mount.status()["objects"], 20);
    assert_eq!((stage.gets("s00"), stage.gets("s19")), (1, 1));

    // Dropped: the file is as it was, and a read brings the content back.
    assert_eq!(std::fs::metadata(path(0)).expect("stat").size(), 60_000);
    assert_eq!(stage.gets("s00"), 1);
    let mut watch = Watch::new(&mount.path("s00"));
    forget_pages(&path(0));
    assert_eq!(read(0), value(0));
    assert_eq!((stage.gets("s00"), number_of(0)), (2, first));
    assert_eq!(watch.seen(), [] as [&str; 0], "nothing has changed");
    // Kept: no request.
    forget_pages(&path(19));
    assert_eq!(read(19), value(19));
    assert_eq!(stage.gets("s19"), 1);

    // What changes while it is dropped is updated like anything else.
    let mut watch = Watch::new(&mount.path("s01"));
    stage.api.replace(&stage.secret("s01", "new"));
    watch.wait_for("MOVED_TO ..data");
    assert_eq!(std::fs::read_to_string(path(1)).expect("read"), "new");
    assert_eq!(stage.gets("s01"), 2);
    // And what goes, goes.
    stage.api.delete(&stage.secret("s02", ""));
    wait_until("the deletion", || {
        std::fs::read(path(2)).is_err_and(|error| error.raw_os_error() == Some(libc::ENOENT))
    });
}
