//! What a mount of a pod or node would show, looked at without mounting: the same view and the same tree, read directly.

use std::sync::Arc;

use super::args::SourceArgs;
use super::source::{self, Opened};
use super::source_arg::SourceArg;
use crate::exit::{Code, Failure};
use crate::object::Value;
use crate::tree::{Ino, Miss, NodeKind, Tree};
use crate::view::{Options, View};
use crate::volume::{Layout, Owner, Ownership};

/// As many links as the kernel follows in one path.
const MAX_LINKS: usize = 40;

/// A pod or node and all that it shows.
pub struct Walk {
    tree: Arc<Tree>,
    /// SOURCE in the fstab form.
    name: String,
}

/// One name of a directory.
pub struct Entry {
    pub name: String,
    /// Where its links lead.
    pub ino: Ino,
    pub is_dir: bool,
    /// Bytes of a file.
    pub size: u64,
}

/// Whether service account tokens are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    New,
    None,
}

impl Walk {
    /// Loads all of SOURCE.
    pub async fn open(opened: Opened, source: &SourceArg, args: &SourceArgs, tokens: Tokens) -> Result<Walk, Failure> {
        source::check_scope(source, args)?;
        let shape = source::shape(source, args, &opened.namespace);
        let name = super::mount::describe(&shape);
        let options = Options {
            no_tokens: tokens == Tokens::None,
            ..Options::new(Layout::Kubelet, Ownership::of(Owner::Kubelet), args.timeout * 2)
        };
        let view = View::new(shape, options, opened.store, opened.source);
        view.load().await?;
        Ok(Walk { tree: view.tree(), name })
    }

    /// What is at a path below the root, with all links followed.
    pub fn find(&self, path: &str) -> Result<Entry, Failure> {
        let missing = || Failure::new(Code::NotFound, format!("{}: there is no {path} in it", self.name));
        let name = path.rsplit('/').find(|name| !name.is_empty()).unwrap_or(".").to_owned();
        let ino = self.resolve(vec![Ino::ROOT], path, 0).ok_or_else(missing)?;
        let stat = self.tree.getattr(ino).map_err(|_| missing())?;
        Ok(Entry { name, ino, is_dir: stat.kind == NodeKind::Dir, size: stat.size })
    }

    /// The names in a directory that programs are meant to see, in order.
    pub fn list(&self, dir: Ino) -> Vec<Entry> {
        let mut names = Vec::new();
        let _ = self.tree.readdir(dir, 0, false, |listed| {
            names.push(listed.name.to_string());
            true
        });
        names.retain(|name| name != "." && !name.starts_with(".."));
        names.sort();
        let entry = |name: String| {
            let ino = self.resolve(vec![dir], &name, 0)?;
            let stat = self.tree.getattr(ino).ok()?;
            Some(Entry { name, ino, is_dir: stat.kind == NodeKind::Dir, size: stat.size })
        };
        names.into_iter().filter_map(entry).collect()
    }

    /// The content of a file.
    pub fn read(&self, ino: Ino) -> Result<Value, Failure> {
        self.tree.read(ino).map_err(|miss| match miss {
            Miss::Error(error) => Failure::new(Code::NotFound, format!("{}: {error}", self.name)),
            Miss::Pending(_) => Failure::new(Code::Unreachable, format!("{}: not loaded", self.name)),
        })
    }

    /// Goes along a path as the kernel does; `way` is where it begins, with all directories above.
    fn resolve(&self, mut way: Vec<Ino>, path: &str, links: usize) -> Option<Ino> {
        for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
            if name == ".." {
                way.pop();
                continue;
            }
            let dir = *way.last()?;
            let found = self.tree.child(dir, name)?;
            let found = match self.tree.readlink(found) {
                // Links of volumes are relative and stay in their directory.
                Ok(target) if links < MAX_LINKS => self.resolve(vec![dir], &target, links + 1)?,
                Ok(_) => return None,
                Err(_) => found,
            };
            way.push(found);
        }
        way.last().copied()
    }
}
