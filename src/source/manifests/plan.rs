//! Which directories to watch so that no change of a path goes unseen: the one that holds the file, each one that holds a
//! symbolic link on the way to it (a kubelet volume swaps `..data`), and, for their own removal only, all others above.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use super::input::{is_manifest_name, manifests_in};

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// What to watch, by path. No path has a link in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan(pub BTreeMap<PathBuf, Watch>);

/// What matters about one watched path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Watch {
    /// Entries of this directory that matter.
    pub names: BTreeSet<OsString>,
    /// All entries of this directory that are named like manifests matter.
    pub manifests: bool,
    /// This is a file and its content matters: it may be changed under another name, or be a mount of its own.
    pub file: bool,
}

impl Watch {
    /// Whether an event for an entry of the directory matters.
    pub fn concerns(&self, name: &OsStr) -> bool {
        self.names.contains(name) || (self.manifests && is_manifest_name(name))
    }

    /// Whether only the removal of the directory itself matters.
    pub fn is_own_only(&self) -> bool {
        !self.file && !self.manifests && self.names.is_empty()
    }

    pub fn add(&mut self, other: Watch) {
        self.names.extend(other.names);
        self.manifests |= other.manifests;
        self.file |= other.file;
    }
}

impl Plan {
    /// Plans for files and directories given by absolute paths, as the file system is now.
    pub fn of(files: &[PathBuf], dirs: &[PathBuf]) -> Self {
        let mut plan = Plan::default();
        for file in files {
            if let Some(real) = plan.walk(file) {
                plan.at(&real).file = true;
            }
        }
        for dir in dirs {
            let Some(real) = plan.walk(dir) else { continue };
            plan.at(&real).manifests = true;
            for name in manifests_in(&real).ok().flatten().unwrap_or_default() {
                let entry = real.join(name);
                if entry.is_symlink() {
                    plan.walk(&entry);
                }
            }
        }
        plan
    }

    fn at(&mut self, path: &Path) -> &mut Watch {
        self.0.entry(path.to_owned()).or_default()
    }

    /// Goes along a path as the kernel does. Returns where it ends, or `None` if something is missing on the way; what is
    /// missing is then waited for.
    fn walk(&mut self, path: &Path) -> Option<PathBuf> {
        let mut here = PathBuf::from("/");
        let mut rest: Vec<OsString> = components(path);
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&name);
            let kind = std::fs::symlink_metadata(&next).ok().map(|metadata| metadata.file_type());
            match kind {
                Some(kind) if kind.is_dir() => {
                    self.at(&next);
                    here = next;
                }
                Some(kind) if kind.is_symlink() => {
                    self.at(&here).names.insert(name);
                    links += 1;
                    let target = std::fs::read_link(&next).ok().filter(|_| links <= MAX_LINKS)?;
                    if target.is_absolute() {
                        here = PathBuf::from("/");
                    }
                    rest.extend(components(&target));
                }
                Some(_) if rest.is_empty() => {
                    self.at(&here).names.insert(name);
                    here = next;
                }
                _ => {
                    self.at(&here).names.insert(name);
                    return None;
                }
            }
        }
        Some(here)
    }
}

/// The names in a path, the last first.
fn components(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// The watches below `root`, written as text.
    fn planned(root: &Path, files: &[&str], dirs: &[&str]) -> Vec<String> {
        let paths = |names: &[&str]| names.iter().map(|name| root.join(name)).collect::<Vec<_>>();
        let plan = Plan::of(&paths(files), &paths(dirs));
        let below = plan.0.iter().filter_map(|(path, watch)| Some((path.strip_prefix(root).ok()?, watch)));
        below
            .map(|(path, watch)| {
                let mut text = format!("{}:", path.display());
                watch.names.iter().for_each(|name| text += &format!(" {}", name.display()));
                text += if watch.manifests { " *.yaml" } else { "" };
                text += if watch.file { " content" } else { "" };
                text
            })
            .collect()
    }

    #[test]
    fn the_directory_of_a_file_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("a/b/x.yaml"), "").unwrap();
        assert_eq!(planned(&root, &["a/b/x.yaml"], &[]), [":", "a:", "a/b: x.yaml", "a/b/x.yaml: content"]);
        assert_eq!(planned(&root, &["a/b/../x.yaml"], &[]), [":", "a: x.yaml", "a/b:"]);
        assert_eq!(planned(&root, &["a/c/x.yaml"], &[]), [":", "a: c"]);
    }

    #[test]
    fn every_link_on_the_way_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("volume/..1")).unwrap();
        std::fs::write(root.join("volume/..1/x.yaml"), "").unwrap();
        symlink("..1", root.join("volume/..data")).unwrap();
        symlink("..data/x.yaml", root.join("volume/x.yaml")).unwrap();
        symlink(root.join("volume"), root.join("link")).unwrap();
        let watched = [": link", "volume: ..data x.yaml", "volume/..1: x.yaml", "volume/..1/x.yaml: content"];
        assert_eq!(planned(&root, &["link/x.yaml"], &[]), watched);
        assert_eq!(planned(&root, &[], &["volume"]), [":", "volume: ..data x.yaml *.yaml", "volume/..1: x.yaml"]);
    }

    #[test]
    fn a_loop_of_links_ends() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        symlink("b.yaml", root.join("a.yaml")).unwrap();
        symlink("a.yaml", root.join("b.yaml")).unwrap();
        assert_eq!(planned(&root, &["a.yaml"], &[]), [": a.yaml b.yaml"]);
    }
}
