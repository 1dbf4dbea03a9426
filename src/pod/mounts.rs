//! Where a container mounts what. Source: `makeMounts`, pkg/kubelet/kubelet_pods.go.

use std::collections::{BTreeMap, BTreeSet};

use super::environment::Plan;
use super::expand::{Piece, joined, names, pieces};
use super::path::clean;
use super::{Lookup, Problem, Subject};
use crate::object::pod::{Container, VolumeMount};
use crate::object::{ObjectId, Value};

/// The longest path, and the longest name in one, in bytes, that Linux takes.
const MAX_PATH: usize = 4095;
const MAX_NAME: usize = 255;

/// One mount of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Clean, without the leading slash, never empty.
    pub path: String,
    /// The volume's name in the pod.
    pub volume: String,
    /// Clean and relative; empty: the whole volume. It may be made of a secret's value.
    pub sub_path: String,
}

/// All mounts of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts {
    /// In the order in which a runtime mounts, outer ones first; each path once.
    pub mounts: Vec<Mount>,
    /// Why others are not there. One is enough for the kubelet not to start the container.
    pub problems: Vec<Problem>,
}

/// Where `container` mounts what.
pub fn mounts(subject: &Subject, container: &Container, lookup: &dyn Lookup) -> Mounts {
    let mut found = Mounts::default();
    let values = match environment(subject, container).map(|plan| plan.values(lookup)) {
        None => Some(BTreeMap::new()),
        Some(Ok(values)) => Some(values),
        Some(Err(problems)) => {
            found.problems = problems;
            None
        }
    };
    let mut written = BTreeSet::new();
    for mount in &container.volume_mounts {
        if !written.insert(&mount.mount_path) {
            let path = mount.mount_path.clone();
            found.problems.push(Problem::MountedTwice { container: container.name.clone(), path });
            continue;
        }
        match one(subject, container, mount, values.as_ref()) {
            Ok(Some(mount)) => {
                // The same path in another spelling: what is mounted later covers the earlier one.
                found.mounts.retain(|earlier| earlier.path != mount.path);
                found.mounts.push(mount);
            }
            Ok(None) => {}
            Err(problem) => found.problems.push(problem),
        }
    }
    // A stable sort by depth is what containerd and CRI-O do (`orderedMounts`).
    found.mounts.sort_by_key(|mount| mount.path.matches('/').count());
    found
}

/// The objects that [`mounts`] will ask for.
pub fn mount_needs(subject: &Subject, container: &Container) -> BTreeSet<ObjectId> {
    environment(subject, container).map(|plan| plan.needs()).unwrap_or_default()
}

/// The variables of which paths are made; `None` without any.
fn environment<'a>(subject: &'a Subject, container: &'a Container) -> Option<Plan<'a>> {
    let mounts = container.volume_mounts.iter();
    let wanted: BTreeSet<String> = mounts.flat_map(|mount| names(&mount.sub_path_expr)).map(str::to_owned).collect();
    (!wanted.is_empty()).then(|| Plan::of(subject, container, wanted))
}

/// `None` if it needs variables that are not there, which is told elsewhere.
fn one(
    subject: &Subject,
    container: &Container,
    mount: &VolumeMount,
    values: Option<&BTreeMap<String, Value>>,
) -> Result<Option<Mount>, Problem> {
    if subject.pod.spec.volume(&mount.name).is_none() {
        let (container, volume) = (container.name.clone(), mount.name.clone());
        return Err(Problem::UnknownVolume { container, volume });
    }
    let path = mount_path(container, &mount.mount_path)?;
    let sub_path = match mount.sub_path_expr.as_str() {
        "" => mount.sub_path.clone(),
        expression => {
            let Some(values) = values else { return Ok(None) };
            expanded(container, expression, values)?
        }
    };
    let written = if mount.sub_path_expr.is_empty() { &mount.sub_path } else { &mount.sub_path_expr };
    let sub_path = sub_path_within(container, written, &sub_path)?;
    Ok(Some(Mount { path, volume: mount.name.clone(), sub_path }))
}

/// Where in the container's root: a relative path is below it, and nothing is above it.
fn mount_path(container: &Container, written: &str) -> Result<String, Problem> {
    let path = clean(&format!("/{written}")).split_off(1);
    // The kubelet refuses the volume of a relative path that leads out: `getNestedMountpoints`.
    let leads_out = clean(written).starts_with("../");
    let is_long = path.len() > MAX_PATH || path.split('/').any(|name| name.len() > MAX_NAME);
    if leads_out || is_long || path.is_empty() || path.contains('\0') {
        let path = written.chars().take(64).collect();
        return Err(Problem::BadMountPath { container: container.name.clone(), path });
    }
    Ok(path)
}

/// `ExpandContainerVolumeMounts`: a variable without a value, also an empty one, is an error.
fn expanded(container: &Container, expression: &str, values: &BTreeMap<String, Value>) -> Result<String, Problem> {
    let mut missing = BTreeSet::new();
    let mut parts: Vec<&[u8]> = Vec::new();
    for piece in pieces(expression) {
        match piece {
            Piece::Text(text) => parts.push(text.as_bytes()),
            Piece::Reference(name, _) => match values.get(name).filter(|value| !value.is_empty()) {
                Some(value) => parts.push(value.as_bytes()),
                None => drop(missing.insert(name)),
            },
        }
    }
    let (container, sub_path) = (container.name.clone(), expression.to_owned());
    if !missing.is_empty() {
        let variables = missing.into_iter().collect::<Vec<_>>().join(", ");
        return Err(Problem::NoValue { container, sub_path, variables });
    }
    let bad = |why| Problem::BadSubPath { container, sub_path, why };
    let Some(path) = joined(&parts, MAX_PATH) else { return Err(bad("becomes longer than a path can be")) };
    match std::str::from_utf8(path.as_bytes()) {
        Ok(path) => Ok(path.to_owned()),
        Err(_) => Err(bad("becomes a path that is not UTF-8")),
    }
}

/// The clean form of what `written` says. A message has what was written, as a variable can be a secret's value.
fn sub_path_within(container: &Container, written: &str, sub_path: &str) -> Result<String, Problem> {
    let bad = |why| Err(Problem::BadSubPath { container: container.name.clone(), sub_path: written.to_owned(), why });
    if sub_path.starts_with('/') {
        return bad("is not relative");
    }
    if sub_path.split('/').any(|part| part == "..") {
        return bad("has a '..' in it");
    }
    if sub_path.contains('\0') {
        return bad("has a null byte in it");
    }
    if sub_path.len() > MAX_PATH || sub_path.split('/').any(|part| part.len() > MAX_NAME) {
        return bad("is longer than a path or name can be");
    }
    Ok(match clean(sub_path).as_str() {
        "." => String::new(),
        path => path.to_owned(),
    })
}
