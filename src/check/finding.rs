//! What a check says.

use std::fmt;

use crate::object::ObjectId;
use crate::pod::{Problem, Subject};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Indicates what keeps a container from starting, or gives it something wrong.
    Error,
    /// Indicates what is probably not meant.
    Warning,
    /// Indicates what could not be checked.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        })
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// A word for programs, which does not change: docs/TROUBLESHOOTING.md lists them.
    pub rule: &'static str,
    /// What is checked: a pod, a workload, or an object with its values.
    pub subject: ObjectId,
    /// The volume's name in the pod.
    pub volume: Option<String>,
    /// The object that the pod needs.
    pub object: Option<ObjectId>,
    /// Since when it has been so, in RFC 3339.
    pub since: Option<String>,
    /// What is found, and what to do.
    pub message: String,
}

impl Finding {
    pub fn new(severity: Severity, rule: &'static str, subject: &ObjectId, message: String) -> Self {
        Finding { severity, rule, subject: subject.clone(), volume: None, object: None, since: None, message }
    }

    /// A problem that the rules of pods have found.
    pub fn of_problem(subject: &Subject, problem: &Problem) -> Self {
        let (severity, rule) = judged(problem, subject.is_live());
        let mut finding = Finding::new(severity, rule, &subject.id, problem.to_string());
        finding.object = match problem {
            Problem::Missing { object }
            | Problem::MissingKey { object, .. }
            | Problem::NoToken { account: object, .. } => Some(object.clone()),
            _ => None,
        };
        finding
    }

    #[must_use]
    pub fn in_volume(mut self, volume: &str) -> Self {
        self.volume = Some(volume.to_owned());
        self
    }

    #[must_use]
    pub fn about(mut self, object: &ObjectId) -> Self {
        self.object = Some(object.clone());
        self
    }
}

/// One line.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let volume = self.volume.as_ref().map(|volume| format!(" volume {volume}")).unwrap_or_default();
        let line = format!("{} {}{volume}: {}", self.severity, self.subject, self.message);
        f.write_str(&line.replace(char::is_control, "?"))
    }
}

fn judged(problem: &Problem, is_live: bool) -> (Severity, &'static str) {
    use Problem as P;
    let rule = match problem {
        P::Missing { .. } => "missing-object",
        P::MissingKey { .. } => "missing-key",
        P::BadName { .. } => "bad-name",
        P::Refused(_) | P::Unknown { .. } | P::NoToken { .. } => "not-readable",
        P::BadPath { .. } => "bad-path",
        P::BadMode { .. } => "bad-mode",
        P::Clash(_) => "conflicting-paths",
        P::TooLarge { .. } => "too-large",
        P::UnknownField { .. } | P::BadSubscript { .. } => "bad-field",
        P::UnknownResource { .. } | P::UnknownContainer { .. } | P::BadQuantity { .. } => "bad-resource",
        // The node that a template's pods will have tells.
        P::NoNode { .. } => return (Severity::Note, "not-checked"),
        P::UnnamedBundle { .. } | P::NoBundle { .. } | P::BadSelector { .. } => "trust-bundle",
        P::Unsupported { .. } | P::OtherStorage { .. } => return (Severity::Note, "not-checked"),
        P::UnknownVolume { .. } => "unknown-volume",
        P::MountedTwice { .. } => "conflicting-mounts",
        P::BadMountPath { .. } => "bad-mount-path",
        P::BadSubPath { .. } => "bad-subpath",
        // A template's variables may have values only when a pod runs.
        P::NoValue { .. } if !is_live => return (Severity::Warning, "bad-subpath"),
        P::NoValue { .. } => "bad-subpath",
    };
    (Severity::Error, rule)
}
