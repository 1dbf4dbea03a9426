//! The kubelet's layout and its order of operations. The numbers are those of the doc comment of `AtomicWriter.Write`
//! (pkg/volume/util/atomic_writer.go), which validates (1), compares (2 to 4) and then writes:
//!
//!   5./6. the new generation's directory, with its files
//!   8.    `..data_tmp` -> the new generation
//!   9.    rename `..data_tmp` over `..data`: from here on everybody sees the new generation
//!   10.   links for names that are new
//!   11.   no links for names that are gone
//!   12.   the old generation, file by file
//!
//! Step 7, the walk that sets fsGroup, changes the attributes in place and is not a change of content.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{File, NewBody, NewNode, Ownership, Payload, Shown, Step, Volume};

/// Mode of a generation's directory and, with the usual umask 022, of the directories in it.
const DIR_MODE: u32 = 0o755;

pub(super) fn steps(old: Option<&Shown>, new: &Payload, generation: &Arc<str>, volume: &Volume) -> Vec<Step> {
    let Volume { ownership, taken, .. } = volume;
    let mut steps = Vec::new();
    steps.push(Step::Mkdir { name: generation.clone(), node: generation_dir(new, ownership) });
    let pointer = NewNode::link(ownership.link(None), generation.clone());
    steps.push(Step::Symlink { name: "..data_tmp".into(), node: pointer });
    steps.push(Step::Rename { from: "..data_tmp".into(), to: "..data".into() });

    let new_names = new.top_names();
    let old_names = old.map(|shown| shown.files.top_names()).unwrap_or_default();
    for name in new_names.difference(&old_names).filter(|name| !taken.contains(*name)) {
        let node = NewNode::link(ownership.link(link_owner(new, name)), format!("..data/{name}"));
        steps.push(Step::Symlink { name: name.clone(), node });
    }
    for name in old_names.difference(&new_names).filter(|name| !taken.contains(*name)) {
        steps.push(Step::Unlink { name: name.clone() });
    }
    if let Some(shown) = old {
        steps.push(Step::RemoveAll { name: shown.generation.clone() });
    }
    steps
}

/// A link belongs to whom its file belongs to (since Kubernetes 1.36); that of a directory to whom one of the files in it
/// does, which one the kubelet leaves to chance.
fn link_owner(payload: &Payload, name: &str) -> Option<u32> {
    let is_behind = |path: &str| path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    payload.iter().find(|(path, _)| is_behind(path)).and_then(|(_, file)| file.uid)
}

fn generation_dir(payload: &Payload, ownership: &Ownership) -> NewNode {
    let files: Vec<(&str, &File)> = payload.iter().map(|(path, file)| (&**path, file)).collect();
    directory(&files, ownership)
}

pub(super) fn directory(files: &[(&str, &File)], ownership: &Ownership) -> NewNode {
    let mut children: Vec<(Arc<str>, NewNode)> = Vec::new();
    let mut below: BTreeMap<&str, Vec<(&str, &File)>> = BTreeMap::new();
    for (path, file) in files {
        match path.split_once('/') {
            Some((first, rest)) => below.entry(first).or_default().push((rest, file)),
            None => {
                let node = NewNode::file(ownership.file(file.mode, file.uid), file.bytes.clone());
                children.push(((*path).into(), node));
            }
        }
    }
    for (name, files) in below {
        children.push((name.into(), directory(&files, ownership)));
    }
    NewNode { attr: ownership.dir(DIR_MODE), body: NewBody::Dir(children) }
}
