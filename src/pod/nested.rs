//! Directories in a volume at which other volumes are mounted.

use std::collections::BTreeSet;

use super::path::clean;
use super::{Problem, Subject};
use crate::object::pod::Container;

/// The directories that the kubelet makes in the volume for mounts below its own, of any container; paths relative to the
/// volume. Source: `getNestedMountpoints`, pkg/volume/util/nested_volumes.go.
pub fn nested(subject: &Subject, volume: &str) -> Result<BTreeSet<String>, Problem> {
    let mut found = BTreeSet::new();
    for (_, container) in subject.pod.spec.all_containers() {
        below(container, volume, &mut found)?;
    }
    Ok(found)
}

fn below(container: &Container, volume: &str, found: &mut BTreeSet<String>) -> Result<(), Problem> {
    let mut all: Vec<String> = container.volume_mounts.iter().map(|mount| clean(&mount.mount_path)).collect();
    all.sort();
    for mount in container.volume_mounts.iter().filter(|mount| mount.name == volume) {
        let own = clean(&mount.mount_path);
        if own.starts_with("../") {
            let path = mount.mount_path.clone();
            return Err(Problem::BadMountPath { container: container.name.clone(), path });
        }
        let mut outer: Vec<String> = Vec::new();
        for path in &all {
            let Some(rest) = path.strip_prefix(&own).and_then(|rest| rest.strip_prefix('/')) else { continue };
            if outer.iter().any(|outer| path.starts_with(outer)) {
                continue;
            }
            outer.push(format!("{path}/"));
            found.insert(rest.to_owned());
        }
    }
    Ok(())
}
