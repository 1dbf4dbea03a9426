//! The rights that a mount of each sort of SOURCE needs.
//!
//! Without `watch` a mount still works, but asks at intervals and tells of changes late; the right is among what is needed.

use super::{Resource, Rights, Verb};
use crate::object::{Kind, Name, Namespace, Object, ObjectId};
use crate::pod::{self, Needs, Subject};

/// What follows one object by its name.
const FOLLOW: &[Verb] = &[Verb::Get, Verb::Watch];
/// What keeps a list of names current.
const NAMES: &[Verb] = &[Verb::List, Verb::Watch];
/// The same, and reads what is in the objects.
const LIST: &[Verb] = &[Verb::Get, Verb::List, Verb::Watch];

impl Rights {
    /// Of one object.
    pub fn object(id: &ObjectId) -> Rights {
        let mut rights = Rights::default();
        rights.follow(id);
        rights
    }

    /// Of a pod, or of what makes pods, with all that its files need. `automount` is what its ServiceAccount says. One that
    /// stands in a manifest needs what it will need when it has been applied. `None` if `object` is nothing of that sort.
    pub fn pod(object: &Object, automount: Option<bool>) -> Option<Rights> {
        let mut rights = Rights::object(object.id());
        // The API server decides about a pod's token when it admits the pod, before a mount can see it.
        let account = if object.id().kind == Kind::Pod { None } else { pod::account(object) };
        account.iter().for_each(|id| rights.follow(id));
        let Needs { objects, tokens, bundles } = pod::all_needs(&Subject::of(object, automount)?);
        objects.iter().for_each(|id| rights.follow(id));
        for ask in &tokens {
            rights.add(Some(&ask.namespace), Resource::Tokens, Some(&ask.service_account), &[Verb::Create]);
        }
        if bundles {
            rights.add(None, Resource::Objects(Kind::ClusterTrustBundle), None, NAMES);
        }
        Some(rights)
    }

    /// Of a node's pods: pods come and go, so that their needs are not known by name.
    pub fn node(node: &Name) -> Rights {
        let mut rights = Rights::default();
        rights.add(None, Resource::Objects(Kind::Pod), None, NAMES);
        rights.any_pod(None);
        rights.add(None, Resource::Objects(Kind::Node), Some(node), FOLLOW);
        rights
    }

    /// Of all objects of these kinds, in one namespace or in all.
    pub fn names(namespace: Option<&Namespace>, kinds: &[Kind]) -> Rights {
        let mut rights = Rights::default();
        if namespace.is_none() {
            rights.add(None, Resource::Namespaces, None, NAMES);
        }
        kinds.iter().for_each(|kind| rights.add(namespace, Resource::Objects(*kind), None, LIST));
        if kinds.contains(&Kind::Pod) {
            rights.any_pod(namespace);
            rights.add(None, Resource::Objects(Kind::Node), None, FOLLOW);
        }
        rights
    }

    fn follow(&mut self, id: &ObjectId) {
        let namespace = id.kind.is_namespaced().then_some(&id.namespace);
        self.add(namespace, Resource::Objects(id.kind), Some(&id.name), FOLLOW);
    }

    /// What files of pods that nobody knows yet may need, but for nodes.
    fn any_pod(&mut self, namespace: Option<&Namespace>) {
        Kind::DATA.iter().for_each(|kind| self.add(namespace, Resource::Objects(*kind), None, FOLLOW));
        self.add(namespace, Resource::Tokens, None, &[Verb::Create]);
        self.add(None, Resource::Objects(Kind::ClusterTrustBundle), None, LIST);
    }
}
