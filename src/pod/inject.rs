//! What the API server's ServiceAccount admission plugin adds to a pod (plugin/pkg/admission/serviceaccount/admission.go).

use crate::object::pod::{
    DownwardItem, DownwardSource, FieldRef, KeyItem, PodVolume, Projected, Projection, SecretSource, TokenSource,
    VolumeMount, VolumeSource,
};
use crate::object::{Kind, Name, Object, ObjectId, Pod};
use crate::volume::DEFAULT_MODE;

const PREFIX: &str = "kube-api-access-";
/// A generated suffix has none of these letters, so that no other volume has this name.
const NAME: &str = "kube-api-access-00000";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// With this life time an API server may issue a token that lasts a year (`WarnOnlyBoundTokenExpirationSeconds`).
const SECONDS: u64 = 3607;

/// Adds the volume with the token for the API server, and its mounts, to a pod that no API server has admitted; one that
/// exists has them. `automount` is what the pod's ServiceAccount says, if it is known to say something.
/// `declared`: it stands in a manifest, where nobody would define the cluster's own certificates, so that they may be missing.
pub fn inject(pod: &mut Pod, automount: Option<bool>, declared: bool) {
    let spec = &mut pod.spec;
    if spec.service_account_name.is_empty() {
        spec.service_account_name = "default".to_owned();
    }
    if !spec.automount_service_account_token.or(automount).unwrap_or(true) {
        return;
    }
    let present = spec.volumes.iter().find(|volume| volume.name.starts_with(PREFIX));
    let name = present.map(|volume| volume.name.clone());
    let mount = VolumeMount {
        name: name.clone().unwrap_or_else(|| NAME.to_owned()),
        mount_path: MOUNT_PATH.to_owned(),
        ..VolumeMount::default()
    };
    let mut used = false;
    for container in spec.init_containers.iter_mut().chain(&mut spec.containers) {
        if container.volume_mounts.iter().all(|mount| mount.mount_path != MOUNT_PATH) {
            container.volume_mounts.push(mount.clone());
            used = true;
        }
    }
    if used && name.is_none() {
        let source = VolumeSource::Projected(token_volume(declared));
        spec.volumes.push(PodVolume { name: NAME.to_owned(), source });
    }
}

/// The ServiceAccount that decides whether the pods of a template or manifest get a token. What the API server has
/// admitted has it already.
pub fn account(object: &Object) -> Option<ObjectId> {
    let admitted = object.id().kind == Kind::Pod && !object.meta.is_declared();
    let spec = &object.pod()?.spec;
    if admitted || spec.automount_service_account_token.is_some() {
        return None;
    }
    let name = Some(spec.service_account_name.as_str()).filter(|name| !name.is_empty()).unwrap_or("default");
    let namespace = object.id().namespace.clone();
    Some(ObjectId { namespace, kind: Kind::ServiceAccount, name: Name::new(name).ok()? })
}

/// `TokenVolumeSource`.
fn token_volume(declared: bool) -> Projected {
    let token = TokenSource { path: "token".to_owned(), expiration_seconds: Some(SECONDS), ..TokenSource::default() };
    let authority = SecretSource {
        name: "kube-root-ca.crt".to_owned(),
        optional: declared,
        items: vec![KeyItem { key: "ca.crt".to_owned(), path: "ca.crt".to_owned(), ..KeyItem::default() }],
        ..SecretSource::default()
    };
    let namespace = DownwardItem {
        path: "namespace".to_owned(),
        field_ref: Some(FieldRef { field_path: "metadata.namespace".to_owned() }),
        ..DownwardItem::default()
    };
    let namespace = DownwardSource { items: vec![namespace], ..DownwardSource::default() };
    Projected {
        default_mode: Some(DEFAULT_MODE),
        sources: vec![
            Projection { service_account_token: Some(token), ..Projection::default() },
            Projection { config_map: Some(authority), ..Projection::default() },
            Projection { downward_api: Some(namespace), ..Projection::default() },
        ],
        ..Projected::default()
    }
}
