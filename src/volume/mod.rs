//! The rules of a volume: which files an object becomes, with which modes and owners, and in which order they change.
//!
//! Pure data and pure functions. An update is a list of [`Step`]s below one directory; whoever carries them out, the
//! [tree](crate::tree) directly or the [publisher](crate::publisher) as system calls, gives watchers the kubelet's
//! own sequence of events.

mod flat;
mod kubelet;
mod outline;
mod ownership;
mod payload;

pub use outline::Outline;
pub use ownership::{Attr, Owner, Ownership};
pub use payload::{DEFAULT_MODE, File, Payload, of_object};

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

use crate::object::{Kind, Value};

/// How the files of an object lie in its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Layout {
    /// The kubelet's: `KEY -> ..data/KEY`, `..data -> ..TIMESTAMP`, all keys switch together.
    #[default]
    Kubelet,
    /// Each key a regular file in the directory itself, replaced by rename: for programs that do not follow links.
    Flat,
}

/// What a volume's directory lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A tmpfs of its own: Secrets and whatever may hold one.
    Memory,
    /// The node's disk: ConfigMaps.
    Disk,
}

impl Backing {
    /// What a volume made of one object lies on.
    pub fn of(kind: Kind) -> Self {
        if kind == Kind::ConfigMap { Backing::Disk } else { Backing::Memory }
    }
}

/// Whether a name has the form of a generation's: `..2026_11_24_10_15_12.1234567890`.
pub fn is_generation(name: &str) -> bool {
    let Some((date, number)) = name.strip_prefix("..").and_then(|rest| rest.split_once('.')) else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = date.split('_');
    let lengths = [4, 2, 2, 2, 2, 2];
    lengths.iter().all(|length| parts.next().is_some_and(|part| part.len() == *length && digits(part)))
        && parts.next().is_none()
        && digits(number)
}

/// A node that does not exist yet.
#[derive(Clone, Debug)]
pub struct NewNode {
    pub attr: Attr,
    pub body: NewBody,
}

#[derive(Clone, Debug)]
pub enum NewBody {
    Dir(Vec<(Arc<str>, NewNode)>),
    /// A directory whose content is fetched when somebody looks into it, and how many sub-directories it will have.
    Unloaded {
        subdirs: u32,
    },
    /// A directory whose names nobody has listed yet.
    Unread,
    File(Value),
    Link(Arc<str>),
}

impl NewNode {
    pub fn dir(attr: Attr, children: Vec<(Arc<str>, NewNode)>) -> Self {
        NewNode { attr, body: NewBody::Dir(children) }
    }

    pub fn file(attr: Attr, value: Value) -> Self {
        NewNode { attr, body: NewBody::File(value) }
    }

    pub fn link(attr: Attr, target: impl Into<Arc<str>>) -> Self {
        NewNode { attr, body: NewBody::Link(target.into()) }
    }
}

/// One system call, or one recursion of them, below one directory.
#[derive(Clone, Debug)]
pub enum Step {
    /// mkdir, the content appears, chmod to the node's mode.
    Mkdir {
        name: Arc<str>,
        node: NewNode,
    },
    /// A regular file appears, with its content.
    Mkfile {
        name: Arc<str>,
        node: NewNode,
    },
    Symlink {
        name: Arc<str>,
        node: NewNode,
    },
    Rename {
        from: Arc<str>,
        to: Arc<str>,
    },
    Unlink {
        name: Arc<str>,
    },
    /// Removes a directory with all that is in it, content first.
    RemoveAll {
        name: Arc<str>,
    },
}

/// What to do below one directory, and what is another there afterwards.
#[derive(Clone, Debug, Default)]
pub struct Update {
    pub steps: Vec<Step>,
    /// Paths of files whose content has changed, which have come or which have gone, and of directories that have come or gone
    /// with all that is in them.
    pub changed: Vec<Arc<str>>,
}

impl Deref for Update {
    type Target = [Step];

    fn deref(&self) -> &[Step] {
        &self.steps
    }
}

/// Directories that come or go.
impl From<Vec<Step>> for Update {
    fn from(steps: Vec<Step>) -> Self {
        let name = |step: &Step| match step {
            Step::Mkdir { name, .. }
            | Step::Mkfile { name, .. }
            | Step::Symlink { name, .. }
            | Step::Rename { to: name, .. }
            | Step::Unlink { name }
            | Step::RemoveAll { name } => name.clone(),
        };
        let changed = steps.iter().map(name).collect();
        Update { steps, changed }
    }
}

/// One directory with the files of one object, and what it shows now. Source of the algorithm: the kubelet's
/// `AtomicWriter.Write` (pkg/volume/util/atomic_writer.go).
#[derive(Clone, Debug)]
pub struct Volume {
    layout: Layout,
    backing: Backing,
    /// Names in its directory that are taken by mount points of other volumes.
    taken: BTreeSet<Arc<str>>,
    ownership: Ownership,
    shown: Option<Shown>,
}

/// Indicates a payload that no file system can hold: a file whose name is also a directory's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} is a file and a directory at once")]
pub struct Clash {
    pub path: String,
}

/// The directories that lead to a path, from the outside in.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

#[derive(Clone, Debug)]
struct Shown {
    /// Name of the current generation's directory; unused in the flat layout.
    generation: Arc<str>,
    files: Outline,
}

impl Volume {
    pub fn new(backing: Backing, layout: Layout, ownership: Ownership) -> Self {
        Volume { layout, backing, taken: BTreeSet::new(), ownership, shown: None }
    }

    /// Directories of these names are in it, at which other volumes are mounted. A file of such a name
    /// is not shown but below `..data`, as the kubelet cannot make a link there.
    pub fn take_names(&mut self, names: impl IntoIterator<Item = Arc<str>>) {
        self.taken = names.into_iter().collect();
    }

    /// Mode and owner of the volume's own directory. A tmpfs has the kernel's default mode 01777; a plain directory is set
    /// to 0777 by the kubelet.
    pub fn root_attr(&self) -> Attr {
        let mode = match self.backing {
            Backing::Memory => 0o1777,
            Backing::Disk => 0o777,
        };
        self.ownership.dir(mode)
    }

    /// Mode and owner of a directory in the volume: one on the way to a file, or one that the kubelet makes for a mount of
    /// another volume. Source: `MakeNestedMountpoints`, pkg/volume/util/nested_volumes.go.
    pub fn directory_attr(&self) -> Attr {
        self.ownership.dir(0o755)
    }

    /// The volume's directory while nothing of its content is known. A payload made of keys has no sub-directory, so
    /// the link count is known before the content is: one for the generation, none in the flat layout.
    pub fn unloaded(&self) -> NewNode {
        NewNode { attr: self.root_attr(), body: NewBody::Unloaded { subdirs: self.subdirs() } }
    }

    /// How many sub-directories it has once there is content.
    pub fn subdirs(&self) -> u32 {
        match self.layout {
            Layout::Kubelet => 1,
            Layout::Flat => 0,
        }
    }

    /// The volume's directory with `payload` in it from the start.
    pub fn loaded(&mut self, payload: Payload, generation: Arc<str>) -> NewNode {
        NewNode::dir(self.root_attr(), self.contents(payload, generation))
    }

    /// What the directory of a volume that shows nothing yet holds once `payload` is in it.
    pub fn contents(&mut self, payload: Payload, generation: Arc<str>) -> Vec<(Arc<str>, NewNode)> {
        self.shown = None;
        let mut children: Vec<(Arc<str>, NewNode)> = Vec::new();
        for step in self.write(payload, generation).steps {
            match step {
                Step::Mkdir { name, node } | Step::Mkfile { name, node } | Step::Symlink { name, node } => {
                    children.push((name, node));
                }
                Step::Rename { from, to } => {
                    children.iter_mut().filter(|(name, _)| *name == from).for_each(|(name, _)| *name = to.clone());
                }
                // A first write removes nothing.
                Step::Unlink { .. } | Step::RemoveAll { .. } => {}
            }
        }
        children
    }

    /// What to do so that the directory is empty, as before the first write.
    pub fn clear(&mut self) -> Update {
        let Some(old) = self.shown.take() else { return Update::default() };
        let changed = old.files.paths().cloned().collect();
        let steps = match self.layout {
            Layout::Kubelet => {
                let unlink = |name| Step::Unlink { name };
                let names = old.files.top_names();
                let mut steps: Vec<Step> = names.difference(&self.taken).cloned().map(unlink).collect();
                steps.push(unlink("..data".into()));
                steps.push(Step::RemoveAll { name: old.generation });
                steps
            }
            Layout::Flat => flat::steps(Some(&old), &Payload::default(), &self.ownership),
        };
        Update { steps, changed }
    }

    /// Whether the directory shows these paths with these bytes.
    pub fn shows(&self, payload: &Payload) -> bool {
        self.shown.as_ref().is_some_and(|shown| shown.files == Outline::of(payload))
    }

    /// Whether the kubelet could write `payload` here. It cannot where one path needs a directory and another, of the same
    /// payload or of what is there now, is a file of that name.
    pub fn can_write(&self, payload: &Payload) -> Result<(), Clash> {
        payload.check()?;
        let shown = self.shown.as_ref().filter(|_| self.layout == Layout::Kubelet);
        let was_file = |path: &str| shown.is_some_and(|shown| shown.files.has(path));
        let is_file = |path: &str| payload.get(path).is_some();
        let new = payload.iter().flat_map(|(path, _)| parents(path)).find(|parent| was_file(parent));
        let old = shown.into_iter().flat_map(|shown| shown.files.paths());
        let found = new.or_else(|| old.flat_map(|path| parents(path)).find(|parent| is_file(parent)));
        found.map_or(Ok(()), |path| Err(Clash { path: path.to_owned() }))
    }

    /// What to do so that the directory shows `payload`; nothing if it does already. Only content and paths count: a
    /// payload that differs in modes alone changes nothing, as with the kubelet.
    /// `generation` must be a name that this directory has not had yet.
    pub fn write(&mut self, payload: Payload, generation: Arc<str>) -> Update {
        let files = Outline::of(&payload);
        if self.shown.as_ref().is_some_and(|shown| shown.files == files) {
            return Update::default();
        }
        let old = self.shown.take();
        let changed = match &old {
            Some(old) => old.files.differences(&files),
            None => files.paths().cloned().collect(),
        };
        let steps = match self.layout {
            Layout::Kubelet => kubelet::steps(old.as_ref(), &payload, &generation, self),
            Layout::Flat => flat::steps(old.as_ref(), &payload, &self.ownership),
        };
        self.shown = Some(Shown { generation, files });
        Update { steps, changed }
    }
}

#[cfg(test)]
mod tests;
