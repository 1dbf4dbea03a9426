//! What the mount's directories show: one object, a pod, a node's pods, a namespace or a cluster.
//!
//! The view is the store's only reader. It keeps the tree like the store: it makes and removes directories as names
//! come and go, and rewrites a volume when its object changes. What the kernel already holds goes through the publisher,
//! one update at a time; what somebody asks for first is fetched from the source and filled in beside that, because an
//! update may have to wait for exactly that answer.

mod cache;
mod eager;
mod generation;
mod names;
mod pods;
mod shape;

use pods::Pods;
pub use pods::{PodProblem, PodsReport, SYNC_PERIOD};
pub use shape::Shape;
use shape::walk;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;

use crate::object::{Kind, Namespace, Object, ObjectId};
use crate::publisher::Publisher;
use crate::source::{Scope, Set, Source};
use crate::store::{Access, Change, Known, Refusal, Store};
use crate::sync::Mirror;
use crate::tree::{Call, Demand, Error, Ino, Names, Outcome, Tree};
use crate::volume::{Backing, Layout, NewBody, NewNode, Ownership, Payload, Step, Update, Volume, of_object};
use generation::generation_name;

/// How a view shows what it shows.
#[derive(Clone, Debug)]
pub struct Options {
    pub layout: Layout,
    pub ownership: Ownership,
    /// How long somebody who asks for content that is not here waits at most. The source has its own deadlines; this
    /// one holds even if the source breaks its promise.
    pub patience: Duration,
    /// How many bytes of values of a view are kept: see [`cache`].
    pub cache_bytes: usize,
    pub strict: Strict,
    /// No service account tokens are asked for.
    pub no_tokens: bool,
    /// Everything is fetched before anybody asks, and shown once it is here: for files that somebody has to write.
    pub eager: bool,
}

impl Options {
    /// Everything is kept, tokens are asked for, and updates come at once.
    pub fn new(layout: Layout, ownership: Ownership, patience: Duration) -> Self {
        let (cache_bytes, strict) = (usize::MAX, Strict::default());
        Options { layout, ownership, patience, cache_bytes, strict, no_tokens: false, eager: false }
    }
}

/// Where a pod's volumes are to be as stiff as the kubelet's: see docs/SEMANTICS.md.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strict {
    /// Parts of volumes (subPath) stay what they were at first.
    pub parts: bool,
    /// Volumes of pods are brought up to date when their pod changes, and otherwise after this time or up to half of it more:
    /// [`SYNC_PERIOD`] is the kubelet's. `None`: at once.
    pub updates: Option<Duration>,
}

/// How the kernel is told what no system call tells it.
pub trait Notices: Send + Sync {
    /// Attributes of this inode that the kernel holds are no longer true.
    fn attributes_changed(&self, ino: Ino);
}

/// Where people see the view. Without it, every update is applied directly.
#[derive(Clone)]
enum Live {
    Mount { publisher: Option<Arc<Publisher>>, notices: Arc<dyn Notices> },
    Files(Arc<Mirror>),
}

/// See the module's documentation.
pub struct View {
    shape: Shape,
    options: Options,
    store: Arc<Store>,
    source: Arc<dyn Source>,
    tree: Arc<Tree>,
    calls: Mutex<Option<mpsc::UnboundedReceiver<Call>>>,
    /// The volumes whose content is shown. Directories of other objects are there too, unloaded.
    volumes: Mutex<HashMap<ObjectId, Volume>>,
    pods: Pods,
    live: Mutex<Option<Live>>,
    /// Who is told of updates, if somebody is.
    updates: Mutex<Option<mpsc::UnboundedSender<String>>>,
    /// Objects that an eager view is fetching.
    wanted: Mutex<HashSet<ObjectId>>,
}

impl View {
    /// A view with its root directory and nothing in it yet: see [`View::load`].
    pub fn new(shape: Shape, options: Options, store: Arc<Store>, source: Arc<dyn Source>) -> Arc<Self> {
        // At most one message for each thing that somebody waits for: the tree asks once.
        let (send, calls) = mpsc::unbounded_channel();
        let root = match &shape {
            Shape::Object(id) => NewNode::dir(
                Volume::new(Backing::of(id.kind), options.layout, options.ownership).root_attr(),
                Vec::new(),
            ),
            Shape::Pod(_) => unread_dir(&options),
            Shape::Node { .. } | Shape::Names { namespace: None, .. } => names_dir(&options, Vec::new()),
            Shape::Names { namespace: Some(_), .. } => namespace_dir(&shape, &options, |_| Access::Listed),
        };
        let tree = Tree::new(root, move |call| {
            let _ = send.send(call);
        });
        Arc::new(View {
            shape,
            options,
            store,
            source,
            tree: Arc::new(tree),
            calls: Mutex::new(Some(calls)),
            volumes: Mutex::default(),
            pods: Pods::default(),
            live: Mutex::default(),
            updates: Mutex::default(),
            wanted: Mutex::default(),
        })
    }

    pub fn tree(&self) -> Arc<Tree> {
        self.tree.clone()
    }

    /// What of the shown pods is not as in the pods.
    pub fn pods_report(&self) -> PodsReport {
        self.pods.report()
    }

    fn volumes(&self) -> MutexGuard<'_, HashMap<ObjectId, Volume>> {
        self.volumes.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn new_volume(&self, kind: Kind) -> Volume {
        Volume::new(Backing::of(kind), self.options.layout, self.options.ownership)
    }

    /// The object's directory, if it has one.
    fn dir(&self, id: &ObjectId) -> Option<Ino> {
        walk(&self.tree, &self.shape.path(id)?)
    }

    /// Asks the source for what the view needs and shows it: what was named explicitly with its content, otherwise the names.
    ///
    /// Errors: the object does not exist, or the source refuses.
    pub async fn load(self: &Arc<Self>) -> Result<(), Refusal> {
        match &self.shape {
            Shape::Object(id) => {
                self.source.follow(id.clone()).await?;
            }
            Shape::Pod(id) => {
                let object = self.source.follow(id.clone()).await?;
                self.gather_pod(&object).await;
            }
            Shape::Node { node, selector } => {
                self.source.gather(Set::PodsOf { node: node.clone(), selector: selector.clone() }).await?;
                let pods = self.store.objects(Kind::Pod, None);
                join_all(pods.iter().filter_map(pods::running).map(|pod| self.gather_pod(pod))).await;
            }
            Shape::Names { namespace, kinds, selector } => {
                let scope = Scope { namespace: namespace.clone(), kinds: kinds.clone(), selector: selector.clone() };
                self.source.list(scope).await?;
                if self.options.eager {
                    self.load_all().await;
                }
                for (namespace, kind) in namespace.iter().flat_map(|one| kinds.iter().map(move |kind| (one, *kind))) {
                    if self.store.access(namespace, kind) == Access::ByName {
                        tracing::warn!("{}", by_name(namespace, kind));
                    }
                }
            }
        }
        while let Some(change) = self.store.take_change() {
            self.take(change).await;
        }
        Ok(())
    }

    /// From now on the kernel serves readers: updates of what it holds go through `publisher`, if there is one.
    pub fn go_live(&self, publisher: Option<Publisher>, notices: Arc<dyn Notices>) {
        if publisher.is_some() {
            self.tree.set_published();
        }
        *self.live_lock() = Some(Live::Mount { publisher: publisher.map(Arc::new), notices });
    }

    /// From now on every update is written into a directory, too.
    pub fn go_to_files(&self, mirror: Arc<Mirror>) {
        *self.live_lock() = Some(Live::Files(mirror));
    }

    /// The mount is gone: lets go of the publisher, which would otherwise keep the file system alive.
    pub fn retire(&self) {
        *self.live_lock() = None;
    }

    /// Tells of every update from now on, after people can see it: what has changed, as paths below the mount point. See
    /// [`Update::changed`]; a directory in which no file has changed is told itself, the mount point as "".
    pub fn updates(&self) -> mpsc::UnboundedReceiver<String> {
        let (send, updates) = mpsc::unbounded_channel();
        *self.updates.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(send);
        updates
    }

    fn tell_update(&self, dir: Ino, changed: &[Arc<str>]) {
        let updates = self.updates.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (Some(updates), Ok(above)) = (&*updates, self.tree.path(dir)) else { return };
        for path in changed {
            let _ = updates.send(if above.is_empty() { path.to_string() } else { format!("{above}/{path}") });
        }
        if changed.is_empty() {
            let _ = updates.send(above);
        }
    }

    fn live_lock(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Follows the store and answers the tree until the future is dropped.
    pub async fn run(self: Arc<Self>) {
        let calls = self.calls.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let Some(mut calls) = calls else { return };
        let meet = async {
            while let Some(call) = calls.recv().await {
                match call {
                    Call::Demand(demand) => {
                        let view = self.clone();
                        tokio::spawn(async move { view.meet(demand).await });
                    }
                    Call::Unused(dir) => self.let_go(dir),
                }
            }
        };
        let follow = async {
            loop {
                let change = self.store.next_change().await;
                self.take(change).await;
            }
        };
        tokio::join!(meet, follow);
    }

    /// Fetches what somebody waits for.
    async fn meet(self: &Arc<Self>, demand: Demand) {
        let found = match (self.tree.path(demand.dir), &demand.name) {
            (Err(_), _) => Err(Error::NotFound),
            (Ok(path), Some(name)) => self.meet_name(&demand, &path, name).await,
            (Ok(path), None) => match (self.shape.place_at(&path), self.shape.object_at(&path)) {
                (Some((namespace, kind)), _) => self.meet_names(namespace, kind).await,
                (None, Some(id)) => self.meet_content(&id, demand.dir).await,
                (None, None) => Err(Error::NotFound),
            },
        };
        // Whatever has come to nothing, nobody is left waiting.
        self.tree.refuse(&demand, found.err().unwrap_or(Error::NotFound));
    }

    /// Fetches an object's content, for the first time or because it was let go of.
    async fn meet_content(self: &Arc<Self>, id: &ObjectId, dir: Ino) -> Result<(), Error> {
        let object = self.ask(id).await?;
        if id.kind.has_pod() {
            return self.fill_pod(dir, &object).await;
        }
        if self.tree.is_dropped(dir) {
            self.restore(id, dir, &object)?;
        } else {
            self.fill(id, &object);
        }
        self.trim();
        Ok(())
    }

    /// Asks the source for an object.
    async fn ask(&self, id: &ObjectId) -> Result<Arc<Object>, Error> {
        self.in_time(self.source.follow(id.clone()), &id.to_string()).await
    }

    /// Waits for the source, but not for ever.
    async fn in_time<T>(&self, asked: impl Future<Output = Result<T, Refusal>>, what: &str) -> Result<T, Error> {
        match tokio::time::timeout(self.options.patience, asked).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(Refusal::NotFound { .. })) => Err(Error::NotFound),
            Ok(Err(refusal)) => {
                tracing::warn!(what, "cannot be read now: {refusal}");
                Err(Error::Unavailable(refusal.errno()))
            }
            Err(_) => {
                tracing::warn!(what, "cannot be read now: no answer from the source in time");
                Err(Error::Unavailable(libc::ETIMEDOUT))
            }
        }
    }

    /// Gives an object's directory its first content; does nothing if it has some.
    fn fill(&self, id: &ObjectId, object: &Object) {
        let Some(dir) = self.dir(id) else { return };
        let children = {
            let mut volumes = self.volumes();
            if volumes.contains_key(id) {
                return;
            }
            let mut volume = self.new_volume(id.kind);
            let children = volume.contents(of_object(object), generation_name());
            volumes.insert(id.clone(), volume);
            children
        };
        if let Err(error) = self.tree.fill(dir, children) {
            tracing::error!(object = %id, %error, "cannot show the object's content");
        }
        self.attributes_changed(dir);
    }

    fn attributes_changed(&self, dir: Ino) {
        if let Some(Live::Mount { notices, .. }) = &*self.live_lock() {
            notices.attributes_changed(dir);
        }
    }

    /// Makes the tree like the store in what `change` names.
    async fn take(self: &Arc<Self>, change: Change) {
        match change {
            Change::Namespace(namespace) if self.shape.lists_namespaces() => self.take_namespace(namespace).await,
            Change::Access(namespace, kind) if self.shape.is_names() => self.take_access(&namespace, kind),
            Change::Namespace(_) | Change::Access(..) => {}
            Change::Gathered(kind) => {
                for pod in self.pods.hear_of_all(kind) {
                    self.refresh_pod(&pod).await;
                }
            }
            Change::Object(id) => {
                self.pods.hear_of(&id, &self.store);
                for pod in self.pods.users_of(&id) {
                    self.refresh_pod(&pod).await;
                }
                match &self.shape {
                    shape if shape.path(&id).is_none() => {}
                    Shape::Object(_) => self.take_root(&id).await,
                    Shape::Pod(_) | Shape::Node { .. } => self.take_pod(&id).await,
                    Shape::Names { .. } => self.take_object(&id).await,
                }
            }
        }
    }

    async fn take_namespace(self: &Arc<Self>, namespace: Namespace) {
        let name: Arc<str> = namespace.as_str().into();
        match (self.store.has_namespace(&namespace), self.tree.child(Ino::ROOT, &name)) {
            (true, None) => self.make_namespace(&namespace).await,
            // Its objects went before it: the store announces them first.
            (false, Some(_)) => {
                let kinds =
                    self.shape.kinds().iter().filter_map(|kind| walk(&self.tree, &self.shape.place(&namespace, *kind)));
                kinds.for_each(|place| self.tree.seal(place));
                self.carry_out(Ino::ROOT, vec![Step::RemoveAll { name }].into()).await;
            }
            _ => {}
        }
    }

    async fn make_namespace(self: &Arc<Self>, namespace: &Namespace) {
        if self.options.eager {
            self.look_later(namespace);
        }
        let node = namespace_dir(&self.shape, &self.options, |kind| self.store.access(namespace, kind));
        let name = namespace.as_str().into();
        self.carry_out(Ino::ROOT, vec![Step::Mkdir { name, node }].into()).await;
    }

    async fn take_object(self: &Arc<Self>, id: &ObjectId) {
        if self.options.eager && self.wait_for(id).await {
            return;
        }
        match (self.store.get(id).filter(|_| self.is_listed(id)), self.dir(id)) {
            (Some(known), None) => self.show(id, known).await,
            (Some(_), Some(_)) if id.kind.has_pod() => self.refresh_pod(id).await,
            (Some(Known::Loaded(object)), Some(dir)) => self.rewrite(id, dir, &object).await,
            (Some(Known::Named(_)), Some(dir)) if self.store.is_withdrawn(id) => self.withdraw(id, dir).await,
            // Gone and made again before we looked: what is shown is the old one's, so its successor is fetched.
            (Some(Known::Named(_)), Some(_)) if self.volumes().contains_key(id) => {
                let (source, id) = (self.source.clone(), id.clone());
                tokio::spawn(async move { source.follow(id).await });
            }
            (Some(Known::Named(_)), Some(_)) | (None, None) => {}
            (None, Some(dir)) => {
                self.volumes().remove(id);
                self.drop_pod(id);
                self.tree.seal(dir);
                self.remove(id).await;
                // Where names are asked for one by one, this one will be asked for again.
                let by_name = self.store.access(&id.namespace, id.kind) == Access::ByName;
                if by_name && self.store.get(id).is_none() && !self.pods.uses(id) {
                    self.source.forget(id);
                }
            }
        }
    }

    /// Whether an object that is known has a directory of its own here. What a shown pod needs may be known although the labels
    /// that the view picks are not its labels. Where names are not listed, who knows a name sees the object.
    fn is_listed(&self, id: &ObjectId) -> bool {
        !self.store.is_hidden(id) || self.store.access(&id.namespace, id.kind) != Access::Listed
    }

    /// Makes a new object's directory.
    async fn show(self: &Arc<Self>, id: &ObjectId, known: Known) {
        if self.place_of(id).await.is_some() {
            self.show_node(id, self.object_dir(id, &known)).await;
        }
    }

    /// Makes an object's directory, and the namespace's if the object is known before it.
    async fn show_node(self: &Arc<Self>, id: &ObjectId, node: NewNode) {
        if let Some((parent, name)) = self.place_of(id).await {
            self.carry_out(parent, vec![Step::Mkdir { name, node }].into()).await;
        }
    }

    /// The directory in which an object's own is to be made now, and its name in it.
    async fn place_of(self: &Arc<Self>, id: &ObjectId) -> Option<(Ino, Arc<str>)> {
        let path = self.shape.path(id).unwrap_or_default();
        let (name, parents) = path.split_last()?;
        if self.shape.has_namespaces() && self.tree.child(Ino::ROOT, &parents[0]).is_none() {
            self.make_namespace(&id.namespace).await;
        }
        let parent = walk(&self.tree, parents)?;
        // Else it comes with the others, or whoever asked for it gets it.
        (self.tree.names(parent) == Some(Names::Known)).then(|| (parent, name.clone()))
    }

    async fn remove(&self, id: &ObjectId) {
        let path = self.shape.path(id).unwrap_or_default();
        let Some((name, parents)) = path.split_last() else { return };
        if let Some(parent) = walk(&self.tree, parents) {
            self.carry_out(parent, vec![Step::RemoveAll { name: name.clone() }].into()).await;
        }
    }

    /// The root is the object's own volume. When the object goes, the volume is emptied, as the kubelet does with an
    /// optional one: a mount that nobody asked to end does not end.
    async fn take_root(&self, id: &ObjectId) {
        let payload = match self.store.get(id) {
            Some(Known::Loaded(object)) => of_object(&object),
            Some(Known::Named(_)) => return,
            None if self.store.is_withdrawn(id) => return self.withdraw(id, Ino::ROOT).await,
            None => Payload::default(),
        };
        if self.tree.names(Ino::ROOT) == Some(Names::Denied) {
            let _ = self.tree.set_names(Ino::ROOT, Names::Known);
        }
        let update = {
            let mut volumes = self.volumes();
            let volume = volumes.entry(id.clone()).or_insert_with(|| self.new_volume(id.kind));
            volume.write(payload, generation_name())
        };
        self.carry_out(Ino::ROOT, update).await;
    }

    /// The user may not see the object's content any more: it goes. An object of a view can be asked for again, an explicit
    /// one is asked for by its source.
    async fn withdraw(&self, id: &ObjectId, dir: Ino) {
        let volume = self.volumes().remove(id);
        let Some(mut volume) = volume else { return };
        self.carry_out(dir, volume.clear()).await;
        let withdrawn = match self.shape {
            Shape::Names { .. } => self.tree.unload(dir, volume.subdirs()),
            _ => self.tree.set_names(dir, Names::Denied),
        };
        if let Err(error) = withdrawn {
            tracing::debug!(?dir, %error, "is gone before its content could be withdrawn");
        }
        self.attributes_changed(dir);
    }

    /// Applies steps, or has the publisher do them where the kernel holds the directory.
    async fn carry_out(&self, dir: Ino, update: Update) {
        if update.is_empty() {
            return;
        }
        let live = self.live_lock().clone();
        if let Some(Live::Files(mirror)) = live {
            return self.write(&mirror, dir, update).await;
        }
        let Update { steps, changed } = update;
        match self.tree.update(dir, steps) {
            Ok(Outcome::Applied) => self.attributes_changed(dir),
            Ok(Outcome::Publish { path, steps }) => {
                let Some(Live::Mount { publisher: Some(publisher), .. }) = live else {
                    self.tree.settle(dir, steps);
                    return self.tell_update(dir, &changed);
                };
                let (left, error) = publisher.publish(path, steps).await;
                if let Some(error) = &error {
                    tracing::warn!(?dir, %error, "an update could not be announced: programs that watch may miss it");
                }
                if self.tree.settle(dir, left) {
                    self.attributes_changed(dir);
                }
            }
            Err(error) => return tracing::error!(?dir, %error, "an update could not be shown"),
        }
        self.tell_update(dir, &changed);
    }

    /// Applies steps, and has them carried out in the directory that is kept like the tree.
    async fn write(&self, mirror: &Arc<Mirror>, dir: Ino, Update { steps, changed }: Update) {
        let _turn = mirror.turn().await;
        match self.tree.path(dir).and_then(|path| self.tree.update(dir, steps.clone()).map(|_| path)) {
            Ok(path) => mirror.publish(path, steps).await,
            Err(error) => return tracing::error!(?dir, %error, "an update could not be shown"),
        }
        self.tell_update(dir, &changed);
    }
}

/// What is said to whoever wants to see names that may not be listed.
pub fn by_name(namespace: &Namespace, kind: Kind) -> String {
    format!("{namespace}: its {} may not be listed: they can be reached by name", kind.plural())
}

/// A namespace's directory, with one for each kind where these are a level.
fn namespace_dir(shape: &Shape, options: &Options, access: impl Fn(Kind) -> Access) -> NewNode {
    match shape.kind_level() {
        Some(kinds) => {
            let place = |kind: &Kind| (kind.plural().into(), place_dir(options, access(*kind)));
            names_dir(options, kinds.iter().map(place).collect())
        }
        None => place_dir(options, shape.kinds().first().map_or(Access::Listed, |kind| access(*kind))),
    }
}

/// A directory of the names of one kind.
fn place_dir(options: &Options, access: Access) -> NewNode {
    match access {
        Access::Listed => names_dir(options, Vec::new()),
        // Whether names may be listed is found out when somebody looks.
        Access::Unread | Access::ByName => unread_dir(options),
    }
}

/// A directory whose names are found out when somebody looks.
fn unread_dir(options: &Options) -> NewNode {
    NewNode { attr: options.ownership.dir(0o755), body: NewBody::Unread }
}

/// A directory of names: not a volume's, so it has no kubelet mode to keep.
fn names_dir(options: &Options, children: Vec<(Arc<str>, NewNode)>) -> NewNode {
    NewNode::dir(options.ownership.dir(0o755), children)
}
