//! What is wrong with the pods that are shown, for the log and for `status`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Pods, Shown, State};
use crate::object::{Kind, ObjectId};
use crate::pod::Problem;

/// Something of a pod that cannot be shown as the pod asks for it. There is never a value in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodProblem {
    /// `NAMESPACE/NAME`; of a workload that makes pods, `NAMESPACE/KIND/NAME`.
    pub pod: String,
    /// The volume that cannot be set up or brought up to date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// The container of which something cannot be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// What is wrong, what to do about it, and, of a volume, what it shows meanwhile.
    pub reason: String,
}

impl fmt::Display for PodProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PodProblem { pod, volume, container, reason } = self;
        match (volume, container) {
            (Some(volume), _) => write!(f, "{pod}: volume {volume}: {reason}"),
            // Most reasons say which container they are about.
            (None, Some(container)) if !reason.contains("container") => {
                write!(f, "{pod}: container {container}: {reason}")
            }
            (None, _) => write!(f, "{pod}: {reason}"),
        }
    }
}

impl PodProblem {
    pub(super) fn of_volume(pod: &ObjectId, volume: &str, problem: &Problem, has_content: bool) -> Self {
        let then = if has_content { "it keeps what it shows" } else { "it is empty" };
        let (volume, reason) = (Some(volume.to_owned()), format!("{problem}; {then}"));
        PodProblem { pod: name(pod), volume, container: None, reason }
    }

    pub(super) fn of_container(pod: &ObjectId, container: &str, problem: &Problem) -> Self {
        PodProblem { pod: name(pod), volume: None, container: Some(container.to_owned()), reason: problem.to_string() }
    }
}

fn name(pod: &ObjectId) -> String {
    match pod.kind {
        Kind::Pod => format!("{}/{}", pod.namespace, pod.name),
        _ => pod.to_string(),
    }
}

/// What of the shown pods is not as in the pods.
#[derive(Clone, Debug, Default)]
pub struct PodsReport {
    /// What could be mended, in the order of the pods.
    pub problems: Vec<PodProblem>,
    /// How many volumes are shown as empty directories because no API server has their files, by what they are.
    pub shown_empty: BTreeMap<String, usize>,
}

impl Pods {
    /// See [`PodsReport`].
    pub fn report(&self) -> PodsReport {
        let state: &State = &self.lock();
        let mut report = PodsReport::default();
        for (pod, shown) in &state.shown {
            report.add(pod, shown);
        }
        report
    }
}

impl PodsReport {
    fn add(&mut self, pod: &ObjectId, shown: &Shown) {
        for (name, volume) in &shown.volumes {
            let has_content = volume.payload.is_some();
            let problems = volume.problems.iter();
            self.problems.extend(problems.map(|problem| PodProblem::of_volume(pod, name, problem, has_content)));
            if let Some(kind) = &volume.foreign {
                *self.shown_empty.entry(kind.clone()).or_default() += 1;
            }
        }
        let problems = shown.problems.iter();
        self.problems.extend(problems.map(|(container, problem)| PodProblem::of_container(pod, container, problem)));
    }
}
