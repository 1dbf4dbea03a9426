//! The rules of a pod: which files are in each of its volumes, and where its containers mount them.
//!
//! Pure data and pure functions, as the kubelet has them. What they need to know beyond the pod itself they ask a [`Lookup`];
//! [`needs`] and [`mount_needs`] say beforehand what that will be, so that whoever has to fetch it fetches no more.

mod collect;
mod downward;
mod environment;
mod expand;
mod field;
mod inject;
mod keys;
mod mounts;
mod needs;
mod nested;
mod path;
mod problem;
mod quantity;
mod quote;
mod resources;
mod token;
mod trust;
mod user;

pub use collect::collect;
pub use inject::{account, inject};
pub use mounts::{Mount, Mounts, mount_needs, mounts};
pub use needs::{Needs, all_needs, mounted, needs};
pub use nested::nested;
pub use problem::Problem;

use std::sync::Arc;

use crate::object::pod::{PodVolume, VolumeSource};
use crate::object::{Kind, Name, Object, ObjectId, Pod, TokenAsk, Value};
use crate::volume::Backing;

/// Whose pod it is.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The pod's, or that of the workload that makes it. What a template's pods will be called is not known, so that
    /// `metadata.name` in their files is the workload's name.
    pub id: ObjectId,
    /// Of a pod that exists in a cluster, else empty.
    pub uid: Arc<str>,
    pub pod: Arc<Pod>,
}

impl Subject {
    /// The pod that `object` is or makes; `None` if it is no such thing. What no API server has admitted yet gets its
    /// token volume here, if `automount`, which is what its ServiceAccount says, does not forbid it: see [`inject`].
    pub fn of(object: &Object, automount: Option<bool>) -> Option<Self> {
        let mut pod = object.pod()?.clone();
        let id = object.meta.id.clone();
        if id.kind == Kind::Pod && !object.meta.is_declared() {
            return Some(Subject { id, uid: object.meta.uid.clone(), pod: Arc::new(pod) });
        }
        inject(&mut pod, automount, object.meta.is_declared());
        Some(Subject { id, uid: "".into(), pod: Arc::new(pod) })
    }

    /// Whether the pod exists in a cluster.
    pub fn is_live(&self) -> bool {
        self.id.kind == Kind::Pod && !self.uid.is_empty()
    }

    /// The id of an object in the pod's namespace, or in none if the kind is in none.
    fn object(&self, kind: Kind, name: &str) -> Option<ObjectId> {
        let namespace = if kind.is_namespaced() { self.id.namespace.clone() } else { crate::object::Namespace::none() };
        Some(ObjectId { namespace, kind, name: Name::of(kind, name).ok()? })
    }
}

/// What is known of something that a pod's files need.
#[derive(Clone, Debug)]
pub enum Have<T> {
    Ready(T),
    /// It is sure not to exist.
    Missing,
    /// It cannot be had; a message that says what it is about and why.
    Refused(String),
    /// Nobody has asked for it yet.
    Unknown,
}

/// What is known beyond the pod.
pub trait Lookup {
    /// A Secret, ConfigMap, Node or ClusterTrustBundle.
    fn object(&self, id: &ObjectId) -> Have<Arc<Object>>;

    /// The token that answers `ask`; `None` where there is nobody to issue one, and its file is left out.
    fn token(&self, ask: &TokenAsk) -> Have<Option<Value>>;

    /// All ClusterTrustBundles.
    fn bundles(&self) -> Have<Vec<Arc<Object>>>;
}

/// What the volume's directory lies on; `None` if its content is not the API server's to give.
pub fn backing(volume: &PodVolume) -> Option<Backing> {
    match volume.source {
        VolumeSource::ConfigMap(_) => Some(Backing::Disk),
        VolumeSource::Secret(_) | VolumeSource::DownwardApi(_) | VolumeSource::Projected(_) => Some(Backing::Memory),
        VolumeSource::Other { .. } => None,
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
