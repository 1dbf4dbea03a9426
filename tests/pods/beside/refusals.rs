//! What `secretfs check` says of a pod, held beside what the kubelet refuses.

use std::process::{Child, Stdio};

use serde_json::Value;

use super::ledger::{Found, Ledger, has_nested};
use super::manifest::{self, is_ours, next_above, wanted};
use crate::pods::stage::Moment;
use crate::support::{said, secretfs};

/// Rules about a mount of a volume that is well itself.
const OF_MOUNTS: [&str; 4] = ["missing-subpath", "bad-subpath", "file-on-directory", "mount-below-file"];
/// The only error of which the kubelet makes none: it makes an empty directory for the part.
const NOT_REFUSED: &str = "missing-subpath";

/// Cases in which the kubelet goes on and we do not, or the other way round, each with its row of docs/SEMANTICS.md.
const DIFFERENT: [(&str, &str); 0] = [];

/// A check that is under way.
pub struct Asked(Child);

impl Asked {
    /// Has the case's pod checked as it is in the API server now.
    pub fn about(now: &Moment<'_>, kubeconfig: &str) -> Asked {
        let text = |field: &str| now.case.pod["metadata"][field].as_str().expect("text");
        let mut command = secretfs();
        command.args(["check", "-o", "json", "--kubeconfig", kubeconfig, "-n", text("namespace")]);
        command.arg(format!("pod/{}", text("name"))).stdout(Stdio::piped()).stderr(Stdio::piped());
        Asked(command.spawn().expect("secretfs check"))
    }

    /// What it has to say otherwise to agree with the kubelet.
    pub fn differences(self, now: &Moment<'_>, ledger: &Ledger) -> Vec<String> {
        let output = self.0.wait_with_output().expect("its end");
        if DIFFERENT.iter().any(|(name, _)| *name == now.case.name) {
            return Vec::new();
        }
        let findings: Vec<Value> =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&output)));
        let errors: Vec<&Value> = findings.iter().filter(|finding| finding["severity"] == "error").collect();
        let mut wrong = Vec::new();
        volumes(now, ledger, &errors, &mut wrong);
        containers(now, ledger, &errors, &mut wrong);
        missing_parts(now, &errors, &mut wrong);
        for error in errors.iter().filter(|error| error["volume"].is_null() && container_of(now, error).is_none()) {
            wrong.push(format!("check says what the kubelet does not: {error}"));
        }
        wrong
    }
}

fn is_of_mount(error: &Value) -> bool {
    OF_MOUNTS.iter().any(|rule| error["rule"] == *rule)
}

fn volumes(now: &Moment<'_>, ledger: &Ledger, errors: &[&Value], wrong: &mut Vec<String>) {
    let of = |volume: &str| errors.iter().find(|error| error["volume"] == volume && !is_of_mount(error));
    for (volume, one) in now.pod.volumes.iter().filter(|(volume, _)| is_ours(now.case, volume)) {
        match (&one.error, of(volume)) {
            (Some(error), None) if !ledger.is_refused_for_its_past(now, volume, error) => {
                wrong.push(format!("check says nothing of the volume {volume}, and the kubelet says: {error}"));
            }
            (None, Some(error)) => {
                wrong.push(format!("the kubelet says nothing of the volume {volume}, and check: {error}"))
            }
            _ => {}
        }
    }
}

/// The container that an error is about.
fn container_of<'a>(now: &'a Moment<'_>, error: &Value) -> Option<&'a str> {
    let message = error["message"].as_str().unwrap_or_default();
    let is_named = |name: &&String| message.contains(&format!("container {name:?}"));
    (error["volume"].is_null() || is_of_mount(error))
        .then(|| now.pod.containers.keys().find(is_named))
        .flatten()
        .map(String::as_str)
}

/// Only containers that have just tried to start tell what would keep one from starting now.
fn containers(now: &Moment<'_>, ledger: &Ledger, errors: &[&Value], wrong: &mut Vec<String>) {
    for container in manifest::containers(now.case) {
        let name = manifest::name(container);
        // A volume with a directory too many can be one that the kubelet no longer gets right.
        let is_unlike = wanted(container).iter().any(|mount| ledger.is_unlike(now, &mount.volume));
        if !ledger.fresh.contains(name) || mounts_into_the_unknown(now, container) || is_unlike {
            continue;
        }
        let found = errors.iter().find(|error| error["rule"] != NOT_REFUSED && container_of(now, error) == Some(name));
        match (&now.pod.containers[name].root, found) {
            (Err(error), None) => {
                wrong.push(format!("check says nothing of the container {name}, and it does not start: {error}"))
            }
            (Ok(_), Some(error)) => wrong.push(format!("the container {name} starts, and check says: {error}")),
            _ => {}
        }
    }
}

/// The parts that are not in their volumes, or hidden there, for which the kubelet makes directories.
fn missing_parts(now: &Moment<'_>, errors: &[&Value], wrong: &mut Vec<String>) {
    for container in manifest::containers(now.case) {
        let name = manifest::name(container);
        for (volume, one) in &now.pod.volumes {
            let is_missing = |mount: &manifest::Wanted| {
                let is_hidden = || has_nested(now.case, volume, &mount.part);
                mount.volume == *volume
                    && !mount.part.is_empty()
                    && (Found::of(&one.path, &mount.part) == Found::Nothing || is_hidden())
            };
            let is_missing = wanted(container).iter().any(is_missing);
            let is_of_it = |error: &&&Value| {
                error["rule"] == NOT_REFUSED && error["volume"] == *volume && container_of(now, error) == Some(name)
            };
            let said = errors.iter().find(is_of_it);
            if is_ours(now.case, volume) && one.error.is_none() && is_missing != said.is_some() {
                wrong.push(format!("a part of {volume} for {name} is missing: {is_missing}, and check says: {said:?}"));
            }
        }
    }
}

/// Whether one of its mounts is inside another of which only the kubelet knows what there is.
fn mounts_into_the_unknown(now: &Moment<'_>, container: &Value) -> bool {
    let mounts = wanted(container);
    let outer = |mount: &manifest::Wanted| next_above(&mount.path, &mounts, |one| &one.path);
    mounts.iter().filter_map(outer).any(|outer| !outer.part.is_empty() || !is_ours(now.case, &outer.volume))
}
