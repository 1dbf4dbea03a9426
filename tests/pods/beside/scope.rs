//! Which names in a container's tree are compared, and how.

use std::collections::BTreeMap;

use super::ledger::has_nested;
use super::manifest::{self, is_ours};
use crate::pods::stage::Moment;
use crate::support::kubelet_pod::Mount;
use crate::support::snapshot::{Entry, differences};
use crate::support::token;

/// Which mount of a container each name belongs to.
pub struct Scope {
    /// Paths of mounts.
    mounts: BTreeMap<String, Content>,
}

#[derive(Clone, Copy, PartialEq)]
enum Content {
    Compared,
    /// Not the API server's to give: a runtime makes mount points there, and whatever else is there is the container's own.
    /// Only where it is mounted counts, and whose that directory is.
    Foreign,
    /// The same of a part that may have been made as a mount point of another container: "Other storage".
    ForeignMountPoint,
    /// Differs on purpose, with all that is mounted in it.
    Unlike,
}

impl Scope {
    pub fn of(now: &Moment<'_>, container: &str, is_unlike: impl Fn(&str) -> bool) -> Scope {
        let content = |volume: &str| match is_ours(now.case, volume) {
            _ if is_unlike(volume) => Content::Unlike,
            true => Content::Compared,
            false => Content::Foreign,
        };
        let containers = manifest::containers(now.case).filter(|one| manifest::name(one) == container);
        let wanted: Vec<_> = containers.flat_map(manifest::wanted).collect();
        let content = |mount: &Mount| match content(&mount.volume) {
            Content::Foreign
                if wanted.iter().any(|one| one.path == mount.path && has_nested(now.case, &one.volume, &one.part)) =>
            {
                Content::ForeignMountPoint
            }
            content => content,
        };
        let mounts = &now.pod.containers[container].mounts;
        let mounts = mounts.iter().map(|mount| (mount.path.trim_start_matches('/').to_owned(), content(mount)));
        Scope { mounts: mounts.collect() }
    }

    /// What of a tree is compared.
    pub fn cut(&self, tree: BTreeMap<String, Entry>) -> BTreeMap<String, Entry> {
        let inside = |path: &str, mount: &str| {
            path == mount || path.strip_prefix(mount).is_some_and(|rest| rest.starts_with('/'))
        };
        let kept = tree.into_iter().filter_map(|(path, mut entry)| {
            let around = || self.mounts.iter().filter(|(mount, _)| inside(&path, mount));
            if around().any(|(_, content)| *content == Content::Unlike) {
                return None;
            }
            match around().max_by_key(|(mount, _)| mount.len()) {
                Some((mount, Content::Foreign | Content::ForeignMountPoint)) if *mount != path => return None,
                Some((_, Content::ForeignMountPoint)) => {
                    (entry.nlink, entry.size, entry.mode, entry.gid) = (0, 0, 0, 0)
                }
                Some((_, Content::Foreign)) => (entry.nlink, entry.size) = (0, 0),
                _ => {}
            }
            Some((path, entry))
        });
        kept.collect()
    }

    pub fn differences(&self, expected: &BTreeMap<String, Entry>, found: BTreeMap<String, Entry>) -> Vec<String> {
        let found = self.cut(found);
        differences(&comparable(expected, expected), &comparable(&found, expected))
    }
}

/// What is allowed to differ: tokens by the time of their making, and the link counts of what a container has mounted and
/// the volume no longer has, which no file system but the volume's own can show.
fn comparable(tree: &BTreeMap<String, Entry>, expected: &BTreeMap<String, Entry>) -> BTreeMap<String, Entry> {
    let mut tree = tree.clone();
    // The kubelet has taken a volume of the node's disk away that it could not write, under the container.
    let is_gone = |(_, entry): &(&String, &Entry)| entry.nlink == 0 && entry.mode == 0o40777;
    for (gone, _) in expected.iter().filter(is_gone) {
        tree.retain(|name, _| !name.starts_with(gone.as_str()));
    }
    token::claims_for_tokens(&mut tree);
    for (name, entry) in &mut tree {
        if expected.get(name).is_some_and(|expected| expected.nlink == 0) {
            entry.nlink = 0;
        }
    }
    tree
}
