//! A manifest file of the test's own and a mount of it.

use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::mount::{Mount, Way};
use super::{subdir, tempdir};

/// A mounted manifest.
pub struct Playground {
    // Ended before its directory is removed: fields go in their order.
    pub mount: Mount,
    pub dir: tempfile::TempDir,
}

/// The keys of an object with their values.
pub type Keys<'a> = &'a [(&'a str, &'a [u8])];

/// The manifest of a Secret in the namespace `default`.
pub fn secret(name: &str, keys: &[(&str, impl AsRef<[u8]>)]) -> String {
    document("default", name, "Opaque", keys)
}

/// The same of some type.
pub fn typed_secret(of_type: &str, name: &str, keys: &[(&str, impl AsRef<[u8]>)]) -> String {
    document("default", name, of_type, keys)
}

/// Namespace, name and keys of a Secret.
pub type Named<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

/// The manifest of several Secrets, each with its namespace.
pub fn secrets(all: &[Named<'_>]) -> String {
    let documents = all.iter().map(|(namespace, name, keys)| document(namespace, name, "Opaque", keys));
    documents.collect::<Vec<_>>().join("\n---\n")
}

fn document(namespace: &str, name: &str, of_type: &str, keys: &[(&str, impl AsRef<[u8]>)]) -> String {
    let data = keys.iter().map(|(key, value)| ((*key).to_owned(), BASE64_STANDARD.encode(value).into()));
    let data: serde_json::Map<String, serde_json::Value> = data.collect();
    let metadata = serde_json::json!({"name": name, "namespace": namespace});
    serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": of_type, "data": data})
        .to_string()
}

impl Playground {
    /// Mounts what `args` name of a manifest with this content.
    #[track_caller]
    pub fn new(way: Way, content: &str, args: &[&str]) -> Playground {
        let dir = tempdir();
        let file = dir.path().join("secrets.yaml");
        std::fs::write(&file, content).expect("write");
        let point = subdir(dir.path(), "mnt");
        let file = file.to_str().expect("UTF-8").to_owned();
        let all: Vec<&str> = ["-f", &file].into_iter().chain(args.iter().copied()).collect();
        let mount = Mount::by(way, &all, &point);
        Playground { mount, dir }
    }

    /// Replaces the manifest as editors and kubectl do: all at once.
    pub fn rewrite(&self, content: &str) {
        let new = self.dir.path().join("new");
        std::fs::write(&new, content).expect("write");
        std::fs::rename(new, self.dir.path().join("secrets.yaml")).expect("rename");
    }

    /// Runs `work` as the user who mounted.
    pub fn does<T: Send>(&self, work: impl FnOnce(&Mount) -> T + Send) -> T {
        let mount = &self.mount;
        mount.user.does(|| work(mount))
    }

    /// The content of a file, as the user who mounted reads it.
    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        self.does(|mount| std::fs::read_to_string(mount.path(name)).expect(name))
    }

    /// A path in the mount.
    pub fn path(&self, name: &str) -> PathBuf {
        self.mount.path(name)
    }

    /// A directory beside the mount.
    pub fn mkdir(&self, name: &str) -> PathBuf {
        subdir(self.dir.path(), name)
    }
}
