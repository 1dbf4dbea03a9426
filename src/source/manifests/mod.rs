//! Manifests as a source: files, directories and standard input, read exactly as kubectl reads them and followed as they
//! change.
//!
//! The way of a byte: [`input`] reads files, [`text`] decodes them, [`documents`] takes them apart, [`json`] and [`yaml`]
//! read each document into a [`node`], [`decode`] finds the objects in it. [`file`] and [`files`] remember what counts
//! while something is bad or away, [`known`] tells the store what changed, and [`watch`] says when to look again.
//!
//! Where this reads other than kubectl v1.37 (found by comparing some hundred thousand documents):
//! - one bad document does not end its file, and lists in lists are taken apart (kubectl gives up at both);
//! - lines of nothing but white space may hold tabs, and so may the end of a tag; kubectl refuses some of these;
//! - refused here, though kubectl takes it: lines indented by tabs within brackets of a YAML document, an alias as a key
//!   without a space before its colon (`*a:`), a comment that is indented right below an empty block scalar, and U+2028
//!   or U+2029 outside of quotes or beside white space.

mod base64;
mod decode;
mod documents;
mod error;
mod file;
mod files;
mod inotify;
mod input;
mod json;
mod known;
#[cfg(test)]
mod live_tests;
mod metadata;
mod node;
mod plan;
mod scalar;
mod strict;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod text;
mod watch;
mod yaml;

pub use error::{Label, Malformed, ManifestError, Refused, Unreadable};
pub use input::Input;

use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use futures_util::future::BoxFuture;

use self::files::Files;
use self::known::Known;
use super::{Knowledge, Scope, Set, Source};
use crate::object::selector::Selector;
use crate::object::{Namespace, Object, ObjectId};
use crate::store::{Refusal, Store};

/// The manifests that a user named, all in memory.
pub struct Manifests {
    shared: Arc<Shared>,
    /// Ends the task of [`Manifests::watch`] when dropped.
    stop: tokio::sync::watch::Sender<()>,
}

/// What the task and the source share. Lock order: files, known, then the store's own lock.
struct Shared {
    /// Locked while files are read.
    files: Mutex<Files>,
    /// Locked for a moment only.
    known: Mutex<Known>,
    store: Arc<Store>,
    described: String,
    watched: (Vec<PathBuf>, Vec<PathBuf>),
}

impl Manifests {
    /// Reads all inputs; a bad one is an error, and so is each bad document. Objects that name no namespace are in
    /// `namespace`. Nothing is put into the store before somebody asks for it.
    pub fn open(inputs: Vec<Input>, namespace: Namespace, store: Arc<Store>) -> Result<Self, ManifestError> {
        let files = Files::open(inputs, namespace)?;
        let mut known = Known::default();
        known.update(files.total(), &store);
        let (described, watched) = (files.describe(), files.watched());
        let shared = Shared { files: files.into(), known: known.into(), store, described, watched };
        let (stop, _) = tokio::sync::watch::channel(());
        Ok(Manifests { shared: Arc::new(shared), stop })
    }

    /// Keeps everything current until the source is dropped. To be spawned on a tokio runtime with I/O and time, by those
    /// who show the manifests for longer than a moment.
    pub fn watch(&self) -> impl Future<Output = ()> + Send + 'static {
        self.watch_with(watch::Notice::new)
    }

    fn watch_with(&self, notice: fn() -> watch::Notice) -> impl Future<Output = ()> + Send + 'static {
        let (shared, stop) = (self.shared.clone(), self.stop.subscribe());
        async move { watch::run(shared, stop, notice()).await }
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Each change of what is known is complete when the lock is released, even by a panic in a test.
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Looks at all files again. Returns when to do so next although nothing was announced.
    fn refresh(&self, now: Instant) -> Option<Instant> {
        let mut files = self.files.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let before: Vec<ManifestError> = files.errors().cloned().collect();
        let next = files.refresh(now);
        report(&before, files.errors());
        self.known().update(files.total(), &self.store);
        next
    }

    /// The files and the directories that are followed.
    fn watched(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        self.watched.clone()
    }
}

/// Warns once for each file that has become bad in a new way.
fn report<'a>(before: &[ManifestError], now: impl Iterator<Item = &'a ManifestError>) {
    let mut bad_files = BTreeSet::new();
    for error in now {
        if bad_files.insert(error.file()) && !before.contains(error) {
            tracing::warn!("{error}; until then its last good content stays");
        }
    }
    let good_again: BTreeSet<_> =
        before.iter().map(ManifestError::file).filter(|file| !bad_files.contains(file)).collect();
    good_again.into_iter().for_each(|file| tracing::info!("{file}: all documents are good again"));
}

impl Manifests {
    fn selector(&self, typed: Option<&str>) -> Result<Selector, Refusal> {
        let parsed = typed.map_or_else(|| Ok(Selector::default()), Selector::parse);
        parsed.map_err(|error| Refusal::Unavailable { what: self.describe(), why: error.to_string() })
    }
}

impl Source for Manifests {
    fn list(&self, scope: Scope) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async move {
            let selector = self.selector(scope.selector.as_deref())?;
            self.shared.known().list(scope, selector, &self.shared.store);
            Ok(())
        })
    }

    fn follow(&self, id: ObjectId) -> BoxFuture<'_, Result<Arc<Object>, Refusal>> {
        Box::pin(async move {
            let found = self.shared.known().follow(&id, &self.shared.store);
            found.ok_or_else(|| Refusal::NotFound { what: format!("{id} in {}", self.shared.described) })
        })
    }

    fn gather(&self, set: Set) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async move {
            let selector = match &set {
                Set::PodsOf { selector, .. } => self.selector(selector.as_deref())?,
                Set::TrustBundles => Selector::default(),
            };
            self.shared.known().gather(set, selector, &self.shared.store);
            Ok(())
        })
    }

    fn knowledge(&self) -> Knowledge {
        Knowledge { lists: Vec::new(), objects: self.shared.known().freshness() }
    }

    fn describe(&self) -> String {
        format!("manifests {}", self.shared.described)
    }
}
