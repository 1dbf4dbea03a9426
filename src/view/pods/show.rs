//! Shows pods: asks for what they need, fills their directories, and carries out what changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;

use super::places::{Path, Places};
use super::{Shown, Stage};
use crate::object::{Body, Object, ObjectId};
use crate::pod::{self, Subject};
use crate::source::Set;
use crate::store::{Known, Refusal};
use crate::tree::{Error, Ino, Tree};
use crate::view::shape::{Shape, walk};
use crate::view::{View, names_dir};
use crate::volume::{NewBody, NewNode, Step};

/// The pod, unless its containers have run to their end: the kubelet then takes its volumes down.
pub(in crate::view) fn running(known: &Known) -> Option<&Arc<Object>> {
    let Known::Loaded(object) = known else { return None };
    object.pod().is_some_and(|pod| !pod.has_ended()).then_some(object)
}

impl View {
    // ---- what a pod needs

    /// Asks for all that a pod needs, until there is an answer for each. Nothing is shown yet.
    pub(in crate::view) async fn gather_pod(self: &Arc<Self>, object: &Object) {
        let id = object.id();
        self.pods.lock().shown.entry(id.clone()).or_insert_with(|| Shown {
            stage: Stage::Gathering,
            skeleton: Default::default(),
            places: Places::new(self.options.ownership, self.options.strict.parts),
            volumes: Default::default(),
            problems: Vec::new(),
            needs: BTreeSet::new(),
            resync: Default::default(),
        });
        // Before all else, since it can say that no token is needed, and rights for none may be there.
        let account = pod::account(object).filter(|id| !self.pods.lock().asked.contains_key(id));
        let account: Vec<ObjectId> = account.into_iter().collect();
        self.need_all(&account).await;
        loop {
            let needs = self.needs_of(object);
            let wanted = self.pods.lock().not_asked(&needs);
            tokio::join!(
                self.need_all(&wanted),
                self.hold_tokens(id, needs.tokens.clone()),
                self.need_bundles(needs.bundles)
            );
            // Answers can bring up more that is needed.
            let needs = self.needs_of(object);
            if self.pods.lock().not_asked(&needs).is_empty() {
                break;
            }
        }
        if let Some(shown) = self.pods.lock().shown.get_mut(id)
            && shown.stage == Stage::Gathering
        {
            shown.stage = Stage::Gathered;
        }
    }

    /// What a pod needs now. Takes note of it, and lets go of what nothing shown needs any more.
    fn needs_of(&self, object: &Object) -> pod::Needs {
        let Some(subject) = self.subject(object) else { return pod::Needs::default() };
        let (needs, unused) = {
            let mut state = self.pods.lock();
            let mut needs = state.needs(&subject, &self.store);
            needs.objects.extend(pod::account(object));
            (needs.clone(), state.set_needs(object.id(), needs.objects))
        };
        self.let_go_of(unused);
        needs
    }

    fn let_go_of(&self, unused: Vec<ObjectId>) {
        // What has a directory of its own in this view is that directory's.
        let has_none = |id: &&ObjectId| self.shape.path(id).is_none() || !self.is_listed(id);
        unused.iter().filter(has_none).for_each(|id| self.source.forget(id));
    }

    async fn need_all(&self, wanted: &[ObjectId]) {
        let asked = wanted.iter().map(|id| async move {
            let answer = tokio::time::timeout(self.options.patience, self.source.need(id.clone())).await;
            let refusal = match answer {
                Ok(answer) => answer.err(),
                Err(_) => Some(Refusal::TimedOut { what: id.to_string(), from: self.source.describe() }),
            };
            self.pods.lock().asked.insert(id.clone(), refusal);
        });
        join_all(asked).await;
    }

    async fn need_bundles(&self, needed: bool) {
        if !needed || self.pods.lock().bundles.is_some() {
            return;
        }
        let answer = tokio::time::timeout(self.options.patience, self.source.gather(Set::TrustBundles)).await;
        let what = "the ClusterTrustBundles".to_owned();
        let answer = answer.unwrap_or_else(|_| Err(Refusal::TimedOut { what, from: self.source.describe() }));
        self.pods.lock().bundles = Some(answer);
    }

    /// The pod for the rules.
    fn subject(&self, object: &Object) -> Option<Subject> {
        let account = pod::account(object).and_then(|id| match self.store.get(&id)? {
            Known::Loaded(account) => match account.body {
                Body::ServiceAccount { automount } => automount,
                _ => None,
            },
            Known::Named(_) => None,
        });
        Subject::of(object, account)
    }

    // ---- its directory

    /// Somebody looks into the directory of a pod in a view of names.
    pub(in crate::view) async fn fill_pod(self: &Arc<Self>, dir: Ino, object: &Object) -> Result<(), Error> {
        if self.pods.stage(object.id()) != Some(Stage::Filled) {
            self.gather_pod(object).await;
            self.tree.fill(dir, self.pod_children(object))?;
            self.attributes_changed(dir);
            self.pod_is_filled(object.id());
        }
        Ok(())
    }

    /// Makes an explicit pod, or one of a node, like the store: there, gone, or changed.
    pub(in crate::view) async fn take_pod(self: &Arc<Self>, id: &ObjectId) {
        let known = self.store.get(id);
        let object = match (&known, &self.shape) {
            (Some(known @ Known::Loaded(_)), Shape::Node { .. }) => running(known),
            (Some(Known::Loaded(object)), _) => Some(object),
            _ => None,
        };
        match (object, self.pods.stage(id)) {
            (Some(object), None) => self.gather_later(object.clone()),
            // Whoever gathers has us look again.
            (Some(_), Some(Stage::Gathering)) | (None, None) => {}
            (Some(object), Some(Stage::Gathered)) => self.make_pod(object).await,
            (Some(_), Some(Stage::Filled)) => self.refresh_pod(id).await,
            (None, Some(_)) => self.unmake_pod(id).await,
        }
    }

    /// Asks for what a pod needs beside all else, then has it looked at.
    fn gather_later(self: &Arc<Self>, object: Arc<Object>) {
        let view = self.clone();
        tokio::spawn(async move {
            view.gather_pod(&object).await;
            view.store.look_again(object.id().clone());
        });
    }

    async fn make_pod(self: &Arc<Self>, object: &Object) {
        let children = self.pod_children(object);
        match &self.shape {
            Shape::Node { .. } => {
                let id = object.id();
                let namespace: Arc<str> = id.namespace.as_str().into();
                if self.tree.child(Ino::ROOT, &namespace).is_none() {
                    let node = names_dir(&self.options, Vec::new());
                    self.carry_out(Ino::ROOT, vec![Step::Mkdir { name: namespace.clone(), node }].into()).await;
                }
                if let Some(parent) = self.tree.child(Ino::ROOT, &namespace) {
                    let node = names_dir(&self.options, children);
                    self.carry_out(parent, vec![Step::Mkdir { name: id.name.as_str().into(), node }].into()).await;
                }
            }
            Shape::Names { .. } => self.show_node(object.id(), names_dir(&self.options, children)).await,
            // The first time nobody can have seen it.
            _ if self.tree.names(Ino::ROOT) == Some(crate::tree::Names::Unread) => {
                if let Err(error) = self.tree.fill(Ino::ROOT, children) {
                    tracing::error!(pod = %object.id(), %error, "cannot show the pod's containers");
                }
            }
            _ => {
                let step = |(name, node): (Arc<str>, NewNode)| match node.body {
                    NewBody::File(_) => Step::Mkfile { name, node },
                    _ => Step::Mkdir { name, node },
                };
                self.carry_out(Ino::ROOT, children.into_iter().map(step).collect::<Vec<_>>().into()).await;
            }
        }
        self.pod_is_filled(object.id());
    }

    /// The pod is gone. A mount that nobody asked to end does not end: an explicit one is empty until the pod comes back.
    async fn unmake_pod(&self, id: &ObjectId) {
        let containers = self.drop_pod(id);
        match &self.shape {
            Shape::Node { .. } => {
                let namespace: Arc<str> = id.namespace.as_str().into();
                let Some(parent) = walk(&self.tree, std::slice::from_ref(&namespace)) else { return };
                self.carry_out(parent, vec![Step::RemoveAll { name: id.name.as_str().into() }].into()).await;
                if self.tree.is_empty(parent) {
                    self.carry_out(Ino::ROOT, vec![Step::RemoveAll { name: namespace }].into()).await;
                }
            }
            _ => {
                let remove = |name| Step::RemoveAll { name };
                self.carry_out(Ino::ROOT, containers.into_iter().map(remove).collect::<Vec<_>>().into()).await;
            }
        }
    }

    /// Keeps a pod current no more. Gives the names of its containers.
    pub(in crate::view) fn drop_pod(&self, id: &ObjectId) -> Vec<Arc<str>> {
        let Some((containers, unused)) = self.pods.drop_pod(id) else { return Vec::new() };
        self.let_go_of(unused);
        containers
    }

    /// What the directory of a pod holds that [`View::gather_pod`] has been called for.
    fn pod_children(&self, object: &Object) -> Vec<(Arc<str>, NewNode)> {
        let Some(subject) = self.subject(object) else { return Vec::new() };
        self.pods.lock().children(&subject, &self.store, &self.options)
    }

    /// The pod's directory has been filled: from now on it is kept current.
    fn pod_is_filled(&self, id: &ObjectId) {
        if let Some(shown) = self.pods.lock().shown.get_mut(id) {
            shown.stage = Stage::Filled;
        }
        // For what has changed meanwhile.
        self.store.look_again(id.clone());
    }

    /// Makes a shown pod like what is known now.
    pub(in crate::view) async fn refresh_pod(self: &Arc<Self>, id: &ObjectId) {
        let Some(Known::Loaded(object)) = self.store.get(id) else { return };
        let Some(dir) = self.dir(id).filter(|_| self.pods.stage(id) == Some(Stage::Filled)) else { return };
        let needs = self.needs_of(&object);
        if self.pods.lock().lacks(&needs) {
            return self.gather_later(object);
        }
        if !self.may_sync(&object) {
            return;
        }
        let Some(subject) = self.subject(&object) else { return };
        let works = self.pods.lock().changes(&subject, &self.store, &self.options);
        for (path, update) in works {
            match below(&self.tree, dir, &path) {
                Some(dir) => self.carry_out(dir, update).await,
                None => tracing::error!(pod = %id, "a directory of the pod is not where it should be"),
            }
        }
    }
}

/// The directory at a path below another one.
fn below(tree: &Tree, dir: Ino, path: &Path) -> Option<Ino> {
    path.iter().try_fold(dir, |dir, name| tree.child(dir, name))
}
