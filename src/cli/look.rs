//! How files look and what happens when they change: arguments of the verbs that show them.

use std::ffi::OsString;
use std::time::Duration;

use clap::ValueEnum;

use super::args::{gid, octal_mode, uid, unit};
use crate::daemon::OnChange;
use crate::view::{Options, SYNC_PERIOD, Strict};
use crate::volume::{Layout, Owner, Ownership};

/// How files look.
#[derive(clap::Args, Debug)]
pub struct LookArgs {
    /// Layout of an object's directory
    #[arg(long, value_enum, default_value_t = LayoutArg::Kubelet, help_heading = "How it looks")]
    pub layout: LayoutArg,
    /// Whose files they are
    #[arg(long, value_enum, default_value_t = OwnerArg::Me, help_heading = "How it looks")]
    pub owner: OwnerArg,
    /// Owner of everything
    #[arg(long, value_name = "USER", value_parser = uid, help_heading = "How it looks")]
    pub uid: Option<u32>,
    /// Group of everything
    #[arg(long, value_name = "GROUP", value_parser = gid, help_heading = "How it looks")]
    pub gid: Option<u32>,
    /// Mode of all files, octal
    #[arg(long, value_name = "MODE", value_parser = octal_mode, help_heading = "How it looks")]
    mode: Option<u32>,
    /// Mode of all directories, octal
    #[arg(long, value_name = "MODE", value_parser = octal_mode, help_heading = "How it looks")]
    dir_mode: Option<u32>,

    /// Be as stiff as the kubelet in WHAT, or, without it, in all of it: subpath,updates
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',', num_args = 0.., require_equals = true,
        default_missing_values = ["subpath", "updates"], help_heading = "Pods")]
    strict_kubelet: Vec<StrictArg>,
    /// Ask for no service account tokens: their files are absent
    #[arg(long, help_heading = "Pods")]
    no_tokens: bool,
}

/// What is done after a change.
#[derive(clap::Args, Debug)]
pub struct ChangeArgs {
    /// Run this by sh after each change that is shown, at most once a second and for at most a minute; SECRETFS_CHANGED names
    /// below SECRETFS_MOUNTPOINT, one on a line, the files that have changed, come or gone, and whole directories that have
    /// come or gone
    #[arg(long, value_name = "COMMAND", help_heading = "When something changes")]
    on_change: Option<OsString>,
    /// Have systemd reload this unit, or restart it if it cannot reload, after each change; may be repeated
    #[arg(long, value_name = "UNIT", value_parser = unit, help_heading = "When something changes")]
    reload: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LayoutArg {
    /// As the kubelet writes it: KEY -> ..data/KEY, all keys change at once
    Kubelet,
    /// Each key a plain file, replaced by rename
    Flat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OwnerArg {
    /// Mine, and nobody else may look: files 0400, directories 0700
    Me,
    /// As in the pod: root's, with the modes that the kubelet gives
    Kubelet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StrictArg {
    /// Mounted parts of volumes stay what they were
    Subpath,
    /// Updates show after 60 to 90 seconds, or when the pod itself changes
    Updates,
}

impl LookArgs {
    /// How a view shows what it shows, with these owners and modes.
    pub fn options(&self, ownership: Ownership, patience: Duration) -> Options {
        let is_strict = |what| self.strict_kubelet.contains(&what);
        let updates = is_strict(StrictArg::Updates).then_some(SYNC_PERIOD);
        let strict = Strict { parts: is_strict(StrictArg::Subpath), updates };
        Options { strict, no_tokens: self.no_tokens, ..Options::new(self.layout.into(), ownership, patience) }
    }

    pub fn ownership(&self) -> Ownership {
        let owner = match self.owner {
            OwnerArg::Me => {
                Owner::Me { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
            }
            OwnerArg::Kubelet => Owner::Kubelet,
        };
        Ownership {
            uid: self.uid,
            gid: self.gid,
            file_mode: self.mode,
            dir_mode: self.dir_mode,
            ..Ownership::of(owner)
        }
    }
}

impl ChangeArgs {
    pub fn on_change(&self) -> OnChange {
        let shell = self.on_change.iter().map(|command| vec!["sh".into(), "-c".into(), command.clone()]);
        // Units of an ordinary user are those of its own manager. Nobody waits: the unit may itself wait for this mount.
        let user = (!rustix::process::geteuid().is_root()).then_some("--user");
        let reload = self.reload.iter().map(|unit| {
            let words = ["systemctl"].into_iter().chain(user).chain(["--no-block", "try-reload-or-restart", unit]);
            words.map(Into::into).collect()
        });
        OnChange { commands: shell.chain(reload).collect() }
    }
}

impl From<LayoutArg> for Layout {
    fn from(layout: LayoutArg) -> Self {
        match layout {
            LayoutArg::Kubelet => Layout::Kubelet,
            LayoutArg::Flat => Layout::Flat,
        }
    }
}
