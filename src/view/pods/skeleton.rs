//! Which directories a container has: those of its mounts, and those that lead to them.
//!
//! Pure data. A skeleton is compared with the one before it, so that a container that comes, or a template that changes,
//! moves nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::pod::Mount;

/// What lies below a directory, by name.
pub(super) type Below = BTreeMap<Arc<str>, Spot>;

/// One name in a container's tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spot {
    pub is: Is,
    pub below: Below,
}

/// A volume of the pod. One that was set up anew for another pod under the same name is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instance {
    pub volume: Arc<str>,
    pub number: u32,
}

/// What a name is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Is {
    #[default]
    /// A directory on the way to a mount.
    Dir,
    /// A directory that the kubelet makes in this volume, where another one is mounted in some container.
    Mountpoint(Instance),
    /// A directory that it makes because somebody mounts a part of this volume that is not there.
    Made(Instance),
    /// The whole of a volume.
    Volume(Instance),
    /// A directory of a volume, by its path there.
    Part(Instance, Arc<str>),
    /// A file of a volume, by its path there.
    File(Instance, Arc<str>),
}

/// What a skeleton must know of a volume.
#[derive(Clone, Debug, Default)]
pub(super) struct Outlook {
    /// [`Instance::number`].
    pub number: u32,
    /// Whether it is storage of another kind, in which nothing is but what is made there.
    pub is_foreign: bool,
    /// Relative paths of directories that are made in it for mounts of others.
    pub nested: BTreeSet<String>,
    /// And of those that are made because somebody mounts them.
    pub made: BTreeSet<String>,
    /// The paths of its files, if it has any yet.
    pub files: Option<BTreeSet<Arc<str>>>,
}

impl Outlook {
    fn is_file(&self, path: &str) -> bool {
        self.files.as_ref().is_some_and(|files| files.contains(path))
    }

    fn is_dir(&self, path: &str) -> bool {
        if path.is_empty() {
            return self.files.is_some();
        }
        let is_below = |file: &Arc<str>| file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        self.files.as_ref().is_some_and(|files| files.iter().any(is_below))
    }

    /// Whether a part lies in a directory that was made for a mount of another volume: it hides what the volume has there.
    fn is_nested(&self, part: &str) -> bool {
        self.nested.iter().any(|nested| first(nested) == first(part))
    }

    /// Whether a part is looked up in the generation: through its link, or through that of a directory of the volume's own.
    pub fn is_in_generation(&self, part: &str) -> bool {
        part.starts_with("..data/") || (!self.is_nested(part) && self.is_dir(first(part)))
    }

    /// A part may name the generation's own link: `..data/key` is `key`, `..data` all of it.
    fn behind_link<'a>(&self, part: &'a str) -> &'a str {
        match part {
            _ if self.is_foreign => part,
            "..data" => "",
            part => part.strip_prefix("..data/").unwrap_or(part),
        }
    }

    /// Directories that are made in the volume because a mount asks for a part of it that is not there.
    /// Source: `makeMounts`, pkg/kubelet/kubelet_pods.go.
    pub fn missing<'a>(&'a self, parts: impl Iterator<Item = &'a str> + 'a) -> impl Iterator<Item = &'a str> + 'a {
        // Nothing can be made below a file, and no container starts that asks for it.
        let below_file = |part: &str| part.match_indices('/').any(|(at, _)| self.is_file(&part[..at]));
        let there = move |part: &str| self.is_file(part) || self.is_dir(part) || below_file(part);
        parts.filter(move |part| self.files.is_some() && (self.is_nested(part) || !there(self.behind_link(part))))
    }
}

fn first(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

/// The tree of one container. Mounts come in the order in which a runtime makes them.
pub(super) fn container(mounts: &[Mount], volumes: &BTreeMap<Arc<str>, Outlook>) -> Spot {
    let mut root = Spot::default();
    for mount in mounts {
        let Some((name, outlook)) = volumes.get_key_value(&*mount.volume) else { continue };
        let instance = Instance { volume: name.clone(), number: outlook.number };
        let spot = mounted(mount, &instance, outlook);
        place(&mut root, &mount.path, spot);
    }
    root
}

fn mounted(mount: &Mount, volume: &Instance, outlook: &Outlook) -> Spot {
    let part = outlook.behind_link(&mount.sub_path);
    if mount.sub_path.is_empty() {
        whole(volume, outlook)
    } else if !outlook.is_nested(&mount.sub_path) && outlook.is_file(part) {
        Spot { is: Is::File(volume.clone(), part.into()), below: Below::new() }
    } else if !outlook.is_nested(&mount.sub_path) && outlook.is_dir(part) {
        Spot { is: Is::Part(volume.clone(), part.into()), below: Below::new() }
    } else {
        // What is not there has been made, with all that others mount in it.
        let mut found = whole(volume, outlook);
        for name in mount.sub_path.split('/') {
            found = found.below.remove(name).unwrap_or(Spot { is: Is::Made(volume.clone()), below: Below::new() });
        }
        found
    }
}

/// A whole volume, with the directories that are made in it.
fn whole(volume: &Instance, outlook: &Outlook) -> Spot {
    let mut spot = Spot { is: Is::Volume(volume.clone()), below: Below::new() };
    for path in &outlook.nested {
        lead(&mut spot, path, &Is::Mountpoint(volume.clone()));
    }
    for path in &outlook.made {
        lead(&mut spot, path, &Is::Made(volume.clone()));
    }
    spot
}

/// The spot at the end of a path, made with all that lead to it where they are missing.
fn lead<'a>(from: &'a mut Spot, path: &str, is: &Is) -> &'a mut Spot {
    path.split('/').filter(|name| !name.is_empty()).fold(from, |at, name| {
        at.below.entry(name.into()).or_insert_with(|| Spot { is: is.clone(), below: Below::new() })
    })
}

/// Mounts over what is there.
fn place(root: &mut Spot, path: &str, spot: Spot) {
    *lead(root, path, &Is::default()) = spot;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(path: &str, volume: &str, sub_path: &str) -> Mount {
        Mount { path: path.into(), volume: volume.into(), sub_path: sub_path.into() }
    }

    fn ours(nested: &[&str], files: &[&str]) -> Outlook {
        let files = Some(files.iter().map(|file| (*file).into()).collect());
        Outlook { nested: nested.iter().map(|path| (*path).to_owned()).collect(), files, ..Outlook::default() }
    }

    fn drawn(spot: &Spot, at: &str, lines: &mut Vec<String>) {
        for (name, spot) in &spot.below {
            let path = format!("{at}{name}");
            lines.push(match &spot.is {
                Is::Dir => path.clone(),
                Is::Made(of) => format!("{path} made in {}", of.volume),
                Is::Mountpoint(of) => format!("{path} in {}", of.volume),
                Is::Volume(of) => format!("{path} = {}", of.volume),
                Is::Part(of, part) => format!("{path} = {}:{part}/", of.volume),
                Is::File(of, part) => format!("{path} = {}:{part}", of.volume),
            });
            drawn(spot, &format!("{path}/"), lines);
        }
    }

    #[test]
    fn volumes_lie_in_each_other_where_their_paths_do() {
        let volumes = BTreeMap::from([
            ("a".into(), ours(&["x", "y/z"], &["k"])),
            ("b".into(), ours(&[], &["k", "d/e"])),
            ("disk".into(), Outlook { is_foreign: true, made: ["p/q".to_owned()].into(), ..ours(&[], &[]) }),
        ]);
        let mounts = [
            mount("data", "disk", ""),
            mount("data-of", "disk", "..data"),
            mount("etc/app", "a", ""),
            mount("etc/app/x", "b", ""),
            mount("etc/file", "b", "..data/k"),
            mount("etc/part", "b", "d"),
            mount("etc/none", "b", "missing"),
            mount("gone", "unknown", ""),
        ];
        let mut lines = Vec::new();
        drawn(&container(&mounts, &volumes), "", &mut lines);
        let expected = [
            "data = disk",
            "data/p made in disk",
            "data/p/q made in disk",
            "data-of made in disk",
            "etc",
            "etc/app = a",
            "etc/app/x = b",
            "etc/app/y in a",
            "etc/app/y/z in a",
            "etc/file = b:k",
            "etc/none made in b",
            "etc/part = b:d/",
        ];
        assert_eq!(lines, expected);
        let parts = ["k", "d", "missing", "..data/k"];
        assert_eq!(volumes["b"].missing(parts.into_iter()).collect::<Vec<_>>(), ["missing"]);
    }

    #[test]
    fn a_mount_point_hides_a_part_and_a_generation_keeps_nothing() {
        let outlook = ours(&["k", "x/y"], &["k", "d/e"]);
        let volumes = BTreeMap::from([("a".into(), outlook.clone())]);
        let mut lines = Vec::new();
        drawn(&container(&[mount("part", "a", "k"), mount("file", "a", "..data/k")], &volumes), "", &mut lines);
        assert_eq!(lines, ["file = a:k", "part in a"]);
        assert_eq!(
            outlook.missing(["k", "x/z", "d/none", "d/e"].into_iter()).collect::<Vec<_>>(),
            ["k", "x/z", "d/none"]
        );
        let in_generation: Vec<&str> = ["k", "x/z", "none/d", "d/none", "..data/k"]
            .into_iter()
            .filter(|part| outlook.is_in_generation(part))
            .collect();
        assert_eq!(in_generation, ["d/none", "..data/k"]);
    }
}
