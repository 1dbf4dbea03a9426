//! The flat layout: each file of the payload lies in the volume's directory itself, at its path. A changed file is written
//! beside the old one and renamed over it, so that readers see the old or the new content and watchers of the directory get
//! `MOVED_TO` with the file's name. A changed directory is made anew. Files change one by one: only the kubelet's layout
//! switches all of them at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::kubelet::directory;
use super::{File, NewNode, Ownership, Payload, Shown, Step};

pub(super) fn steps(old: Option<&Shown>, new: &Payload, ownership: &Ownership) -> Vec<Step> {
    let mut steps = Vec::new();
    let old_names = old.map(|shown| shown.files.top_names()).unwrap_or_default();
    let new_names = new.top_names();
    for name in &new_names {
        let was_there = old_names.contains(name);
        let was_file = old.is_some_and(|shown| shown.files.has(name));
        let remove = || Step::RemoveAll { name: name.clone() };
        match new.get(name) {
            Some(file) if old.is_some_and(|shown| shown.files.has_same(name, file)) => {}
            Some(file) => {
                let node = NewNode::file(ownership.file(file.mode, file.uid), file.bytes.clone());
                if was_there && !was_file {
                    steps.push(remove());
                }
                steps.extend(if was_file {
                    replace(name, node)
                } else {
                    vec![Step::Mkfile { name: name.clone(), node }]
                });
            }
            None if old.is_some_and(|shown| has_same_below(shown, new, name)) => {}
            None => {
                if was_file {
                    steps.push(Step::Unlink { name: name.clone() });
                } else if was_there {
                    steps.push(remove());
                }
                let node = directory(&below(new, name), ownership);
                steps.push(Step::Mkdir { name: name.clone(), node });
            }
        }
    }
    for name in old_names.difference(&new_names) {
        let is_file = old.is_some_and(|shown| shown.files.has(name));
        let name = name.clone();
        steps.push(if is_file { Step::Unlink { name } } else { Step::RemoveAll { name } });
    }
    steps
}

/// A new file takes the place of the old one.
pub fn replace(name: &Arc<str>, node: NewNode) -> Vec<Step> {
    // Neither keys nor paths of items begin with "..", so the temporary name cannot hide one.
    let temporary: Arc<str> = "..new".into();
    vec![Step::Mkfile { name: temporary.clone(), node }, Step::Rename { from: temporary, to: name.clone() }]
}

/// The files below a directory by the rest of their paths.
fn below<'a>(payload: &'a Payload, name: &str) -> Vec<(&'a str, &'a File)> {
    let rest = |path: &'a str| path.strip_prefix(name)?.strip_prefix('/');
    payload.iter().filter_map(|(path, file)| Some((rest(path)?, file))).collect()
}

fn has_same_below(old: &Shown, new: &Payload, name: &str) -> bool {
    let is_below = |path: &&Arc<str>| path.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
    let old_paths: BTreeSet<&Arc<str>> = old.files.paths().filter(is_below).collect();
    let new_files: Vec<_> = new.iter().filter(|(path, _)| is_below(path)).collect();
    new_files.len() == old_paths.len() && new_files.iter().all(|(path, file)| old.files.has_same(path, file))
}
