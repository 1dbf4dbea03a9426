//! Options in fstab that mount(8) keeps from its helpers.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const FSTAB: &str = "/etc/fstab";
const PREFIX: &str = "x-secretfs.";

/// The `x-secretfs.*` options of the line of /etc/fstab that mounts secretfs at `dir`; none without such a line.
pub fn own_options(dir: &Path) -> Vec<String> {
    options_in(&std::fs::read(FSTAB).unwrap_or_default(), dir)
}

fn options_in(fstab: &[u8], dir: &Path) -> Vec<String> {
    let mut line = fstab.split(|byte| *byte == b'\n').filter_map(|line| {
        // fstab(5): source, directory, type, options, parted by blanks and tabs.
        let mut fields = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|field| !field.is_empty());
        let source = fields.next().filter(|source| !source.starts_with(b"#"))?;
        let (point, fs_type, options) = (fields.next()?, fields.next()?, fields.next()?);
        let ours = !source.is_empty() && matches!(fs_type, b"secretfs" | b"fuse.secretfs");
        (ours && same(&unescape(point), dir)).then_some(options)
    });
    let options = line.next_back().map(String::from_utf8_lossy).unwrap_or_default();
    options.split(',').filter(|option| option.starts_with(PREFIX)).map(str::to_owned).collect()
}

/// mount(8) may have followed symbolic links, and takes a slash at the end away.
fn same(a: &Path, b: &Path) -> bool {
    a.components().eq(b.components()) || a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

/// A blank is `\040` in fstab, and so on for every byte (getmntent(3)).
fn unescape(field: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|digits| *byte == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        let number = digits.and_then(|digits| u8::from_str_radix(OsStr::from_bytes(digits).to_str()?, 8).ok());
        match number {
            Some(number) => {
                plain.push(number);
                rest = &after[3..];
            }
            None => {
                plain.push(*byte);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(plain).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_options_of_the_line_for_that_directory_count() {
        let fstab = b"# a comment\n\
            proc /proc proc defaults 0 0\n\
            a/secret/b\t/mnt/a\\040b  secretfs x-secretfs.reload=a.service,ro,x-systemd.automount,x-secretfs.layout=flat 0 0\n\
            #a/secret/b /mnt/c secretfs x-secretfs.layout=flat 0 0\n\
            a/secret/b /mnt/c/ fuse.secretfs nofail\n\
            short /mnt/d\n";
        assert_eq!(options_in(fstab, Path::new("/mnt/a b")), ["x-secretfs.reload=a.service", "x-secretfs.layout=flat"]);
        for other in ["/mnt/c", "/mnt/d", "/proc", "/"] {
            assert_eq!(options_in(fstab, Path::new(other)), [] as [&str; 0], "{other}");
        }
        assert_eq!(options_in(b"a /m secretfs x-secretfs.mode=0400", Path::new("/m/")), ["x-secretfs.mode=0400"]);
        assert_eq!(options_in(b"\xff\\9 \\ secretfs", Path::new("/m")), [] as [&str; 0]);
    }
}
