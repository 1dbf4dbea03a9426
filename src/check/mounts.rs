//! Where containers mount what.

use super::volumes::Payloads;
use super::{Case, Facts, Finding, environment};
use crate::object::pod::{Container, VolumeMount};
use crate::pod::{self, Mount, Mounts, Problem};
use crate::volume::Payload;

/// Says what is wrong with the mounts of all containers. What became of a subPath is not
/// shown: it may be made of a secret's value.
pub fn check(case: &Case, facts: &Facts, payloads: &Payloads, found: &mut Vec<Finding>) {
    for (_, container) in case.subject.pod.spec.all_containers() {
        let Mounts { mounts, problems } = pod::mounts(&case.subject, container, facts);
        found.extend(problems.into_iter().map(|problem| of_container(case, container, problem)));
        for mount in mounts.iter().filter(|mount| !mount.sub_path.is_empty()) {
            if let Some(payload) = payloads.get(&mount.volume) {
                part(case, container, &mounts, mount, payload, found);
            }
        }
        below_files(case, container, &mounts, payloads, found);
    }
    for (volume, payload) in payloads {
        hidden(case, volume, payload, found);
    }
}

/// What is wrong with a mount itself, or with the variables of which its path is made.
fn of_container(case: &Case, container: &Container, problem: Problem) -> Finding {
    let names_it = matches!(
        problem,
        Problem::UnknownVolume { .. }
            | Problem::MountedTwice { .. }
            | Problem::BadMountPath { .. }
            | Problem::BadSubPath { .. }
            | Problem::NoValue { .. }
    );
    let finding = case.finding(problem);
    if names_it { finding } else { environment::of_variable(container, finding) }
}

/// Mounts in what is a single file: the runtime can make no directory there.
fn below_files(case: &Case, container: &Container, mounts: &[Mount], payloads: &Payloads, found: &mut Vec<Finding>) {
    let is_file = |mount: &Mount| {
        let payload = payloads.get(&mount.volume).filter(|_| !is_hidden(case, mount));
        payload.is_some_and(|payload| payload.get(in_generation(&mount.sub_path)).is_some())
    };
    for mount in mounts {
        if let Some(file) = next_above(mounts, mount).filter(|outer| is_file(outer)) {
            let message = format!(
                "container {:?} mounts it at {:?}, below {:?}, which is a single file (subPath), so that the container does not \
                 start: mount it elsewhere",
                container.name,
                format!("/{}", mount.path),
                format!("/{}", file.path)
            );
            found.push(case.error("mount-below-file", message).in_volume(&mount.volume));
        }
    }
}

/// The mount in which another one is.
fn next_above<'a>(mounts: &'a [Mount], mount: &Mount) -> Option<&'a Mount> {
    mounts.iter().filter(|outer| is_below(&mount.path, &outer.path)).max_by_key(|outer| outer.path.len())
}

/// A part may go through the volume's own link.
fn in_generation(part: &str) -> &str {
    if part == "..data" { "" } else { part.strip_prefix("..data/").unwrap_or(part) }
}

/// Whether there is a directory for another mount where the part would be: see [`hidden`].
fn is_hidden(case: &Case, mount: &Mount) -> bool {
    let first = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    let nested = pod::nested(&case.subject, &mount.volume).unwrap_or_default();
    nested.iter().any(|place| first(place) == first(&mount.sub_path))
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
    let path = in_generation(&mount.sub_path);
    let at =
        format!("container {:?} mounts a part of it (subPath) at {:?}", container.name, format!("/{}", mount.path));
    let is_file = payload.get(path).is_some();
    let missing = |why: &str| {
        let written = written(container, mount);
        let message = format!("{at}, {written:?}, {why}: the kubelet makes an empty directory there: correct it");
        case.error("missing-subpath", message).in_volume(&mount.volume)
    };
    if is_hidden(case, mount) {
        return found.push(missing("that another mount inside the volume hides"));
    }
    if path.match_indices('/').any(|(end, _)| payload.get(&path[..end]).is_some()) {
        let written = written(container, mount);
        let message =
            format!("{at}, {written:?}, that leads below a file, so that the container does not start: correct it");
        return found.push(case.error("bad-subpath", message).in_volume(&mount.volume));
    }
    if !is_file && !path.is_empty() && payload.below(path).is_empty() {
        return found.push(missing("that is not in it"));
    }
    let outer = next_above(mounts, mount).filter(|outer| outer.sub_path.is_empty() && is_ours(case, &outer.volume));
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
