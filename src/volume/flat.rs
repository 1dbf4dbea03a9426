//! The flat layout: each file of the payload lies in the volume's directory itself. A changed file is written beside
//! the old one and renamed over it, so that readers see the old or the new content and watchers of the directory get
//! `MOVED_TO` with the file's name. Files change one by one: only the kubelet's layout switches all of them at once.

use std::sync::Arc;

use super::{NewNode, Ownership, Payload, Shown, Step};

pub(super) fn steps(old: Option<&Shown>, new: &Payload, ownership: &Ownership) -> Vec<Step> {
    let mut steps = Vec::new();
    for (path, file) in new.iter() {
        let node = NewNode::file(ownership.file(file.mode, file.uid), file.bytes.clone());
        match old.map(|shown| &shown.files) {
            Some(files) if files.has_same(path, file) => {}
            Some(files) if files.has(path) => {
                // Keys never begin with "..", so the temporary name cannot hide one.
                let temporary: Arc<str> = "..new".into();
                steps.push(Step::Mkfile { name: temporary.clone(), node });
                steps.push(Step::Rename { from: temporary, to: path.clone() });
            }
            _ => steps.push(Step::Mkfile { name: path.clone(), node }),
        }
    }
    if let Some(shown) = old {
        let gone = shown.files.paths().filter(|path| new.get(path).is_none());
        steps.extend(gone.map(|path| Step::Unlink { name: path.clone() }));
    }
    steps
}
