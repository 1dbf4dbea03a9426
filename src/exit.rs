//! Exit codes, documented in `secretfs --help` and docs/CONFIGURATION.md.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    Ok = 0,
    /// Indicates an error that has no code of its own.
    Failed = 1,
    /// Indicates a command line that makes no sense. clap uses the same number.
    Usage = 2,
    /// Indicates a manifest, kubeconfig or other input that cannot be read or is not valid.
    Input = 3,
    /// Indicates an object or key that does not exist.
    NotFound = 4,
    /// Indicates missing rights or credentials that the API server does not accept.
    Denied = 5,
    /// Indicates an API server that cannot be reached or does not answer in time.
    Unreachable = 6,
    /// Indicates a mount point that cannot be used, or that is not a mount of ours.
    MountPoint = 7,
    /// Indicates a host without FUSE, or without the rights or helpers to mount.
    NoFuse = 8,
    /// Indicates that `check` has found what is wrong.
    Findings = 9,
}

impl Code {
    /// The code with this number; an unknown one is a plain failure.
    pub fn from_u8(number: u8) -> Self {
        use Code::*;
        let all = [Ok, Failed, Usage, Input, NotFound, Denied, Unreachable, MountPoint, NoFuse, Findings];
        all.into_iter().find(|code| *code as u8 == number).unwrap_or(Failed)
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        ExitCode::from(code as u8)
    }
}

/// An error that knows its exit code: one sentence for the user. It never carries a value.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub code: Code,
    pub message: String,
}

impl Failure {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Failure { code, message: message.into() }
    }
}

impl From<crate::store::Refusal> for Failure {
    fn from(refusal: crate::store::Refusal) -> Self {
        use crate::store::Refusal;
        let code = match refusal {
            Refusal::NotFound { .. } => Code::NotFound,
            Refusal::Forbidden { .. } | Refusal::Unauthorized { .. } => Code::Denied,
            Refusal::TimedOut { .. } | Refusal::Unavailable { .. } => Code::Unreachable,
        };
        Failure::new(code, refusal.to_string())
    }
}

impl From<crate::mount::MountError> for Failure {
    fn from(error: crate::mount::MountError) -> Self {
        use crate::mount::MountError::*;
        let code = match error {
            FuseMissing { .. }
            | FuseDenied { .. }
            | HelperMissing { .. }
            | HelperPowerless { .. }
            | NamespacesOff { .. }
            | NamespacesConfined
            | NamespaceDenied { .. }
            | HasThreads { .. }
            | Table { .. } => Code::NoFuse,
            AllowOtherUnchecked => Code::Usage,
            _ => Code::MountPoint,
        };
        Failure::new(code, error.to_string())
    }
}

impl From<crate::source::cluster::ConnectError> for Failure {
    fn from(error: crate::source::cluster::ConnectError) -> Self {
        use crate::source::cluster::ConnectError;
        let code = match error {
            ConnectError::Credentials(_) => Code::Denied,
            _ => Code::Input,
        };
        Failure::new(code, error.to_string())
    }
}
