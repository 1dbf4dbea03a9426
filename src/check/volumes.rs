//! The volumes of a pod.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, Facts, Finding};
use crate::object::pod::{PodVolume, Projected, VolumeSource};
use crate::pod;
use crate::volume::Payload;

/// What each volume holds that can be worked out.
pub type Payloads = BTreeMap<String, Payload>;

/// Says what is wrong with the volumes that containers mount.
pub fn check(case: &Case, facts: &Facts, found: &mut Vec<Finding>) -> Payloads {
    let mut payloads = Payloads::new();
    for volume in pod::mounted(&case.subject) {
        if let VolumeSource::Other { kind, .. } = &volume.source {
            // An emptyDir has no content that could be wrong.
            if kind != "emptyDir" {
                let message = format!("is a {kind}, whose files are not in the API server: they are not checked");
                found.push(case.note("not-checked", message).in_volume(&volume.name));
            }
            continue;
        }
        let (rest, has_certificate) = without_certificates(volume);
        if has_certificate {
            let message =
                "has a podCertificate source, which the pod's kubelet alone makes: it is not checked".to_owned();
            found.push(case.note("not-checked", message).in_volume(&volume.name));
        }
        match pod::collect(&case.subject, &rest, facts) {
            Ok(payload) => {
                for path in written_twice(case, &rest, facts) {
                    let message =
                        format!("two of its sources write {path:?}, and the later one wins: give one another path");
                    found.push(case.warning("path-twice", message).in_volume(&volume.name));
                }
                payloads.insert(volume.name.clone(), payload);
            }
            Err(problems) => {
                found.extend(problems.into_iter().map(|problem| case.finding(problem).in_volume(&volume.name)));
            }
        }
    }
    payloads
}

/// The volume without its podCertificate sources, and whether it has any.
pub fn without_certificates(volume: &PodVolume) -> (PodVolume, bool) {
    let mut volume = volume.clone();
    let mut any = false;
    if let VolumeSource::Projected(projected) = &mut volume.source {
        any = projected.sources.iter().any(|source| source.pod_certificate);
        projected.sources.iter_mut().for_each(|source| source.pod_certificate = false);
    }
    (volume, any)
}

/// The paths that more than one source writes.
fn written_twice(case: &Case, volume: &PodVolume, facts: &Facts) -> BTreeSet<String> {
    let VolumeSource::Projected(projected) = &volume.source else { return BTreeSet::new() };
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for source in &projected.sources {
        let source = VolumeSource::Projected(Projected { sources: vec![source.clone()], ..projected.clone() });
        let alone = PodVolume { name: volume.name.clone(), source };
        let Ok(payload) = pod::collect(&case.subject, &alone, facts) else { continue };
        for (path, _) in payload.iter() {
            if !seen.insert(path.to_string()) {
                twice.insert(path.to_string());
            }
        }
    }
    twice
}
