//! The names that the one binary goes by, and how messages name the command that was typed.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::OnceLock;

/// What the binary was called as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Secretfs,
    /// A plugin of kubectl: `kubectl secretfs VERB`.
    Kubectl,
    /// What kubectl asks for completions of the plugin's arguments.
    KubectlComplete,
    /// What mount(8) runs for `mount -t secretfs` (or `fuse.secretfs`) and for lines of fstab.
    MountHelper,
}

static TYPED: OnceLock<Name> = OnceLock::new();

impl Name {
    /// The name behind the program's zeroth argument. Any other name is plain `secretfs`.
    pub fn of(zeroth: &OsStr) -> Self {
        let base = Path::new(zeroth).file_name().unwrap_or_default();
        match base.as_encoded_bytes() {
            b"kubectl-secretfs" => Name::Kubectl,
            b"kubectl_complete-secretfs" => Name::KubectlComplete,
            b"mount.secretfs" | b"mount.fuse.secretfs" => Name::MountHelper,
            _ => Name::Secretfs,
        }
    }

    /// Fixes it for the messages of this process.
    pub fn is_typed(self) {
        let _ = TYPED.set(self);
    }

    fn typed() -> Self {
        *TYPED.get().unwrap_or(&Name::Secretfs)
    }

    /// What stands before a message.
    pub fn prefix() -> &'static str {
        match Self::typed() {
            Name::Secretfs | Name::KubectlComplete => "secretfs",
            Name::Kubectl => "kubectl secretfs",
            Name::MountHelper => "mount.secretfs",
        }
    }

    /// A text of ours that tells the reader what to type, with the command named as this reader types it.
    pub fn as_typed(text: &str) -> Cow<'_, str> {
        match Self::typed() {
            Name::Kubectl => Cow::Owned(for_kubectl(text)),
            _ => Cow::Borrowed(text),
        }
    }
}

/// `secretfs VERB`, `secretfs --help` and `secretfs [OPTIONS]` become those of the plugin; a path or another word that
/// ends in secretfs stays.
fn for_kubectl(text: &str) -> String {
    const WORD: &str = "secretfs ";
    let mut done = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some(at) = rest.find(WORD) {
        let (before, after) = (&rest[..at], &rest[at + WORD.len()..]);
        done.push_str(before);
        let begins =
            !before.ends_with(|c: char| c.is_alphanumeric() || "/.-_:".contains(c)) && !done.ends_with("kubectl ");
        let is_command =
            after.starts_with(['-', '[', '<']) || super::is_verb(after.split(word_end).next().unwrap_or_default());
        if begins && is_command {
            done.push_str("kubectl ");
        }
        done.push_str(WORD);
        rest = after;
    }
    done.push_str(rest);
    done
}

fn word_end(c: char) -> bool {
    !c.is_ascii_alphanumeric() && c != '-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_of_the_zeroth_argument_is_the_name() {
        for (zeroth, name) in [
            ("secretfs", Name::Secretfs),
            ("/opt/bin/secretfs-0.1", Name::Secretfs),
            ("/usr/bin/kubectl-secretfs", Name::Kubectl),
            ("kubectl_complete-secretfs", Name::KubectlComplete),
            ("/sbin/mount.secretfs", Name::MountHelper),
            ("/sbin/mount.fuse.secretfs", Name::MountHelper),
            ("", Name::Secretfs),
        ] {
            assert_eq!(Name::of(OsStr::new(zeroth)), name, "{zeroth}");
        }
    }

    #[test]
    fn only_commands_are_renamed_for_kubectl() {
        for (text, renamed) in [
            ("unmount it first: secretfs umount \"/m\"", "unmount it first: kubectl secretfs umount \"/m\""),
            ("see secretfs --help", "see kubectl secretfs --help"),
            ("Usage: secretfs mount [OPTIONS]", "Usage: kubectl secretfs mount [OPTIONS]"),
            ("use `secretfs mount`, which", "use `kubectl secretfs mount`, which"),
            ("already kubectl secretfs mount", "already kubectl secretfs mount"),
            ("\"/srv/secretfs umount/x\"", "\"/srv/secretfs umount/x\""),
            ("is mounted by secretfs already", "is mounted by secretfs already"),
            ("secretfs ", "secretfs "),
        ] {
            assert_eq!(for_kubectl(text), renamed);
        }
    }
}
