//! One file: what it defines, and what of that still counts while the file is bad or away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use zeroize::Zeroizing;

use super::decode::{Decoder, Flaw, Found, MAX_DECODED_BYTES, Manifest};
use super::documents::Documents;
use super::error::{ManifestError, Unreadable};
use super::input::{Content, Look, Stamp, look};
use super::node;
use super::text;
use crate::object::{Namespace, ObjectId};
use crate::source::freshness::{Freshness, State};

/// How long a file may be away or empty before its objects are gone: editors write by way of either.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// What a file defines; of an object that it defines twice the last.
#[derive(Clone, Debug, Default)]
pub(super) struct Defined {
    pub objects: BTreeMap<ObjectId, Arc<Manifest>>,
    pub namespaces: BTreeSet<Namespace>,
    /// The objects of which only the last good content is known, and when that was last seen.
    kept: BTreeMap<ObjectId, SystemTime>,
}

/// The state of one file.
#[derive(Debug)]
pub(super) struct File {
    /// Its name in messages.
    shown: String,
    stamp: Option<Stamp>,
    pub modified: SystemTime,
    pub defined: Defined,
    /// What is wrong with it now.
    pub errors: Vec<ManifestError>,
    /// When it was last looked at and was there.
    looked: SystemTime,
    /// Since when it has been away or empty.
    away: Option<Instant>,
}

/// What has become of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Here,
    /// It is away; look again then.
    AwayUntil(Instant),
    Gone,
}

impl File {
    pub fn new(shown: String) -> Self {
        let (modified, looked, defined) = (SystemTime::UNIX_EPOCH, SystemTime::now(), Defined::default());
        File { shown, stamp: None, modified, defined, errors: Vec::new(), looked, away: None }
    }

    /// How fresh its definition of an object is.
    pub fn freshness(&self, id: &ObjectId) -> Freshness {
        let kept = self.defined.kept.get(id).copied();
        let state = if kept.is_some() || self.away.is_some() { State::Stale } else { State::Live };
        Freshness { state, confirmed: Some(kept.unwrap_or(self.looked)) }
    }

    /// Looks whether the file has changed, and takes over what it says now.
    pub fn refresh(&mut self, path: &std::path::Path, default: &Namespace, now: Instant) -> Fate {
        match look(path, self.stamp) {
            // A directory with the name of a manifest is none; kubectl does not descend either.
            Ok(Look::Missing | Look::Directory) => {
                self.stamp = None;
                self.errors.clear();
                self.is_away(now)
            }
            Ok(Look::Same) if self.away.is_some() => self.is_away(now),
            Ok(Look::Same) => {
                self.looked = SystemTime::now();
                Fate::Here
            }
            Ok(Look::Content(content)) if content.bytes.is_empty() => {
                self.stamp = content.stamp;
                self.errors.clear();
                self.is_away(now)
            }
            Ok(Look::Content(content)) => {
                self.take(content, default);
                Fate::Here
            }
            Err(why) => self.unreadable(why),
        }
    }

    /// Takes over a new content.
    pub fn take(&mut self, content: Content, default: &Namespace) {
        let (last, looked, defined) = (&self.defined, self.looked, Defined::default());
        let mut reading = Reading { shown: &self.shown, last, looked, defined, errors: Vec::new(), lost: false };
        reading.read(content.bytes, default);
        (self.defined, self.errors) = reading.finish();
        self.away = None;
        self.looked = SystemTime::now();
        self.stamp = content.stamp;
        self.modified = content.modified;
    }

    fn unreadable(&mut self, why: Unreadable) -> Fate {
        self.stamp = None;
        self.away = None;
        for id in self.defined.objects.keys() {
            self.defined.kept.entry(id.clone()).or_insert(self.looked);
        }
        self.errors = vec![ManifestError::Unreadable { file: self.shown.clone(), why }];
        Fate::Here
    }

    fn is_away(&mut self, now: Instant) -> Fate {
        let until = *self.away.get_or_insert(now) + GRACE;
        let nothing = self.defined.objects.is_empty() && self.defined.namespaces.is_empty();
        if now < until && !nothing {
            return Fate::AwayUntil(until);
        }
        self.defined = Defined::default();
        Fate::Gone
    }
}

/// How many errors of one file are kept. One is shown.
const MAX_ERRORS: usize = 16;

/// What reading a file gives.
struct Reading<'a> {
    shown: &'a str,
    /// What the file defined before.
    last: &'a Defined,
    /// When the file was looked at before.
    looked: SystemTime,
    defined: Defined,
    errors: Vec<ManifestError>,
    /// Whether there is a document or part of one of which nobody can say what it defines.
    lost: bool,
}

impl Reading<'_> {
    fn read(&mut self, bytes: Zeroizing<Vec<u8>>, default: &Namespace) {
        let text = text::decode(bytes);
        let mut decoder = Decoder { default, budget: MAX_DECODED_BYTES };
        for document in Documents::new(&text) {
            match document.content {
                Ok(Some(node)) if !matches!(node.content, node::Content::Null) => {
                    decoder.document(&node, &mut |found| self.add(document.number, found));
                }
                Ok(_) => {}
                Err(fault) => {
                    self.lost = true;
                    self.error(|file| ManifestError::Syntax {
                        file,
                        document: document.number,
                        line: fault.place.line,
                        column: fault.place.column,
                        why: fault.why,
                    });
                }
            }
        }
    }

    /// An object that cannot be used keeps its last good content.
    fn add(&mut self, document: usize, found: Result<Found, Box<Flaw>>) {
        match found {
            Ok(Found::Object(manifest)) => {
                self.defined.kept.remove(&manifest.id);
                self.defined.objects.insert(manifest.id.clone(), Arc::new(manifest));
            }
            Ok(Found::Namespace(namespace)) => {
                self.defined.namespaces.insert(namespace);
            }
            Err(flaw) => {
                match &flaw.id {
                    None => self.lost = true,
                    Some(id) => {
                        if let Some(manifest) = self.last.objects.get(id) {
                            self.keep(id, manifest);
                        }
                    }
                }
                let Flaw { line, object, why, .. } = *flaw;
                self.error(|file| ManifestError::Object { file, document, line, object, why });
            }
        }
    }

    fn keep(&mut self, id: &ObjectId, manifest: &Arc<Manifest>) {
        let seen = self.last.kept.get(id).copied().unwrap_or(self.looked);
        self.defined.kept.insert(id.clone(), seen);
        self.defined.objects.insert(id.clone(), manifest.clone());
    }

    fn error(&mut self, error: impl FnOnce(String) -> ManifestError) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error(self.shown.to_owned()));
        }
    }

    /// Where nobody can say what a document defines, nothing that the file defined before goes.
    fn finish(mut self) -> (Defined, Vec<ManifestError>) {
        if self.lost {
            for (id, manifest) in &self.last.objects {
                if !self.defined.objects.contains_key(id) {
                    self.keep(id, manifest);
                }
            }
            self.defined.namespaces.extend(self.last.namespaces.iter().cloned());
        }
        (self.defined, self.errors)
    }
}
