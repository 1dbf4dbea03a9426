//! What verbs print: results on standard output, one sentence on standard error.

use std::io::{self, Write};
use std::path::Path;

use super::name::Name;
use crate::exit::{Code, Failure};

/// Prints bytes as they are. A reader that has seen enough (head) is no error.
pub fn bytes(bytes: &[u8]) -> Result<u8, Failure> {
    let mut out = io::stdout().lock();
    // Without a flush the last line is written at exit, where nobody sees an error.
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Code::Failed, format!("cannot write to standard output: {error}")))
        }
        _ => Ok(0),
    }
}

/// Prints lines.
pub fn lines(lines: impl IntoIterator<Item = impl AsRef<str>>) -> Result<u8, Failure> {
    let mut text = String::new();
    for line in lines {
        text.push_str(line.as_ref());
        text.push('\n');
    }
    bytes(text.as_bytes())
}

/// A command to type, named as this reader types it.
pub fn as_typed(text: &str) -> std::borrow::Cow<'_, str> {
    Name::as_typed(text)
}

/// Says something to the person at the terminal, if there still is one.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", Name::as_typed(text));
}

/// Says why something failed, as the command that was typed.
pub fn complain(failure: &Failure) {
    let message = failure.to_string();
    let _ = writeln!(io::stderr().lock(), "{}: {}", Name::prefix(), Name::as_typed(&message));
}

/// Prints a help text or the version, in colour where clap finds a terminal.
pub fn help(text: &clap::Error) {
    let plain = text.to_string();
    match Name::as_typed(&plain) {
        std::borrow::Cow::Borrowed(_) => drop(text.print()),
        std::borrow::Cow::Owned(renamed) if text.use_stderr() => drop(io::stderr().write_all(renamed.as_bytes())),
        std::borrow::Cow::Owned(renamed) => drop(bytes(renamed.as_bytes())),
    }
}

/// A path on one line, whatever its name holds.
pub fn path(path: &Path) -> String {
    match path.to_str() {
        Some(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => format!("{path:?}"),
    }
}

/// What clap says in a paragraph, as the one sentence that all our messages are.
pub fn usage(error: &clap::Error) -> String {
    let text = error.to_string();
    let told = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let told = told.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let told = told.collect::<Vec<_>>().join(" ").replace(char::is_control, "?");
    let verb = text.lines().find_map(|line| line.strip_prefix("Usage: secretfs ")?.split(' ').next());
    let verb = verb.filter(|verb| verb.starts_with(|c: char| c.is_ascii_lowercase())).map(|verb| format!("{verb} "));
    format!("{}; see secretfs {}--help", told.trim_start_matches("error: "), verb.unwrap_or_default())
}
