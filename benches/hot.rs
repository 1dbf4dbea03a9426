//! Hot reads: what has been read once, against the same tree on a tmpfs and in an ordinary FUSE file system.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, RawDir};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::ordinary::Ordinary;
use crate::report::{Report, Rival};
use crate::rounds::{interleaved, per_operation};
use crate::support::mount::Mount;
use crate::support::{subdir, succeed, tempdir};

const ROUNDS: usize = 101;
/// Short turns, so that a disturbance hits all contestants or only a few turns.
const OPERATIONS: u32 = 1000;
/// The ordinary file system takes up to fifty times as long.
const OPERATIONS_ORDINARY: u32 = 100;

const SECRET: &str = r#"{
    "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"},
    "stringData": {"username": "app", "password": "correct horse battery staple", "url": "postgres://db.example/app"}
}"#;

/// The ratios to tmpfs that the layouts may have.
struct Limits {
    stat: f64,
    open_read: f64,
}

pub fn run(report: &mut Report) {
    let dir = tempdir();
    let manifest = dir.path().join("db.json");
    std::fs::write(&manifest, SECRET).expect("write");
    report.part("hot", &format!("a Secret with 3 keys of up to 28 bytes; medians of {ROUNDS} rounds"));
    layout(report, &manifest, "kubelet", &Limits { stat: 1.6, open_read: 1.7 });
    layout(report, &manifest, "flat", &Limits { stat: 1.2, open_read: 1.4 });
}

/// The three trees of one layout, at paths of equal length.
struct Trees {
    secretfs: Mount,
    tmpfs: Tmpfs,
    ordinary: Ordinary,
}

impl Trees {
    fn make(dir: &Path, manifest: &Path, layout: &str) -> Self {
        let manifest = manifest.to_str().expect("UTF-8");
        let point = subdir(dir, "ours");
        let secretfs = Mount::new(&["-f", manifest, "--layout", layout, "secret/db"], &point);
        let tmpfs = Tmpfs::mount(&subdir(dir, "tmps"));
        tmpfs.copy_from(&point);
        let ordinary = Ordinary::mount(&tmpfs.0, &subdir(dir, "fuse"));
        Trees { secretfs, tmpfs, ordinary }
    }
}

fn layout(report: &mut Report, manifest: &Path, layout: &str, limits: &Limits) {
    let dir = tempdir();
    let trees = Trees::make(dir.path(), manifest, layout);
    let mut requests = 0;
    let mut measure = |what: &str, name: &str, operation: fn(&CStr), limit: Option<f64>| {
        let paths = [&trees.secretfs.dir, &trees.tmpfs.0, &trees.ordinary.dir].map(|dir| c_path(&dir.join(name)));
        paths.iter().for_each(|path| operation(path));
        let before = trees.secretfs.requests();
        let [ours, tmpfs, ordinary] = interleaved(
            ROUNDS,
            [
                &mut || per_operation(OPERATIONS, || operation(&paths[0])),
                &mut || per_operation(OPERATIONS, || operation(&paths[1])),
                &mut || per_operation(OPERATIONS_ORDINARY, || operation(&paths[2])),
            ],
        );
        requests += trees.secretfs.requests() - before;
        let figure = format!("{what}, {layout} layout");
        let ours = ours.median();
        report.against(&figure, ours, &Rival { name: "tmpfs", value: tmpfs.median() }, limit);
        report.against("", ours, &Rival { name: "ordinary FUSE", value: ordinary.median() }, None);
    };
    measure("stat", "password", stat, Some(limits.stat));
    measure("open+fstat+read+close", "password", open_read, Some(limits.open_read));
    measure("readdir", "", readdir, None);
    report.exactly(&format!("FUSE requests in all these rounds, {layout}"), requests, 0);
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no NUL")
}

fn stat(path: &CStr) {
    rustix::fs::stat(path).expect("stat");
}

fn open_read(path: &CStr) {
    let mut buffer = [0; 4096];
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).expect("open");
    let size = rustix::fs::fstat(&file).expect("fstat").st_size as usize;
    let read = rustix::io::read(&file, &mut buffer).expect("read");
    assert_eq!(read, size);
}

fn readdir(path: &CStr) {
    let mut buffer = [std::mem::MaybeUninit::uninit(); 32 << 10];
    let dir = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let dir = dir.expect("opendir");
    let mut entries = RawDir::new(&dir, &mut buffer);
    let mut count = 0;
    while let Some(entry) = entries.next() {
        entry.expect("readdir");
        count += 1;
    }
    assert!(count >= 5, "3 keys and two dots");
}

/// A tmpfs of its own, unmounted at the end.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(dir: &Path) -> Self {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount("tmpfs", dir, "tmpfs", flags, c"mode=0700").expect("mount a tmpfs");
        Tmpfs(dir.to_owned())
    }

    fn copy_from(&self, source: &Path) {
        succeed(std::process::Command::new("cp").arg("-a").arg(source.join(".")).arg(&self.0));
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}
