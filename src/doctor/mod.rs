//! What `secretfs doctor` looks at, and what it says of it: one finding for each thing, with its cure.

mod host;
mod source;

pub use host::host;
pub use source::{Asked, Node, rights, way};

use serde::Serialize;

use crate::exit::{Code, Failure};

/// How it is with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// It works, but not as well as it could.
    Warning,
    /// What was asked for cannot work.
    Fault,
    /// Not looked at, because of something before.
    Skipped,
}

/// What was found of one thing.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    pub state: State,
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
    /// The exit code that a command would have had for it.
    #[serde(skip)]
    pub code: Code,
}

impl Finding {
    fn new(check: &'static str, state: State, found: impl Into<String>) -> Self {
        Finding { check, state, found: found.into(), cure: None, code: Code::Ok }
    }

    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, State::Ok, found)
    }

    fn skipped(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, State::Skipped, found)
    }

    fn warning(check: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Finding { cure: Some(cure.into()), ..Self::new(check, State::Warning, found) }
    }

    fn fault(check: &'static str, code: Code, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Finding { cure: Some(cure.into()), code, ..Self::new(check, State::Fault, found) }
    }

    /// A failure whose message says what happened and, after a semicolon or the last colon, what to do.
    pub fn failed(check: &'static str, state: State, failure: &Failure) -> Self {
        let message = &failure.message;
        // "use one of: a, b" is one advice.
        let advice = message.find(": use one of: ").or_else(|| message.rfind(": "));
        let parted = message.split_once("; ").or_else(|| Some((&message[..advice?], &message[advice? + 2..])));
        let (found, cure) = parted.map_or((message.as_str(), None), |(found, cure)| (found, Some(cure.to_owned())));
        Finding { cure, code: failure.code, ..Self::new(check, state, found) }
    }
}
