//! What the tests of this module share: a trivial file system, a place that cleans up after itself, and children.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyStatfs, Session, SessionACL,
};
use rustix::mount::UnmountFlags;

use super::table::{Entry, Table};
use super::{Method, Prepared, Request};

pub const HELLO: &[u8] = b"hello from the test\n";
/// Long enough for a busy machine; only a failing test waits this long.
pub const DEADLINE: Duration = Duration::from_secs(20);
pub const NOBODY: u32 = 65534;

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// One file `hello`, and directories that can be made and removed, to see whether writing gets through.
#[derive(Default)]
pub struct TestFs {
    pub directories: Mutex<BTreeMap<OsString, u64>>,
    /// Where statfs is not to be answered: the questions, kept.
    pub unanswered: Option<Arc<Mutex<Vec<ReplyStatfs>>>>,
}

fn attr(ino: u64) -> FileAttr {
    let is_file = ino == 2;
    FileAttr {
        ino: INodeNo(ino),
        size: if is_file { HELLO.len() as u64 } else { 0 },
        blocks: 1,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if is_file { FileType::RegularFile } else { FileType::Directory },
        perm: if is_file { 0o444 } else { 0o755 },
        nlink: 1,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// So long that only a request which is never cached can tell a dead mount from a living one.
const TTL: Duration = Duration::from_secs(365 * 24 * 3600);

impl Filesystem for TestFs {
    fn lookup(&self, _: &fuser::Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let ino = if name == "hello" { Some(2) } else { self.directories.lock().unwrap().get(name).copied() };
        match ino {
            Some(ino) => reply.entry(&TTL, &attr(ino), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &fuser::Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &attr(ino.0));
    }

    fn mkdir(&self, _: &fuser::Request, _: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let mut directories = self.directories.lock().unwrap();
        let ino = 10 + directories.len() as u64;
        directories.insert(name.to_owned(), ino);
        reply.entry(&TTL, &attr(ino), Generation(0));
    }

    fn read(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        _: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        reply.data(HELLO.get(offset as usize..).unwrap_or_default());
    }

    fn readdir(&self, _: &fuser::Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        if offset == 0 {
            let _ = reply.add(INodeNo(2), 1, FileType::RegularFile, "hello");
        }
        reply.ok();
    }

    fn statfs(&self, _: &fuser::Request, _: INodeNo, reply: ReplyStatfs) {
        match &self.unanswered {
            Some(kept) => kept.lock().unwrap().push(reply),
            None => reply.statfs(0, 0, 0, 0, 0, 4096, 255, 0),
        }
    }

    fn flush(&self, _: &fuser::Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }
}

/// A session that serves in the background.
pub struct Served(Receiver<()>);

pub fn serve(prepared: &Prepared) -> Served {
    serve_as(prepared, TestFs::default())
}

pub fn serve_as(prepared: &Prepared, fs: TestFs) -> Served {
    let fuse: OwnedFd = prepared.fuse.try_clone().unwrap();
    let session = Session::from_fd(fs, fuse, SessionACL::All, fuser::Config::default()).unwrap();
    let (ended, wait) = channel();
    std::thread::spawn(move || {
        let _ = session.run();
        drop(ended);
    });
    Served(wait)
}

impl Served {
    /// Whether the kernel has ended the session by the deadline, which it does when nothing holds the file system any
    /// more.
    pub fn ends(&self) -> bool {
        self.0.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Disconnected)
    }

    pub fn is_running(&self) -> bool {
        self.0.recv_timeout(Duration::ZERO) == Err(RecvTimeoutError::Timeout)
    }
}

/// A directory of its own for each test. However the test ends, nothing stays mounted below it.
pub struct Playground {
    dir: tempfile::TempDir,
}

impl Playground {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("secretfs-test-").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        Playground { dir }
    }

    pub fn for_user(uid: u32) -> Self {
        let playground = Self::new();
        std::os::unix::fs::chown(playground.dir.path(), Some(uid), Some(uid)).unwrap();
        playground
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    /// An empty directory in it.
    pub fn target(&self) -> PathBuf {
        let target = self.path().join("mnt");
        std::fs::create_dir_all(&target).unwrap();
        target
    }

    /// All that is mounted below now.
    pub fn mounts(&self) -> Vec<Entry> {
        mounts_below(&self.path())
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        for entry in mounts_below(self.dir.path()).iter().rev() {
            let _ = rustix::mount::unmount(&entry.mount_point, UnmountFlags::FORCE);
            let _ = rustix::mount::unmount(&entry.mount_point, UnmountFlags::DETACH);
        }
    }
}

pub fn mounts_below(path: &Path) -> Vec<Entry> {
    let table = Table::read().unwrap();
    table.entries().iter().filter(|entry| entry.mount_point.starts_with(path)).cloned().collect()
}

pub fn request(target: &Path, method: Method) -> Request {
    Request {
        target: target.to_owned(),
        source: "secretfs:default/secret/my,secret".into(),
        allow_other: false,
        default_permissions: true,
        allow_nonempty: false,
        method: Some(method),
    }
}

/// udev makes /dev/fuse usable for everybody; machines for tests often have no udev.
pub fn open_fuse_to_all() {
    std::fs::set_permissions("/dev/fuse", std::fs::Permissions::from_mode(0o666)).unwrap();
}

const CHILD: &str = "SECRETFS_TEST_CHILD";

/// In a child of [`child`]: the directory that it was given.
pub fn given_directory() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// Says to the parent that it may look now, and waits until it has.
pub fn ready() {
    println!("READY");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Runs `body` in a process with one thread, which a test never has: in a fork of a [`child`], where the only other
/// thread is the harness waiting for this test, and holds no lock.
pub fn in_one_thread(body: impl FnOnce() + std::panic::UnwindSafe) {
    // SAFETY: As said above; whatever a lock of the harness protects is not used in the fork, which ends here.
    match unsafe { libc::fork() } {
        0 => {
            let failed = std::panic::catch_unwind(body).is_err();
            // SAFETY: Ends this process without running anything that belongs to the harness.
            unsafe { libc::_exit(failed.into()) }
        }
        pid => {
            let pid = rustix::process::Pid::from_raw(pid).expect("fork failed");
            let (_, status) =
                rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap().unwrap();
            assert_eq!(status.exit_status(), Some(0), "the forked part failed");
        }
    }
}

/// Runs one test of this binary in a process of its own: as another user, or because it changes the whole process.
pub struct TestChild(Child);

pub fn child(test: &str, directory: &Path, uid: u32) -> TestChild {
    // Through /proc, since that user may not be able to reach the path of this binary.
    let mut command = Command::new("/proc/self/exe");
    command
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, directory)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if uid != 0 {
        command.uid(uid).gid(uid);
    }
    TestChild(command.spawn().unwrap())
}

impl TestChild {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits for [`ready`] in the child.
    pub fn wait_until_ready(&mut self) {
        let mut seen = Vec::new();
        let mut byte = [0];
        while !seen.ends_with(b"READY\n") {
            match self.0.stdout.as_mut().unwrap().read(&mut byte) {
                Ok(1) => seen.push(byte[0]),
                _ => panic!("the child ended early: {}\n{}", String::from_utf8_lossy(&seen), self.errors()),
            }
        }
    }

    /// Lets the child go on, and expects that it succeeds.
    pub fn succeeds(mut self) {
        drop(self.0.stdin.take());
        let deadline = Instant::now() + 3 * DEADLINE;
        let status = loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                break Some(status);
            }
            if Instant::now() > deadline {
                self.0.kill().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut output = String::new();
        let _ = self.0.stdout.as_mut().unwrap().read_to_string(&mut output);
        assert!(status.is_some_and(|status| status.success()), "{status:?}\n{output}\n{}", self.errors());
        assert!(output.contains("1 passed"), "no such test: {output}");
    }

    /// As the OOM killer does it.
    pub fn dies(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn errors(&mut self) -> String {
        let mut errors = String::new();
        let _ = self.0.stderr.as_mut().unwrap().read_to_string(&mut errors);
        errors
    }
}

impl Drop for TestChild {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
