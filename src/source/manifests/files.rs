//! All files of all inputs, in kubectl's order: of two definitions of one object the later one counts, as if each had
//! been applied in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::decode::Manifest;
use super::error::{ManifestError, Unreadable};
use super::file::{Fate, File};
use super::input::{self, Input, manifests_in};
use crate::object::{Namespace, ObjectId};
use crate::source::Freshness;

/// An input with the absolute path that stays good when the daemon changes its directory.
#[derive(Debug)]
enum Origin {
    /// Read once.
    Once,
    File(PathBuf),
    Dir(PathBuf),
}

/// Where a file stands: its input, and its name in the input's directory.
type Position = (usize, OsString);

#[derive(Debug)]
pub(super) struct Files {
    inputs: Vec<(Input, Origin)>,
    files: BTreeMap<Position, File>,
    /// Directories that could not be listed, with what was said about it.
    unlistable: BTreeMap<usize, ManifestError>,
    default: Namespace,
}

/// An object of a file, with the file's modification time.
#[derive(Debug)]
pub(super) struct Definition {
    pub manifest: Arc<Manifest>,
    pub modified: SystemTime,
    pub freshness: Freshness,
}

/// What all files define together.
#[derive(Debug, Default)]
pub(super) struct Total {
    pub objects: BTreeMap<ObjectId, Definition>,
    pub namespaces: BTreeSet<Namespace>,
}

impl Files {
    /// Reads all inputs for the first time. Any error is final.
    pub fn open(inputs: Vec<Input>, default: Namespace) -> Result<Self, ManifestError> {
        let mut files = Files { inputs: Vec::new(), files: BTreeMap::new(), unlistable: BTreeMap::new(), default };
        for (index, input) in inputs.into_iter().enumerate() {
            let unreadable = |why| ManifestError::Unreadable { file: input.to_string(), why };
            let origin = files.open_input(index, &input).map_err(unreadable)?;
            files.inputs.push((input, origin));
        }
        files.refresh(Instant::now());
        let first = files.errors().next().cloned();
        first.map_or(Ok(files), Err)
    }

    fn open_input(&mut self, index: usize, input: &Input) -> Result<Origin, Unreadable> {
        let content = match input {
            Input::Stdin => input::read_once(std::io::stdin().lock())?,
            Input::Dir(path) => {
                if manifests_in(path)?.ok_or(Unreadable::Missing)?.is_empty() {
                    tracing::warn!("{}: there is no *.yaml, *.yml or *.json here yet", path.display());
                }
                return Ok(Origin::Dir(std::path::absolute(path)?));
            }
            Input::File(path) => {
                let kind = std::fs::metadata(path)?;
                if kind.is_dir() {
                    return Err(Unreadable::Directory);
                }
                if kind.is_file() && !input::is_descriptor(path) {
                    return Ok(Origin::File(std::path::absolute(path)?));
                }
                input::read_once(input::open_once(path)?)?
            }
        };
        let mut file = File::new(input.to_string());
        file.take(content, &self.default);
        self.files.insert((index, OsString::new()), file);
        Ok(Origin::Once)
    }

    /// Looks at everything again. Returns when to look again although nothing may have changed.
    pub fn refresh(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for (position, path, shown) in self.places() {
            let file = self.files.entry(position.clone()).or_insert_with(|| File::new(shown));
            match file.refresh(&path, &self.default, now) {
                Fate::Here => {}
                Fate::AwayUntil(until) => next = Some(next.map_or(until, |next| next.min(until))),
                Fate::Gone => {
                    self.files.remove(&position);
                }
            }
        }
        next
    }

    /// The files that there are and those that there were.
    fn places(&mut self) -> Vec<(Position, PathBuf, String)> {
        let mut found = Vec::new();
        for (index, (input, origin)) in self.inputs.iter().enumerate() {
            match origin {
                Origin::Once => {}
                Origin::File(path) => found.push(((index, OsString::new()), path.clone(), input.to_string())),
                Origin::Dir(path) => {
                    let mut names = self.names_read(index);
                    match manifests_in(path) {
                        Ok(listed) => {
                            self.unlistable.remove(&index);
                            names.extend(listed.unwrap_or_default());
                        }
                        Err(why) => {
                            let error = ManifestError::Unreadable { file: input.to_string(), why };
                            self.unlistable.insert(index, error);
                        }
                    }
                    let shown = PathBuf::from(input.to_string());
                    let entry = |name: OsString| {
                        let (path, shown) = (path.join(&name), shown.join(&name));
                        ((index, name), path, shown.display().to_string())
                    };
                    found.extend(names.into_iter().map(entry));
                }
            }
        }
        found
    }

    /// The names in a directory that have been read.
    fn names_read(&self, index: usize) -> BTreeSet<OsString> {
        let of_input = self.files.range((index, OsString::new())..(index + 1, OsString::new()));
        of_input.map(|((_, name), _)| name.clone()).collect()
    }

    /// What is wrong now.
    pub fn errors(&self) -> impl Iterator<Item = &ManifestError> {
        self.unlistable.values().chain(self.files.values().flat_map(|file| &file.errors))
    }

    pub fn total(&self) -> Total {
        let mut total = Total::default();
        for file in self.files.values() {
            for (id, manifest) in &file.defined.objects {
                let (manifest, modified, freshness) = (manifest.clone(), file.modified, file.freshness(id));
                total.objects.insert(id.clone(), Definition { manifest, modified, freshness });
                total.namespaces.insert(id.namespace.clone());
            }
            total.namespaces.extend(file.defined.namespaces.iter().cloned());
        }
        total
    }

    /// The paths to watch: files and directories.
    pub fn watched(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let mut files = Vec::new();
        let mut dirs = Vec::new();
        for (_, origin) in &self.inputs {
            match origin {
                Origin::Once => {}
                Origin::File(path) => files.push(path.clone()),
                Origin::Dir(path) => dirs.push(path.clone()),
            }
        }
        (files, dirs)
    }

    /// Where objects are looked for, for messages.
    pub fn describe(&self) -> String {
        let shown: Vec<_> = self.inputs.iter().map(|(input, _)| input.to_string()).collect();
        shown.join(", ")
    }
}
