//! What `-f` names, and reading it: files whole and bounded, directories as kubectl lists them.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use super::error::{ManifestError, Unreadable};

/// The largest file that is read, in bytes.
pub(super) const MAX_FILE_BYTES: usize = 64 << 20;

/// One `-f`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A file, followed as it changes; a pipe (`-f <(sops -d secret.yaml)`) is read once.
    File(PathBuf),
    /// All *.yaml, *.yml and *.json in a directory, not in those below it; followed as files come and go.
    Dir(PathBuf),
    /// Standard input, read once.
    Stdin,
}

impl Input {
    /// Takes what a user typed after `-f`: `-` or a path, whose kind it looks up.
    pub fn parse(text: &OsStr) -> Result<Input, ManifestError> {
        if text == "-" {
            return Ok(Input::Stdin);
        }
        let path = PathBuf::from(text);
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => Ok(Input::Dir(path)),
            Ok(_) => Ok(Input::File(path)),
            Err(error) => Err(ManifestError::Unreadable { file: path.display().to_string(), why: error.into() }),
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::File(path) | Input::Dir(path) => write!(f, "{}", path.display()),
            Input::Stdin => f.write_str("standard input"),
        }
    }
}

/// Whether a directory's entry of this name is read (cli-runtime, `FileExtensions`: Go's filepath.Ext, case counts).
pub(super) fn is_manifest_name(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    [b".json".as_slice(), b".yaml", b".yml"].iter().any(|extension| name.ends_with(extension))
}

/// The names in a directory that are read, in kubectl's order; `None` if there is no such directory.
pub(super) fn manifests_in(dir: &Path) -> Result<Option<Vec<OsString>>, Unreadable> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return absent(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        if is_manifest_name(&name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(Some(names))
}

/// What tells one content of a file from the next without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether a later change may leave the stamp as it is: the kernel's clock for files moves in steps of up to 10 ms.
    fn is_fresh(&self, now: SystemTime) -> bool {
        let (seconds, nanos) = self.changed;
        let since = Duration::new(seconds.max(0) as u64, nanos.max(0) as u32);
        let age = now.duration_since(SystemTime::UNIX_EPOCH + since);
        age.is_ok_and(|age| age < Duration::from_millis(50))
    }
}

/// A file as it is now.
pub(super) enum Look {
    Missing,
    /// As it was when it had the stamp that was given.
    Same,
    Directory,
    Content(Content),
}

pub(super) struct Content {
    pub bytes: Zeroizing<Vec<u8>>,
    pub modified: SystemTime,
    /// `None` if the file must be read again the next time, whatever its stamp is then.
    pub stamp: Option<Stamp>,
}

/// Reads a regular file, unless it still has the stamp `known`.
pub(super) fn look(path: &Path, known: Option<Stamp>) -> Result<Look, Unreadable> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return absent::<()>(error).map(|_| Look::Missing),
    };
    if metadata.is_dir() {
        return Ok(Look::Directory);
    }
    if known == Some(Stamp::of(&metadata)) {
        return Ok(Look::Same);
    }
    // Something else may stand there by now, and opening a pipe must not wait for a writer.
    let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits();
    let file = match OpenOptions::new().read(true).custom_flags(flags as i32).open(path) {
        Ok(file) => file,
        Err(error) => return absent::<()>(error).map(|_| Look::Missing),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(if metadata.is_dir() { Unreadable::Directory } else { Unreadable::NotAFile });
    }
    if metadata.len() > MAX_FILE_BYTES as u64 {
        return Err(Unreadable::TooLarge);
    }
    let stamp = Stamp::of(&metadata);
    let stamp = (!stamp.is_fresh(SystemTime::now())).then_some(stamp);
    let bytes = read_all(file, metadata.len() as usize, MAX_FILE_BYTES)?;
    Ok(Look::Content(Content { bytes, modified: metadata.modified()?, stamp }))
}

/// Reads what can be read only once: a pipe or standard input.
pub(super) fn read_once(reader: impl Read) -> Result<Content, Unreadable> {
    Ok(Content { bytes: read_all(reader, 0, MAX_FILE_BYTES)?, modified: SystemTime::now(), stamp: None })
}

/// Opens a pipe or a device, which waits for its writer.
pub(super) fn open_once(path: &Path) -> Result<File, Unreadable> {
    Ok(File::open(path)?)
}

/// Whether a path names a descriptor of this process, which is another one or none later.
pub(super) fn is_descriptor(path: &Path) -> bool {
    ["/dev/stdin", "/dev/fd", "/proc/self/fd"].iter().any(|place| path.starts_with(place))
}

/// Reads at most `limit` bytes to the end; `expected` is how many there should be. Buffers that were too small are wiped.
fn read_all(mut reader: impl Read, expected: usize, limit: usize) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
    let mut buffer = Zeroizing::new(vec![0; expected.max(4095) + 1]);
    let mut len = 0;
    loop {
        if len == buffer.len() {
            let mut larger = Zeroizing::new(vec![0; len * 2]);
            larger[..len].copy_from_slice(&buffer);
            buffer = larger;
        }
        match reader.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        if len > limit {
            return Err(Unreadable::TooLarge);
        }
    }
    buffer.truncate(len);
    Ok(buffer)
}

/// `None` for an error that says that there is nothing.
fn absent<T>(error: io::Error) -> Result<Option<T>, Unreadable> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
        _ => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_as_kubectl_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", "c.json", ".hidden.yaml", "d.YAML", "e.txt", "f.yaml~", "yaml"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::create_dir(dir.path().join("deeper")).unwrap();
        std::fs::write(dir.path().join("deeper/g.yaml"), "").unwrap();
        let names = manifests_in(dir.path()).unwrap().unwrap();
        assert_eq!(names, [".hidden.yaml", "a.yml", "b.yaml", "c.json"]);
    }

    #[test]
    fn a_path_is_a_file_or_a_directory_and_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        std::fs::write(&file, "").unwrap();
        assert_eq!(Input::parse(OsStr::new("-")), Ok(Input::Stdin));
        assert_eq!(Input::parse(dir.path().as_os_str()), Ok(Input::Dir(dir.path().to_owned())));
        assert_eq!(Input::parse(file.as_os_str()), Ok(Input::File(file)));
        let error = Input::parse(dir.path().join("none").as_os_str()).unwrap_err().to_string();
        assert!(error.ends_with("none: there is no such file or directory: check the path given with -f"), "{error}");
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large.yaml");
        File::create(&path).unwrap().set_len(MAX_FILE_BYTES as u64 + 1).unwrap();
        assert!(matches!(look(&path, None), Err(Unreadable::TooLarge)));
        assert!(matches!(read_all(io::repeat(b' '), 0, 10_000), Err(Unreadable::TooLarge)));
        assert_eq!(read_all(io::repeat(b' ').take(10_000), 0, 10_000).unwrap().len(), 10_000);
    }

    #[test]
    fn an_unchanged_file_is_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        std::fs::write(&path, "a").unwrap();
        let stamp = Stamp::of(&std::fs::metadata(&path).unwrap());
        assert!(matches!(look(&path, Some(stamp)), Ok(Look::Same)));
        std::fs::write(&path, "bc").unwrap();
        assert!(matches!(look(&path, Some(stamp)), Ok(Look::Content(content)) if **content.bytes == *b"bc"));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(look(&path, Some(stamp)), Ok(Look::Missing)));
    }
}
