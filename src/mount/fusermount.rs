//! Mounts and unmounts through the setuid helper fusermount3, for ordinary users.
//!
//! The helper mounts at once, and hands the connection over a socket. That socket is its standard input: so no
//! descriptor has to be made inheritable, which could slip into another child that a thread of ours starts at that
//! moment.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg, socketpair,
};

use super::table::SUBTYPE;
use super::target::{self, Target};
use super::{MountError, Place, Request, device, unmount};

/// Searched in this order, and nowhere else: `$PATH` belongs to the user and to whoever wrote his environment.
const DIRECTORIES: [&str; 4] = ["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"];
const NAMES: [&str; 2] = ["fusermount3", "fusermount"];
const DEADLINE: Duration = Duration::from_secs(10);
/// The helper's complaints are a line or two.
const LONGEST_MESSAGE: usize = 4096;

/// A mount that can be seen already. Dropping it unmounts it.
#[derive(Debug)]
pub(super) struct Stage {
    place: Option<Place>,
}

/// Lets the helper mount and receives the connection.
///
/// # Errors
/// [`MountError::FuseMissing`], [`MountError::FuseDenied`], the `Helper...` variants, [`MountError::AllowOtherDenied`].
pub(super) fn prepare(request: &Request, target: Target) -> Result<(OwnedFd, Stage), MountError> {
    let helper = find_helper()?;
    // The helper opens the device with the caller's rights; what it says when it cannot is for its own command line.
    drop(device::open()?);
    // The helper checks and opens the directory by itself, and ours would keep it from unmounting after a mistake.
    let Target { fd, path } = target;
    drop(fd);
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|errno| MountError::refused("socketpair", &path, errno))?;
    let mut command = command(&helper);
    command.arg("-o").arg(options(request)).arg("--").arg(&path).env("_FUSE_COMMFD", "0").stdin(theirs);
    let Outcome { fuse, message, status: _, in_time } =
        run(command, Some(ours), DEADLINE).map_err(|cause| MountError::refused("fork", &path, cause))?;
    let result = match fuse {
        _ if !in_time => Err(MountError::HelperSlow { helper, path: path.clone(), deadline: DEADLINE }),
        None => Err(explain(helper, path.clone(), message)),
        Some(fuse) => keep(fuse, &path),
    };
    result.inspect_err(|_| {
        // If it mounted all the same, then without our connection, which is closed by now: that mount is dead.
        let _ = target::clear_dead(&path);
    })
}

fn keep(fuse: OwnedFd, path: &Path) -> Result<(OwnedFd, Stage), MountError> {
    let fuse = device::above_stdio(fuse).map_err(|errno| MountError::refused("fcntl", path, errno))?;
    Ok((fuse, Stage { place: Some(locate(path)?) }))
}

impl Stage {
    /// The mount stays.
    pub(super) fn keep(mut self) -> Option<Place> {
        self.place.take()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(place) = self.place.take()
            && let Err(error) = unmount::detach_exactly(&place)
        {
            tracing::warn!(%error, "a mount that was not used could not be taken back");
        }
    }
}

/// Unmounts `path` in the name of the user who mounted it.
///
/// # Errors
/// What the helper says.
pub(super) fn unmount(path: &Path, flags: UnmountHow) -> Result<(), MountError> {
    let helper = find_helper()?;
    let mut command = command(&helper);
    command.arg("-u");
    if flags == UnmountHow::Lazily {
        command.arg("-z");
    }
    command.arg("--").arg(path).stdin(Stdio::null());
    let outcome = run(command, None, DEADLINE).map_err(|cause| MountError::refused("fork", path, cause))?;
    // Where SIGCHLD is ignored there is no status; then it has succeeded if it did not complain.
    match outcome.status.map_or(outcome.message.is_empty(), |status| status.success()) {
        _ if !outcome.in_time => Err(MountError::HelperSlow { helper, path: path.to_owned(), deadline: DEADLINE }),
        true => Ok(()),
        false => Err(explain_unmount(path, outcome.message)),
    }
}

/// Whether a mount in use stays or goes out of sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnmountHow {
    IfUnused,
    Lazily,
}

/// The helper, if this process can gain its privileges.
///
/// # Errors
/// [`MountError::HelperMissing`], [`MountError::HelperPowerless`].
pub(super) fn usable_helper() -> Result<PathBuf, MountError> {
    let helper = find_helper()?;
    if is_powerless() { Err(MountError::HelperPowerless { helper }) } else { Ok(helper) }
}

fn is_powerless() -> bool {
    !rustix::process::geteuid().is_root() && rustix::thread::no_new_privs().unwrap_or(false)
}

fn find_helper() -> Result<PathBuf, MountError> {
    let candidates = || NAMES.iter().flat_map(|name| DIRECTORIES.iter().map(move |dir| Path::new(dir).join(name)));
    let is_setuid_root =
        |path: &PathBuf| path.metadata().is_ok_and(|file| file.uid() == 0 && file.mode() & 0o4000 != 0);
    candidates()
        .find(is_setuid_root)
        .or_else(|| candidates().find(|path| path.is_file()))
        .ok_or_else(|| MountError::HelperMissing { searched: DIRECTORIES.join(", ") })
}

fn command(helper: &Path) -> Command {
    let mut command = Command::new(helper);
    // In English, so that its complaints can be told apart.
    command.env_clear().env("LC_ALL", "C").current_dir("/").stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn options(request: &Request) -> String {
    let mut options = format!("rw,nosuid,nodev,noexec,fsname={},subtype={SUBTYPE}", escape(&request.shown_source()));
    for flag in request.flags() {
        options.push(',');
        options.push_str(flag);
    }
    options
}

/// fusermount undoes backslashes in the values of fsname and subtype (`do_mount` in libfuse util/fusermount.c); without
/// them a comma would begin a new option.
fn escape(value: &str) -> String {
    value.chars().flat_map(|c| matches!(c, ',' | '\\').then_some('\\').into_iter().chain([c])).collect()
}

/// Where the helper has mounted. Nothing is asked of the file system, which does not answer yet.
fn locate(path: &Path) -> Result<Place, MountError> {
    let target = target::open(path)?;
    match target.mount()? {
        Some(entry) if entry.is_ours() => Ok(Place { path: path.to_owned(), identity: target.identity()? }),
        Some(_) => Err(MountError::Covered { path: path.to_owned() }),
        None => Err(MountError::NotMounted { path: path.to_owned() }),
    }
}

struct Outcome {
    fuse: Option<OwnedFd>,
    message: String,
    status: Option<ExitStatus>,
    in_time: bool,
}

/// Runs the helper to its end, or to the deadline: it is done when it has let go of the socket and of its error stream.
fn run(mut command: Command, mut socket: Option<OwnedFd>, deadline: Duration) -> io::Result<Outcome> {
    let mut child = command.spawn()?;
    // The command still holds the helper's end of the socket, and there would be no end of file.
    drop(command);
    let deadline = Instant::now() + deadline;
    let mut errors = child.stderr.take().map(OwnedFd::from);
    let (mut fuse, mut message) = (None, Vec::new());
    while socket.is_some() || errors.is_some() {
        let Some((socket_ready, errors_ready)) = poll_both(&socket, &errors, deadline)? else {
            end(&mut child);
            return Ok(Outcome { fuse: None, message: printable(&message), status: None, in_time: false });
        };
        if let Some(open) = socket.as_ref().filter(|_| socket_ready) {
            match receive(open) {
                Ok(Some(fd)) => fuse = fd.or(fuse),
                Ok(None) | Err(_) => socket = None,
            }
        }
        if let Some(open) = errors.as_ref().filter(|_| errors_ready) {
            let mut chunk = [0; 512];
            match rustix::io::read(open, &mut chunk) {
                Ok(0) | Err(_) => errors = None,
                Ok(length) if message.len() < LONGEST_MESSAGE => message.extend_from_slice(&chunk[..length]),
                Ok(_) => {}
            }
        }
    }
    Ok(Outcome { fuse, message: printable(&message), status: child.wait().ok(), in_time: true })
}

/// Which of the two has something to read, or has ended; `None` at the deadline.
fn poll_both(a: &Option<OwnedFd>, b: &Option<OwnedFd>, deadline: Instant) -> io::Result<Option<(bool, bool)>> {
    let mut fds: Vec<_> = a.iter().chain(b).map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    match rustix::event::poll(&mut fds, Some(&left)) {
        Ok(0) => return Ok(None),
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
    let of_a = a.is_some() && ready.next().unwrap_or(false);
    Ok(Some((of_a, ready.next().unwrap_or(false))))
}

/// Kills a helper that is late. It may be stuck in the kernel and then does not die; it is waited for only a moment.
fn end(child: &mut Child) {
    let _ = child.kill();
    for _ in 0..20 {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One message of the helper: `None` at the end, else the descriptor that came with it.
fn receive(socket: &OwnedFd) -> Result<Option<Option<OwnedFd>>, Errno> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if message.bytes == 0 {
        return Ok(None);
    }
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(Some(fd))
}

/// One line without the helper's name and without anything that could trouble a terminal.
fn printable(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines =
        lines.map(|line| line.strip_prefix("fusermount3: ").or(line.strip_prefix("fusermount: ")).unwrap_or(line));
    lines.collect::<Vec<_>>().join("; ").chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn explain(helper: PathBuf, path: PathBuf, message: String) -> MountError {
    if message.contains("user_allow_other") {
        MountError::AllowOtherDenied { path }
    } else if is_powerless() {
        MountError::HelperPowerless { helper }
    } else {
        let message = if message.is_empty() { "it gave no reason".to_owned() } else { message };
        MountError::HelperFailed { helper, path, message }
    }
}

fn explain_unmount(path: &Path, message: String) -> MountError {
    let path = path.to_owned();
    if message.contains("busy") {
        MountError::Busy { path, users: String::new() }
    } else {
        // Above all "not found in /etc/mtab": the helper knows only the user's own mounts.
        MountError::NotPermitted { path, message }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(source: &str) -> Request {
        Request {
            target: "/mnt".into(),
            source: source.into(),
            allow_other: true,
            default_permissions: true,
            allow_nonempty: false,
            method: None,
        }
    }

    #[test]
    fn a_comma_in_the_source_is_no_new_option() {
        assert_eq!(
            options(&request(r"a,allow_root\b")),
            r"rw,nosuid,nodev,noexec,fsname=a\,allow_root\\b,subtype=secretfs,default_permissions,allow_other"
        );
    }

    #[test]
    fn messages_lose_the_name_of_the_helper_and_control_characters() {
        assert_eq!(printable(b"fusermount3: a\x1b[1m\nfusermount3: b\n"), "a?[1m; b");
    }

    #[test]
    fn a_missing_permission_for_allow_other_names_the_file_to_edit() {
        let message = "option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf".to_owned();
        let error = explain("/usr/bin/fusermount3".into(), "/m".into(), message);
        assert!(matches!(error, MountError::AllowOtherDenied { .. }));
        assert!(error.to_string().contains("/etc/fuse.conf"));
    }

    #[test]
    fn a_helper_that_is_late_is_ended() {
        let mut command = command(Path::new("/bin/sleep"));
        command.arg("60").stdin(Stdio::null());
        let start = Instant::now();
        let outcome = run(command, None, Duration::from_millis(50)).unwrap();
        assert!(!outcome.in_time && outcome.status.is_none() && start.elapsed() < Duration::from_secs(30));
    }

    mod properties {
        use super::*;

        proptest! {
            /// The same walk over the options as `do_mount` of libfuse's util/fusermount.c makes.
            #[test]
            fn the_helper_reads_the_source_as_we_meant_it(source in r#"[a-z,\\=/: ]{0,40}"#) {
                let options = options(&request(&source));
                let value = options.split_once("fsname=").unwrap().1;
                let mut read = String::new();
                let mut chars = value.chars();
                while let Some(c) = chars.next() {
                    match c {
                        '\\' => read.extend(chars.next()),
                        ',' => break,
                        other => read.push(other),
                    }
                }
                prop_assert_eq!(read, source);
            }
        }
    }
}
