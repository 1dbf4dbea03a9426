//! The nodes by number and the few operations that change them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::node::{Body, Content, DOT, DOT_DOT, Dir, Fill, Ino, Node, NodeKind, Stat};
use super::{Demand, Error, Listed, Miss};
use crate::object::Value;
use crate::volume::{NewBody, NewNode, Step};

pub(super) struct Table {
    nodes: HashMap<Ino, Node>,
    next: u64,
    /// The latest time given to any node: the next one is later, whatever the clock does, so that whoever compares
    /// times sees every change.
    latest: SystemTime,
    /// Sum of [`Stat::blocks`] of all files.
    blocks: u64,
    /// Counts the uses of content.
    uses: u64,
}

impl Table {
    pub(super) fn new(root: NewNode) -> Self {
        let mut table =
            Table { nodes: HashMap::new(), next: Ino::ROOT.0, latest: SystemTime::UNIX_EPOCH, blocks: 0, uses: 0 };
        let now = table.now();
        table.build(Ino::ROOT, "".into(), root, now);
        table
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    fn now(&mut self) -> SystemTime {
        self.latest = SystemTime::now().max(self.latest + Duration::from_nanos(1));
        self.latest
    }

    fn node(&self, ino: Ino) -> Result<&Node, Error> {
        self.nodes.get(&ino).ok_or(Error::Stale)
    }

    fn node_mut(&mut self, ino: Ino) -> Result<&mut Node, Error> {
        self.nodes.get_mut(&ino).ok_or(Error::Stale)
    }

    pub(super) fn dir(&self, ino: Ino) -> Result<&Dir, Error> {
        match &self.node(ino)?.body {
            Body::Dir(dir) => Ok(dir),
            _ => Err(Error::NotDirectory),
        }
    }

    fn dir_mut(&mut self, ino: Ino) -> Result<&mut Dir, Error> {
        match &mut self.node_mut(ino)?.body {
            Body::Dir(dir) => Ok(dir),
            _ => Err(Error::NotDirectory),
        }
    }

    pub(super) fn file(&mut self, ino: Ino) -> Result<Value, Miss> {
        self.uses += 1;
        let now = self.uses;
        match &mut self.node_mut(ino)?.body {
            Body::File(Content::Here { value, used }) => {
                *used = now;
                Ok(value.clone())
            }
            Body::File(Content::Dropped { owner, .. }) => {
                let owner = *owner;
                // Nobody can bring back what another version has replaced.
                let can_be_fetched = self.dir(owner).is_ok_and(|dir| dir.dropped);
                if !can_be_fetched || !self.node(ino)?.linked {
                    return Err(Error::Stale.into());
                }
                Err(Miss::Pending(Demand { dir: owner, name: None }))
            }
            Body::Dir(_) => Err(Error::IsDirectory.into()),
            Body::Link(_) => Err(Error::NotLink.into()),
        }
    }

    /// The files below a directory.
    fn files(&self, dir: Ino) -> Vec<Ino> {
        let children = self.dir(dir).map(Dir::children).unwrap_or_default();
        let below = children.into_iter().flat_map(|(_, child)| match self.nodes.get(&child).map(|node| &node.body) {
            Some(Body::Dir(_)) => self.files(child),
            Some(Body::File(_)) => vec![child],
            _ => Vec::new(),
        });
        below.collect()
    }

    /// When a file below the directory was last made or read, as a number that grows.
    pub(super) fn last_use(&self, dir: Ino) -> u64 {
        let used = |ino: &Ino| match self.nodes.get(ino).map(|node| &node.body) {
            Some(Body::File(Content::Here { used, .. })) => *used,
            _ => 0,
        };
        self.files(dir).iter().map(used).max().unwrap_or(0)
    }

    /// Lets go of the content of all files below the directory; they stay, with their attributes.
    pub(super) fn drop_content(&mut self, owner: Ino) -> Result<(), Error> {
        for file in self.files(owner) {
            if let Body::File(content) = &mut self.node_mut(file)?.body {
                *content = Content::Dropped { len: content.len(), owner };
            }
        }
        self.dir_mut(owner)?.dropped = true;
        Ok(())
    }

    /// Gives files that are there their content back: `value` finds it by a file's name.
    pub(super) fn restore(&mut self, owner: Ino, value: impl Fn(&str) -> Option<Value>) -> Result<(), Error> {
        self.uses += 1;
        let used = self.uses;
        for file in self.files(owner) {
            let node = self.node_mut(file)?;
            let Body::File(content @ Content::Dropped { .. }) = &mut node.body else { continue };
            if let Some(value) = value(&node.name).filter(|value| value.len() == content.len()) {
                *content = Content::Here { value, used };
            }
        }
        self.dir_mut(owner)?.dropped = false;
        Ok(())
    }

    pub(super) fn link(&self, ino: Ino) -> Result<Arc<str>, Error> {
        match &self.node(ino)?.body {
            Body::Link(target) => Ok(target.clone()),
            _ => Err(Error::NotLink),
        }
    }

    pub(super) fn stat(&self, ino: Ino) -> Result<Stat, Error> {
        let node = self.node(ino)?;
        let (kind, size, nlink) = match &node.body {
            Body::Dir(dir) => (NodeKind::Dir, dir.size(), dir.nlink()),
            Body::File(content) => (NodeKind::File, content.len() as u64, 1),
            Body::Link(target) => (NodeKind::Link, target.len() as u64, 1),
        };
        let nlink = if node.linked { nlink } else { 0 };
        Ok(Stat { ino, kind, attr: node.attr, size, nlink, mtime: node.mtime, ctime: node.ctime })
    }

    /// A node as it was, or would be, made: with all that is known to be below it. Files whose content was let go of are
    /// left out.
    pub(super) fn copy(&self, ino: Ino) -> Result<NewNode, Error> {
        let node = self.node(ino)?;
        let body = match &node.body {
            Body::Dir(dir) => {
                let mut children = Vec::new();
                for (_, name, child) in dir.after(0) {
                    match self.copy(child) {
                        Ok(node) => children.push((name.clone(), node)),
                        Err(Error::Unavailable(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
                NewBody::Dir(children)
            }
            Body::File(Content::Here { value, .. }) => NewBody::File(value.clone()),
            Body::File(Content::Dropped { .. }) => return Err(Error::Unavailable(libc::ENODATA)),
            Body::Link(target) => NewBody::Link(target.clone()),
        };
        Ok(NewNode { attr: node.attr, body })
    }

    /// Whether the kernel may hold the inode. It always holds the root.
    pub(super) fn is_held(&self, ino: Ino) -> bool {
        ino == Ino::ROOT || self.nodes.get(&ino).is_some_and(|node| node.lookups > 0)
    }

    /// Whether the demand still needs an answer.
    pub(super) fn is_open(&self, demand: &Demand) -> bool {
        let Ok(dir) = self.dir(demand.dir) else { return false };
        match (dir.fill, &demand.name) {
            (Fill::Ready, None) => dir.dropped,
            (Fill::Ready | Fill::Denied { .. }, _) | (Fill::ByName { .. }, None) => false,
            (Fill::Unloaded { .. } | Fill::Unread, _) => true,
            (Fill::ByName { .. }, Some(name)) => dir.child(name).is_none(),
        }
    }

    pub(super) fn count_lookup(&mut self, ino: Ino) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.lookups += 1;
        }
    }

    pub(super) fn forget(&mut self, ino: Ino, count: u64) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.lookups = node.lookups.saturating_sub(count);
        }
        self.reap(ino);
    }

    /// Drops a node that has no name and that the kernel does not hold.
    fn reap(&mut self, ino: Ino) {
        if self.nodes.get(&ino).is_some_and(|node| !node.linked && node.lookups == 0) {
            self.blocks -= self.stat(ino).map_or(0, |stat| stat.blocks());
            self.nodes.remove(&ino);
        }
    }

    /// The directory's path below the root: "" for the root itself.
    pub(super) fn path(&self, ino: Ino) -> Result<String, Error> {
        let mut parts: Vec<Arc<str>> = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT {
            let node = self.node(at)?;
            if !node.linked {
                return Err(Error::NotFound);
            }
            parts.push(node.name.clone());
            at = node.parent;
        }
        parts.reverse();
        Ok(parts.join("/"))
    }

    /// Hands `.`, `..` and the names after `cookie` to `sink` until it returns false, which means that it did not take
    /// that one. Returns the inodes of the names taken, for which a lookup may count.
    pub(super) fn list(&self, ino: Ino, cookie: u64, sink: &mut dyn FnMut(&Listed) -> bool) -> Result<Vec<Ino>, Error> {
        let dir = self.dir(ino)?;
        let parent = self.node(ino)?.parent;
        let mut taken = Vec::new();
        for (dot, name, of) in [(DOT, ".", ino), (DOT_DOT, "..", parent)] {
            if cookie < dot {
                let stat = self.stat(of).or_else(|_| self.stat(ino))?;
                if !sink(&Listed { cookie: dot, name: name.into(), stat }) {
                    return Ok(taken);
                }
            }
        }
        for (cookie, name, child) in dir.after(cookie.max(DOT_DOT)) {
            if !sink(&Listed { cookie, name: name.clone(), stat: self.stat(child)? }) {
                break;
            }
            taken.push(child);
        }
        Ok(taken)
    }

    /// Makes the nodes of a new sub-tree and returns the topmost one, which has no entry in its parent yet.
    fn build(&mut self, parent: Ino, name: Arc<str>, new: NewNode, time: SystemTime) -> Ino {
        let ino = Ino(self.next);
        self.next += 1;
        self.uses += 1;
        let (body, children) = match new.body {
            NewBody::Dir(children) => (Body::Dir(Dir::new(Fill::Ready)), children),
            NewBody::Unloaded { subdirs } => (Body::Dir(Dir::new(Fill::Unloaded { subdirs })), Vec::new()),
            NewBody::Unread => (Body::Dir(Dir::new(Fill::Unread)), Vec::new()),
            NewBody::File(value) => (Body::File(Content::Here { value, used: self.uses }), Vec::new()),
            NewBody::Link(target) => (Body::Link(target), Vec::new()),
        };
        let node = Node { attr: new.attr, body, parent, name, linked: true, lookups: 0, mtime: time, ctime: time };
        self.nodes.insert(ino, node);
        self.blocks += self.stat(ino).map_or(0, |stat| stat.blocks());
        for (name, child) in children {
            let is_dir = child.is_dir();
            let child = self.build(ino, name.clone(), child, time);
            if let Ok(dir) = self.dir_mut(ino) {
                dir.insert(name, child);
                dir.subdirs += u32::from(is_dir);
            }
        }
        ino
    }

    fn changed(&mut self, dir: Ino, time: SystemTime) {
        if let Some(node) = self.nodes.get_mut(&dir) {
            node.mtime = time;
            node.ctime = time;
        }
    }

    pub(super) fn touch(&mut self, ino: Ino) -> Result<(), Error> {
        let now = self.now();
        self.node_mut(ino)?.ctime = now;
        Ok(())
    }

    pub(super) fn add(&mut self, parent: Ino, name: Arc<str>, node: NewNode) -> Result<Ino, Error> {
        let now = self.now();
        let ino = self.add_at(parent, name, node, now)?;
        self.changed(parent, now);
        Ok(ino)
    }

    fn add_at(&mut self, parent: Ino, name: Arc<str>, node: NewNode, time: SystemTime) -> Result<Ino, Error> {
        if self.dir(parent)?.child(&name).is_some() {
            return Err(Error::Exists);
        }
        let is_dir = node.is_dir();
        let ino = self.build(parent, name.clone(), node, time);
        let dir = self.dir_mut(parent)?;
        dir.insert(name, ino);
        dir.subdirs += u32::from(is_dir);
        Ok(ino)
    }

    pub(super) fn rename(&mut self, parent: Ino, from: &str, to: Arc<str>) -> Result<(), Error> {
        let now = self.now();
        let dir = self.dir_mut(parent)?;
        let moved = dir.remove(from).ok_or(Error::NotFound)?;
        let replaced = dir.remove(&to);
        dir.insert(to.clone(), moved);
        if let Some(replaced) = replaced {
            self.unlinked(replaced, now);
        }
        let node = self.node_mut(moved)?;
        node.name = to;
        node.ctime = now;
        self.changed(parent, now);
        Ok(())
    }

    pub(super) fn unlink(&mut self, parent: Ino, name: &str) -> Result<(), Error> {
        let child = self.dir(parent)?.child(name).ok_or(Error::NotFound)?;
        if matches!(self.node(child)?.body, Body::Dir(_)) {
            return Err(Error::IsDirectory);
        }
        self.remove(parent, name, child)
    }

    pub(super) fn rmdir(&mut self, parent: Ino, name: &str) -> Result<(), Error> {
        let child = self.dir(parent)?.child(name).ok_or(Error::NotFound)?;
        if !self.dir(child)?.is_empty() {
            return Err(Error::NotEmpty);
        }
        self.dir_mut(parent)?.subdirs -= 1;
        self.remove(parent, name, child)
    }

    fn remove(&mut self, parent: Ino, name: &str, child: Ino) -> Result<(), Error> {
        let now = self.now();
        self.dir_mut(parent)?.remove(name);
        self.unlinked(child, now);
        self.changed(parent, now);
        Ok(())
    }

    fn unlinked(&mut self, ino: Ino, time: SystemTime) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.linked = false;
            node.ctime = time;
        }
        self.reap(ino);
    }

    /// Removes a directory with everything below.
    fn remove_all(&mut self, parent: Ino, name: &str) -> Result<(), Error> {
        let child = self.dir(parent)?.child(name).ok_or(Error::NotFound)?;
        if let Body::Dir(dir) = &self.node(child)?.body {
            for (name, _) in dir.children() {
                self.remove_all(child, &name)?;
            }
            self.rmdir(parent, name)
        } else {
            self.unlink(parent, name)
        }
    }

    /// Carries one step out.
    pub(super) fn apply(&mut self, dir: Ino, step: Step) -> Result<(), Error> {
        match step {
            Step::Mkdir { name, node } | Step::Mkfile { name, node } | Step::Symlink { name, node } => {
                self.add(dir, name, node).map(|_| ())
            }
            Step::Rename { from, to } => self.rename(dir, &from, to),
            Step::Unlink { name } => self.unlink(dir, &name),
            Step::RemoveAll { name } => self.remove_all(dir, &name),
        }
    }

    /// Adds one name to a directory whose names are asked for one by one; its times stay.
    pub(super) fn grant(&mut self, dir: Ino, name: Arc<str>, node: NewNode) -> Result<(), Error> {
        let time = self.node(dir)?.mtime;
        self.add_at(dir, name, node, time).map(|_| ())
    }

    /// Changes what is known of a directory's names.
    pub(super) fn set_fill(&mut self, dir: Ino, fill: Fill) -> Result<(), Error> {
        let now = self.now();
        self.dir_mut(dir)?.fill = fill;
        self.changed(dir, now);
        Ok(())
    }

    /// Whether it is a directory that was asked for by its name and that the kernel does not hold.
    pub(super) fn is_unused(&self, ino: Ino) -> bool {
        let Ok(node) = self.node(ino) else { return false };
        let is_dir = matches!(node.body, Body::Dir(_));
        let by_name = self.dir(node.parent).is_ok_and(|parent| matches!(parent.fill, Fill::ByName { .. }));
        is_dir && by_name && node.linked && node.lookups == 0
    }

    /// Removes a directory that is not used: see [`Table::is_unused`].
    pub(super) fn drop_unused(&mut self, ino: Ino) -> bool {
        if !self.is_unused(ino) {
            return false;
        }
        let Ok(node) = self.node(ino) else { return false };
        let (parent, name) = (node.parent, node.name.clone());
        self.remove_all(parent, &name).is_ok()
    }

    /// Fills an unloaded directory; its times stay, and are those of all that is put in.
    pub(super) fn load(&mut self, ino: Ino, children: Vec<(Arc<str>, NewNode)>) -> Result<(), Error> {
        if !matches!(self.dir(ino)?.fill, Fill::Unloaded { .. } | Fill::Unread | Fill::ByName { .. }) {
            return Ok(());
        }
        let time = self.node(ino)?.mtime;
        for (name, node) in children {
            // One that was asked for by its name is there already.
            if self.dir(ino)?.child(&name).is_none() {
                self.add_at(ino, name, node, time)?;
            }
        }
        self.dir_mut(ino)?.fill = Fill::Ready;
        Ok(())
    }
}

impl NewNode {
    pub(super) fn is_dir(&self) -> bool {
        matches!(self.body, NewBody::Dir(_) | NewBody::Unloaded { .. } | NewBody::Unread)
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self.body, NewBody::File(_))
    }

    pub(super) fn link_target(&self) -> Option<&str> {
        match &self.body {
            NewBody::Link(target) => Some(target),
            _ => None,
        }
    }
}
