//! Mounts of a real cluster: its objects and updates, the rights and requests they take, and its outages.

mod errors;
mod freshness;
mod many;
mod needed;
mod objects;
mod outage;
mod pods;
mod refusals;
mod renewal;
mod requests;
mod restart;
mod rights;
mod signals;
mod updates;
mod views;

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::cluster::{Cluster, Namespace, namespace};
use crate::support::kubeconfig::{Context, kubeconfig};
use crate::support::mount::Mount;
use crate::support::{secretfs, subdir, tempdir};

/// A directory with a kubeconfig, and mounts of what it leads to.
struct Site {
    dir: tempfile::TempDir,
    kubeconfig: PathBuf,
}

impl Site {
    /// With a kubeconfig of these contexts, the first the current one.
    fn new(contexts: &[Context]) -> Site {
        let dir = tempdir();
        let path = dir.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig(contexts)).expect("write");
        Site { dir, kubeconfig: path }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The program under test, with this kubeconfig, in this directory.
    fn secretfs(&self) -> Command {
        let mut command = secretfs();
        command.env("KUBECONFIG", &self.kubeconfig).current_dir(self.path());
        command
    }

    /// `secretfs mount ARGS ./NAME`
    #[track_caller]
    fn mount_at(&self, name: &str, args: &[&str]) -> Mount {
        let point = subdir(self.path(), name);
        Mount::with(args, &point, |command| {
            command.env("KUBECONFIG", &self.kubeconfig);
        })
    }
}

/// A mount at a site of its own.
struct Mounted {
    mount: Mount,
    site: Site,
}

impl Deref for Mounted {
    type Target = Mount;

    fn deref(&self) -> &Mount {
        &self.mount
    }
}

impl Mounted {
    /// `secretfs mount ARGS DIR` in this context.
    #[track_caller]
    fn new(context: Context, args: &[&str]) -> Mounted {
        let site = Site::new(&[context]);
        let mount = site.mount_at("mnt", args);
        Mounted { mount, site }
    }

    #[track_caller]
    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The content, or the number of the error.
    fn try_read(&self, name: &str) -> Result<String, i32> {
        std::fs::read_to_string(self.path(name)).map_err(|error| error.raw_os_error().expect("an errno"))
    }

    /// The names in a directory, in order.
    #[track_caller]
    fn names(&self, dir: &str) -> Vec<String> {
        names(&self.path(dir))
    }
}

#[track_caller]
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// How often this event has come.
fn count(seen: &[String], event: &str) -> usize {
    seen.iter().filter(|one| *one == event).count()
}

/// A Secret as in a manifest.
fn secret(namespace: &str, name: &str, keys: &[(&str, &str)]) -> Value {
    let keys: serde_json::Map<_, _> = keys.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace}, "stringData": keys,
    })
}

/// The Secrets of a namespace, changed by the admin without a kubectl for each change.
struct Secrets {
    api: Api,
    namespace: String,
}

impl Secrets {
    fn of(cluster: &Cluster, namespace: &str) -> Secrets {
        Secrets { api: Api::of(cluster), namespace: namespace.to_owned() }
    }

    #[track_caller]
    fn create(&self, name: &str, keys: &[(&str, &str)]) {
        self.api.create(&secret(&self.namespace, name, keys));
    }

    /// Replaces all keys.
    #[track_caller]
    fn set(&self, name: &str, keys: &[(&str, &str)]) {
        self.api.replace(&secret(&self.namespace, name, keys));
    }

    #[track_caller]
    fn delete(&self, name: &str) {
        self.api.delete(&secret(&self.namespace, name, &[]));
    }
}

/// A namespace of the test's own, and its Secrets.
fn stage() -> (Namespace, Secrets) {
    let namespace = namespace();
    let secrets = Secrets::of(namespace.cluster, &namespace.name);
    (namespace, secrets)
}
