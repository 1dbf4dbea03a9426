//! Makes a directory like a tree, whatever is in it: the first write, what an earlier process left, or what could not be
//! written before.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use zeroize::Zeroizing;

use super::clean::target;
use super::place::{Place, below, entries, is};
use crate::publisher::{Written, open_directory};
use crate::volume::{NewBody, NewNode, Step, is_generation};

type Children = [(Arc<str>, NewNode)];

/// What has come of it.
#[derive(Debug, Default)]
pub(super) struct Brought {
    /// Paths that are not ours.
    pub foreign: Vec<String>,
    /// The first thing that could not be done. All the rest has been.
    pub error: Option<io::Error>,
}

impl Brought {
    fn note(&mut self, path: &str, done: io::Result<()>) {
        if let Err(error) = done {
            self.error.get_or_insert_with(|| io::Error::new(error.kind(), format!("{path:?}: {error}")));
        }
    }
}

impl Place {
    /// Makes everything like `wanted`, a directory.
    pub fn bring(&mut self, wanted: &NewNode) -> io::Result<Brought> {
        let mut brought = Brought::default();
        let root = self.root()?;
        self.bring_directory(root.as_fd(), "", wanted, &mut brought)?;
        Ok(brought)
    }

    fn bring_directory(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &str,
        wanted: &NewNode,
        brought: &mut Brought,
    ) -> io::Result<()> {
        let none: &Children = &[];
        let children = if let NewBody::Dir(children) = &wanted.body { children } else { none };
        let mut found: BTreeMap<String, Stat> = entries(dir)?.into_iter().collect();
        let mut kept = Vec::new();
        let generation = generation_of(children);
        if let Some(generation) = &generation {
            let adopted = target(dir, "..data")
                .filter(|name| is_generation(name) && same(dir, name, generation.1, &self.written).unwrap_or(false));
            match adopted {
                Some(name) => {
                    if *name != **generation.0 {
                        self.adopted.insert((path.to_owned(), generation.0.clone()), name.clone());
                    }
                    kept.push(name);
                }
                None => {
                    if found.remove("..data_tmp").is_some() {
                        self.carry_out(dir, path, &Step::Unlink { name: "..data_tmp".into() })?;
                    }
                    self.switch(dir, path, generation.0, generation.1)?;
                    kept.push(generation.0.to_string());
                }
            }
            kept.push("..data".into());
        }
        let attr = self.written.directory(wanted.attr);
        for (name, node) in children {
            let of_generation = **name == *"..data" || generation.as_ref().is_some_and(|(of, _)| *of == name);
            if !of_generation {
                let there = found.remove(&**name);
                let done = self.bring_child(dir, path, (name, node), there.as_ref(), brought);
                brought.note(&below(path, name), done);
            }
        }
        found.retain(|name, _| !kept.contains(name));
        // Links go before what they lead to.
        let (dirs, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, stat)| is(stat, FileType::Directory));
        for (name, stat) in others.into_iter().chain(dirs) {
            let done = self.remove_ours(dir, path, (&name, &stat), &mut brought.foreign);
            brought.note(&below(path, &name), done);
        }
        // Last, as it may be what lets others in.
        if !self.written.fits(&rustix::fs::fstat(dir)?, attr) {
            self.written.set(dir, attr)?;
        }
        Ok(())
    }

    /// A new generation, as the kubelet makes it current.
    fn switch(&mut self, dir: BorrowedFd<'_>, path: &str, name: &Arc<str>, node: &NewNode) -> io::Result<()> {
        let link = NewNode::link(node.attr, name.clone());
        for step in [
            Step::Mkdir { name: name.clone(), node: node.clone() },
            Step::Symlink { name: "..data_tmp".into(), node: link },
            Step::Rename { from: "..data_tmp".into(), to: "..data".into() },
        ] {
            self.carry_out(dir, path, &step)?;
        }
        Ok(())
    }

    fn bring_child(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &str,
        (name, node): (&Arc<str>, &NewNode),
        there: Option<&Stat>,
        brought: &mut Brought,
    ) -> io::Result<()> {
        let make = match &node.body {
            NewBody::File(_) => Step::Mkfile { name: name.clone(), node: node.clone() },
            NewBody::Link(_) => Step::Symlink { name: name.clone(), node: node.clone() },
            _ => Step::Mkdir { name: name.clone(), node: node.clone() },
        };
        let Some(there) = there else { return self.carry_out(dir, path, &make) };
        let at = below(path, name);
        let is_dir = is(there, FileType::Directory);
        if is_dir && matches!(make, Step::Mkdir { .. }) {
            let below = open_directory(dir, name)?;
            return self.bring_directory(below.as_fd(), &at, node, brought);
        }
        if same(dir, name, node, &self.written)? {
            return Ok(());
        }
        let replaced = matches!(make, Step::Mkfile { .. }) && is(there, FileType::RegularFile);
        if replaced && self.record.has(&at) {
            let temporary: Arc<str> = "..new".into();
            self.carry_out(dir, path, &Step::Unlink { name: temporary.clone() })?;
            self.carry_out(dir, path, &Step::Mkfile { name: temporary.clone(), node: node.clone() })?;
            return self.carry_out(dir, path, &Step::Rename { from: temporary, to: name.clone() });
        }
        let foreign = brought.foreign.len();
        self.remove_ours(dir, path, (name, there), &mut brought.foreign)?;
        if brought.foreign.len() > foreign {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is not ours is in the way"));
        }
        self.carry_out(dir, path, &make)
    }
}

/// The current generation of a volume in the kubelet's layout, if the directory is one.
fn generation_of(children: &Children) -> Option<(&Arc<str>, &NewNode)> {
    let (_, data) = children.iter().find(|(name, _)| **name == *"..data")?;
    let NewBody::Link(target) = &data.body else { return None };
    children.iter().find(|(name, _)| name == target).map(|(name, node)| (name, node))
}

/// Whether an entry is just what is wanted: content, mode and owner.
fn same(dir: BorrowedFd<'_>, name: &str, node: &NewNode, written: &Written) -> io::Result<bool> {
    match &node.body {
        NewBody::File(value) => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let Ok(file) = rustix::fs::openat(dir, name, flags, Mode::empty()) else { return Ok(false) };
            let stat = rustix::fs::fstat(&file)?;
            let len = value.len() as i64;
            if !is(&stat, FileType::RegularFile) || !written.fits(&stat, node.attr) || stat.st_size != len {
                return Ok(false);
            }
            let mut bytes = Zeroizing::new(vec![0; value.len()]);
            File::from(file).read_exact(&mut bytes)?;
            Ok(*bytes == value.as_bytes())
        }
        NewBody::Link(to) => {
            let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(target(dir, name).is_some_and(|found| *found == **to) && written.belongs(&stat, node.attr))
        }
        NewBody::Dir(children) => {
            let Ok(below) = open_directory(dir, name) else { return Ok(false) };
            let found = entries(below.as_fd())?;
            if found.len() != children.len() || !written.fits(&rustix::fs::fstat(&below)?, written.directory(node.attr))
            {
                return Ok(false);
            }
            for (name, child) in children {
                let there = found.iter().any(|(found, _)| *found == **name);
                if !there || !same(below.as_fd(), name, child, written)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        NewBody::Unloaded { .. } | NewBody::Unread => Ok(false),
    }
}
