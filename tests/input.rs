//! Bad input: one clear sentence, the documented exit code, nothing mounted, nothing lost, no value in the message. And
//! odd input that is none the less good: names, closed streams, the place where a command was started.

mod arguments;
mod manifests;
mod mountpoints;
mod surroundings;

use std::ffi::OsStr;
use std::process::{Command, Output};

use crate::support::playground::secret;
use crate::support::sandbox::Sandbox;
use crate::support::user::{ROOT, User, ordinary};
use crate::support::{run, said, wait_until};

/// Stands for a value or a token in bad input; no message may repeat it.
const PLANTED: &str = "PlantedPlantedPlanted0815";

/// A sandbox with a good manifest and a mount point that are everybody's.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("good.yaml", secret("s", &[("key", b"value")]));
    ordinary().owns(&sandbox.mkdir("mnt"));
    sandbox
}

/// Whether a value shows in a text, as it is or in base64.
fn shows(text: &str, value: &str) -> bool {
    use base64::Engine;
    // In base64 a piece looks different at each of three offsets; the middle of it does not depend on its neighbours.
    let encoded = |offset: usize| {
        let padded = format!("{}{value}", "_".repeat(offset));
        let text = base64::prelude::BASE64_STANDARD_NO_PAD.encode(padded);
        text[4..text.len() - 3].to_owned()
    };
    text.contains(value) || (0..3).any(|offset| text.contains(&encoded(offset)))
}

/// Runs a command that must be refused as bad input is.
#[track_caller]
fn refused(sandbox: &Sandbox, user: User, args: &[&OsStr], code: i32, parts: &[&str]) {
    let mut command = sandbox.secretfs();
    command.args(args).stdin(std::process::Stdio::null());
    let before = sandbox.mounts();
    let output = run(user.runs(&mut command));
    is_refusal(&command, &output, code, parts);
    assert_eq!(sandbox.mounts(), before, "{command:?}");
    wait_until("the end of the refused daemon", || sandbox.processes().is_empty());
}

#[track_caller]
fn is_refusal(command: &Command, output: &Output, code: i32, parts: &[&str]) {
    let everything = format!("{command:?}: {}", said(output));
    assert_eq!(output.status.code(), Some(code), "{everything}");
    assert!(output.stdout.is_empty(), "{everything}");
    let text = String::from_utf8(output.stderr.clone()).expect("UTF-8 on standard error");
    let sentence = text.strip_prefix("secretfs: ").and_then(|rest| rest.strip_suffix('\n'));
    let sentence = sentence.unwrap_or_else(|| panic!("no sentence of ours: {everything}"));
    assert!(!sentence.chars().any(char::is_control), "not one line: {everything}");
    assert!(!shows(&text, PLANTED), "a value in a message: {everything}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {everything}");
    }
}

/// The same for a mount of what `source` names in the good manifest.
#[track_caller]
fn mount_refused(args: &[&str], code: i32, parts: &[&str]) {
    let sandbox = sandbox();
    let all = ["mount", "-f", "good.yaml"].into_iter().chain(args.iter().copied()).map(OsStr::new);
    refused(&sandbox, ROOT, &all.collect::<Vec<_>>(), code, parts);
}
