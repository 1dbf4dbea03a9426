//! Removes what was written here, and nothing else.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Uid};

use super::place::{Place, below, entries, gone, is};
use super::record::Record;
use crate::publisher::{open_directory, remove_all};
use crate::volume::is_generation;

impl Place {
    /// Removes all that is ours, and gives the directory its mode and owner back. Gives the paths of what is left because it
    /// is not ours.
    pub fn clean(&mut self) -> io::Result<Vec<String>> {
        let root = self.root()?;
        let mut foreign = Vec::new();
        self.remove_content(root.as_fd(), "", &mut foreign)?;
        Record::remove(root.as_fd());
        let before = self.record.before;
        let stat = rustix::fs::fstat(&root)?;
        if (stat.st_uid, stat.st_gid) != (before.uid, before.gid) {
            rustix::fs::fchown(&root, Some(Uid::from_raw(before.uid)), Some(Gid::from_raw(before.gid)))?;
        }
        rustix::fs::fchmod(&root, Mode::from_raw_mode(before.mode))?;
        Ok(foreign)
    }

    /// Whether an entry can only be a part of the kubelet's layout, or of a write that was cut off.
    pub fn is_ours_by_form(dir: BorrowedFd<'_>, name: &str, stat: &Stat) -> bool {
        match name {
            "..data" | "..data_tmp" => is(stat, FileType::Symlink),
            "..new" => is(stat, FileType::RegularFile),
            name if is_generation(name) => is(stat, FileType::Directory),
            _ => is(stat, FileType::Symlink) && target(dir, name).is_some_and(|to| to == format!("..data/{name}")),
        }
    }

    /// Removes one entry if it is ours.
    pub fn remove_ours(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &str,
        (name, stat): (&str, &Stat),
        foreign: &mut Vec<String>,
    ) -> io::Result<()> {
        let at = below(path, name);
        let by_form = Place::is_ours_by_form(dir, name, stat);
        match is(stat, FileType::Directory) {
            true if by_form => gone(remove_all(dir, name)),
            true if self.record.has(&at) => self.remove_dir(dir, path, name, foreign),
            false if by_form || self.record.has(&at) => {
                gone(rustix::fs::unlinkat(dir, name, AtFlags::empty()).map_err(Into::into))?;
                self.record.is_gone(&at);
                Ok(())
            }
            _ => {
                foreign.push(self.path().join(at).to_string_lossy().into_owned());
                Ok(())
            }
        }
    }

    /// Removes a directory of ours, unless something of somebody else's is in it.
    pub fn remove_dir(
        &mut self,
        parent: BorrowedFd<'_>,
        path: &str,
        name: &str,
        foreign: &mut Vec<String>,
    ) -> io::Result<()> {
        let at = below(path, name);
        let dir = match open_directory(parent, name) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.record.is_gone(&at);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let before = foreign.len();
        self.remove_content(dir.as_fd(), &at, foreign)?;
        // Watchers of the directory are told before those of its parent.
        drop(dir);
        if foreign.len() == before {
            rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?;
            self.record.is_gone(&at);
        }
        Ok(())
    }

    fn remove_content(&mut self, dir: BorrowedFd<'_>, path: &str, foreign: &mut Vec<String>) -> io::Result<()> {
        let mut all = entries(dir)?;
        // As the kubelet empties a volume: links, `..data`, then what it leads to.
        all.sort_by_key(|(name, stat)| (is(stat, FileType::Directory), name.starts_with("..")));
        for (name, stat) in all {
            self.remove_ours(dir, path, (&name, &stat), foreign)?;
        }
        Ok(())
    }
}

/// Where a link leads.
pub(super) fn target(dir: BorrowedFd<'_>, name: &str) -> Option<String> {
    rustix::fs::readlinkat(dir, name, Vec::new()).ok()?.into_string().ok()
}
