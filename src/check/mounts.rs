//! Where containers mount what.

use super::volumes::Payloads;
use super::{Case, Facts, Finding};
use crate::object::pod::{Container, VolumeMount};
use crate::pod::{self, Mount, Mounts};
use crate::volume::Payload;

/// Says what is wrong with the mounts of all containers. What became of a subPath is not
/// shown: it may be made of a secret's value.
pub fn check(case: &Case, facts: &Facts, payloads: &Payloads, found: &mut Vec<Finding>) {
    for (_, container) in case.subject.pod.spec.all_containers() {
        let Mounts { mounts, problems } = pod::mounts(&case.subject, container, facts);
        found.extend(problems.into_iter().map(|problem| case.finding(problem)));
        for mount in mounts.iter().filter(|mount| !mount.sub_path.is_empty()) {
            if let Some(payload) = payloads.get(&mount.volume) {
                part(case, container, &mounts, mount, payload, found);
            }
        }
    }
    for (volume, payload) in payloads {
        hidden(case, volume, payload, found);
    }
}

/// A part of a volume (subPath).
fn part(
    case: &Case,
    container: &Container,
    mounts: &[Mount],
    mount: &Mount,
    payload: &Payload,
    found: &mut Vec<Finding>,
) {
    let path = mount.sub_path.strip_prefix("..data/").unwrap_or(&mount.sub_path);
    let at =
        format!("container {:?} mounts a part of it (subPath) at {:?}", container.name, format!("/{}", mount.path));
    let is_file = payload.get(path).is_some();
    if !is_file && payload.below(path).is_empty() {
        let written = written(container, mount);
        let message =
            format!("{at}, {written:?}, that is not in it: the kubelet makes an empty directory there: correct it");
        return found.push(case.error("missing-subpath", message).in_volume(&mount.volume));
    }
    let outer = mounts.iter().filter(|outer| is_below(&mount.path, &outer.path)).max_by_key(|outer| outer.path.len());
    let outer = outer.filter(|outer| outer.sub_path.is_empty() && is_ours(case, &outer.volume));
    if let Some(outer) = outer.filter(|_| is_file) {
        let message = format!(
            "{at}: that is in the volume {:?}, where the kubelet makes a directory for it, onto which no file can be mounted, so \
             that the container does not start: mount it elsewhere, or put both into one projected volume",
            outer.volume
        );
        return found.push(case.error("file-on-directory", message).in_volume(&mount.volume));
    }
    let message =
        format!("{at}, which the kubelet never updates: mount the whole volume, or restart the pod for updates");
    found.push(case.warning("subpath-never-updated", message).in_volume(&mount.volume));
}

/// The subPath as the pod has it, with its variables' names and not their values.
fn written<'a>(container: &'a Container, mount: &Mount) -> &'a str {
    let is_it = |one: &&VolumeMount| one.name == mount.volume && one.mount_path.trim_matches('/') == mount.path;
    let found = container.volume_mounts.iter().find(is_it);
    found.map_or("", |one| if one.sub_path_expr.is_empty() { &one.sub_path } else { &one.sub_path_expr })
}

fn is_below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

fn is_ours(case: &Case, volume: &str) -> bool {
    case.subject.pod.spec.volume(volume).is_some_and(|volume| pod::backing(volume).is_some())
}

/// Keys in whose place the kubelet makes a directory for another mount: it then makes no link for them (`MakeNestedMountpoints`
/// comes before the payload).
fn hidden(case: &Case, volume: &str, payload: &Payload, found: &mut Vec<Finding>) {
    let nested = match pod::nested(&case.subject, volume) {
        Ok(nested) => nested,
        Err(problem) => return found.push(case.finding(problem).in_volume(volume)),
    };
    for place in nested {
        let top = place.split('/').next().unwrap_or_default();
        if payload.top_names().contains(top) {
            let message = format!(
                "another mount inside it hides its {top:?}: mount that elsewhere, or give the key another path"
            );
            found.push(case.warning("hidden-key", message).in_volume(volume));
        }
    }
}
