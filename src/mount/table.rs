//! Reads /proc/self/mountinfo: what is mounted where in this mount namespace.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::MountError;
use super::identity::Device;

/// The file system type by which df, findmnt and updatedb know our mounts.
pub const FS_TYPE: &str = "fuse.secretfs";
/// The part of the type that is ours; the kernel puts `fuse.` before it.
pub const SUBTYPE: &str = "secretfs";

pub(super) const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One line of mountinfo (proc_pid_mountinfo(5), `show_mountinfo` in fs/proc_namespace.c).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: u64,
    pub parent: u64,
    pub device: Device,
    /// The directory of the file system that is seen at the mount point; not `/` for a bind mount of a part.
    pub root: PathBuf,
    pub mount_point: PathBuf,
    /// Options of this mount, such as `ro,nosuid`.
    pub options: String,
    /// Propagation, such as `shared:12 master:3`.
    pub propagation: Vec<String>,
    pub fs_type: String,
    pub source: OsString,
    /// Options of the file system, such as `rw,user_id=0`.
    pub super_options: String,
}

impl Entry {
    /// Whether this is a mount that secretfs made, dead or alive.
    pub fn is_ours(&self) -> bool {
        self.fs_type == FS_TYPE
    }

    /// Whether writing through this mount ends in EROFS, be it the mount or the file system that forbids it.
    pub fn is_read_only(&self) -> bool {
        self.has_option("ro") || self.has_super_option("ro")
    }

    /// Whether this mount, not the file system, has an option.
    pub fn has_option(&self, name: &str) -> bool {
        self.options.split(',').any(|option| option == name)
    }

    /// Whether the file system has an option.
    pub fn has_super_option(&self, name: &str) -> bool {
        self.super_options.split(',').any(|option| option == name)
    }

    /// The number behind an option of the file system, such as `user_id`, as this user namespace sees it.
    pub fn super_number(&self, name: &str) -> Option<u32> {
        self.super_options.split(',').find_map(|option| option.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    }
}

/// All mounts of this namespace that this process can reach from its root.
#[derive(Clone, Debug, Default)]
pub struct Table {
    entries: Vec<Entry>,
}

impl Table {
    /// Reads the table of this process.
    ///
    /// # Errors
    /// [`MountError::Table`] when /proc is missing.
    pub fn read() -> Result<Self, MountError> {
        let read = || Self::read_from(&mut File::open(MOUNTINFO)?);
        read().map_err(|cause| MountError::Table { path: MOUNTINFO, cause })
    }

    /// Reads an open mountinfo from its start. The kernel hands it out in pieces, between which the table may change;
    /// so it is read again when a change was announced meanwhile (`mounts_poll`), a few times at most on a host that
    /// never rests.
    pub(super) fn read_from(mountinfo: &mut File) -> io::Result<Self> {
        const ATTEMPTS: usize = 4;
        let mut text = Vec::new();
        for _ in 0..ATTEMPTS {
            read_all(mountinfo, &mut text)?;
            if !has_changed(mountinfo)? {
                return Ok(Self::parse(&text));
            }
        }
        // Asking for a change forgets it. After this last reading nobody asks, so that whoever polls next hears of it.
        read_all(mountinfo, &mut text)?;
        Ok(Self::parse(&text))
    }

    /// Lines that cannot be understood are left out: a field that a later kernel adds must not hide all mounts.
    pub fn parse(text: &[u8]) -> Self {
        Table { entries: text.split(|&byte| byte == b'\n').filter_map(parse_line).collect() }
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn by_id(&self, mount_id: u64) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == mount_id)
    }

    /// The mount that is seen at `path`: of several mounts on one path the one on which none of the others lies.
    pub fn at(&self, path: &Path) -> Option<&Entry> {
        let here = || self.entries.iter().filter(|entry| entry.mount_point == path);
        here().find(|entry| !here().any(|other| other.parent == entry.id && other.id != entry.id))
    }

    pub fn of_device(&self, device: Device) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.device == device)
    }

    /// All FUSE mounts, as fusermount3 counts them (`count_fuse_fs` in libfuse's util/fusermount.c).
    pub fn fuse(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.fs_type == "fuse" || entry.fs_type.starts_with("fuse."))
    }

    /// All mounts of secretfs, whoever made them.
    pub fn ours(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.is_ours())
    }
}

fn read_all(mountinfo: &mut File, text: &mut Vec<u8>) -> io::Result<()> {
    text.clear();
    mountinfo.rewind()?;
    mountinfo.read_to_end(text)?;
    Ok(())
}

/// Whether the table has changed since this file was opened or last asked.
fn has_changed(mountinfo: &File) -> io::Result<bool> {
    let mut fds = [PollFd::new(mountinfo, PollFlags::PRI)];
    Ok(rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0)
}

fn parse_line(line: &[u8]) -> Option<Entry> {
    // A source may be empty and then leaves two spaces: every single space separates.
    let mut fields = line.split(|&byte| byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let device = device(fields.next()?)?;
    let root = path(fields.next()?);
    let mount_point = path(fields.next()?);
    let options = text(fields.next()?);
    let propagation = fields.by_ref().take_while(|field| *field != b"-").map(text).collect();
    let fs_type = text(fields.next()?);
    let source = OsString::from_vec(unescape(fields.next()?));
    let super_options = text(fields.next()?);
    Some(Entry { id, parent, device, root, mount_point, options, propagation, fs_type, source, super_options })
}

fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn device(field: &[u8]) -> Option<Device> {
    let colon = field.iter().position(|&byte| byte == b':')?;
    Some(Device { major: number(&field[..colon])?, minor: number(&field[colon + 1..])? })
}

fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(&unescape(field)))
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

/// The kernel writes blank, tab, newline, backslash and number sign as three octal digits (`mangle`, `seq_path_root`).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(line: &str) -> Entry {
        Table::parse(line.as_bytes()).entries().first().cloned().unwrap()
    }

    #[test]
    fn a_line_with_optional_fields_is_read() {
        let entry = one("36 35 98:0 /mnt1 /mnt2 rw,noatime shared:2 master:1 - ext3 /dev/root rw,errors=continue\n");
        assert_eq!((entry.id, entry.parent), (36, 35));
        assert_eq!(entry.device, Device { major: 98, minor: 0 });
        assert_eq!((entry.root.as_path(), entry.mount_point.as_path()), (Path::new("/mnt1"), Path::new("/mnt2")));
        assert_eq!(entry.propagation, ["shared:2", "master:1"]);
        assert_eq!((entry.fs_type.as_str(), entry.source.as_bytes()), ("ext3", &b"/dev/root"[..]));
        assert!(entry.has_option("noatime") && !entry.is_read_only() && !entry.is_ours());
    }

    #[test]
    fn a_line_without_optional_fields_is_read() {
        let entry =
            one("70 27 0:52 / /run/db ro,nosuid - fuse.secretfs secretfs:a/secret/b rw,user_id=65534,group_id=7");
        assert!(entry.propagation.is_empty());
        assert!(entry.is_ours() && entry.is_read_only() && entry.has_option("nosuid"));
        assert_eq!((entry.super_number("user_id"), entry.super_number("group_id")), (Some(65534), Some(7)));
        assert_eq!(entry.super_number("user"), None);
    }

    #[test]
    fn an_empty_source_does_not_shift_the_fields() {
        let entry = one("70 27 0:52 / /a rw - tmpfs  rw,size=4k");
        assert_eq!((entry.source.as_bytes(), entry.super_options.as_str()), (&b""[..], "rw,size=4k"));
    }

    #[test]
    fn escapes_are_undone_once() {
        assert_eq!(one(r"1 1 0:1 / /a\040b\011c\012d\134040 rw - x y rw").mount_point, Path::new("/a b\tc\nd\\040"));
        assert_eq!(unescape(br"\9\04"), br"\9\04");
        assert_eq!(unescape(br"\377\400"), b"\xff\\400");
    }

    #[test]
    fn a_strange_line_does_not_hide_the_others() {
        let table = Table::parse(b"what\n1 1 0:1 / / rw - x y rw\n\n2 1 zero / /b rw - x y rw\n");
        assert_eq!(table.entries().len(), 1);
    }

    #[test]
    fn of_stacked_mounts_the_upper_one_is_seen() {
        let table = Table::parse(b"1 1 0:1 / / rw - x y rw\n9 1 0:2 / /m rw - x low rw\n5 9 0:3 / /m rw - x top rw\n");
        assert_eq!(table.at(Path::new("/m")).unwrap().id, 5);
        assert_eq!(table.at(Path::new("/")).unwrap().id, 1);
        assert_eq!(table.at(Path::new("/n")), None);
    }

    #[test]
    fn the_real_table_has_a_root_and_proc() {
        let table = Table::read().unwrap();
        assert_eq!(table.at(Path::new("/proc")).unwrap().fs_type, "proc");
        assert!(table.at(Path::new("/")).is_some());
    }

    mod properties {
        use super::*;

        proptest! {
            #[test]
            fn any_path_survives_the_kernels_escaping(bytes in prop::collection::vec(1u8..=255, 1..40)) {
                let escaped: Vec<u8> = bytes.iter().flat_map(|&byte| match byte {
                    b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
                    other => vec![other],
                }).collect();
                prop_assert_eq!(unescape(&escaped), bytes);
            }

            #[test]
            fn no_text_makes_the_parser_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
                Table::parse(&text);
            }
        }
    }
}
