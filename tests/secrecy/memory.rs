//! What is in the daemon's memory, and in what a crash leaves of it.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Place, Planted, find, json, set};
use crate::support::cluster::namespace;
use crate::support::mount::{Mount, is_running};
use crate::support::user::{ROOT, ordinary};
use crate::support::{run, subdir, succeed, tempdir, wait_until};

/// Where the kernel writes core files of a process that works in `cwd`; `None` if it gives them to a program.
fn core_files(cwd: &Path) -> Option<PathBuf> {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("core_pattern");
    match pattern.trim() {
        pattern if pattern.starts_with('|') || pattern.starts_with('@') => None,
        pattern => cwd.join(pattern).parent().map(Path::to_owned),
    }
}

#[test]
fn a_daemon_that_crashes_leaves_no_core_file() {
    let value = Planted::new("value");
    for (user, signal) in [(ROOT, "SEGV"), (ROOT, "ABRT"), (ordinary(), "SEGV"), (ordinary(), "QUIT")] {
        let place = Place::new(user);
        let text =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"key": value.raw}});
        let file = place.input("s.yaml", &text.to_string());
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("ulimit -c unlimited; {script}")]).current_dir(place.path("cwd"));
            command.env("HOME", "/nonexistent").env("TMPDIR", place.path("tmp"));
            user.runs(&mut command);
            command
        };
        // A process without our care leaves one here, so that none is a result.
        let cores = core_files(&place.path("cwd"));
        let count = || {
            let names = cores.iter().filter(|dir| dir.starts_with(place.dir.path())).flat_map(std::fs::read_dir);
            names.flatten().flatten().filter(|entry| entry.metadata().is_ok_and(|found| found.is_file())).count()
        };
        assert!(!run(&mut shell("kill -SEGV $$")).status.success());
        if cores.as_ref().is_some_and(|dir| dir.starts_with(place.dir.path())) {
            assert_eq!(count(), 1, "the control");
            for entry in std::fs::read_dir(place.path("cwd")).expect("cwd").flatten() {
                std::fs::remove_file(entry.path()).expect("unlink");
            }
        }

        let point = place.path("mnt");
        let program = env!("CARGO_BIN_EXE_secretfs");
        succeed(&mut shell(&format!("exec {program} mount -f {file} secret/s {}", point.display())));
        let mut mount = Mount::adopt(&point, user);
        mount.temporary = Some(place.path("tmp"));
        let pid = mount.pid();
        user.does(|| assert_eq!(std::fs::read_to_string(point.join("key")).expect("read"), value.raw));

        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
        let limit = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
        assert_eq!(limit.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{limit}");
        // Not dumpable: its files in /proc are root's, and its user cannot look into it.
        assert_eq!(std::fs::metadata(format!("/proc/{pid}/environ")).expect("stat").uid(), 0);
        if user.uid != 0 {
            user.does(|| assert!(std::fs::read(format!("/proc/{pid}/mem")).is_err()));
        }
        // What holds the value would not be in a core file even if there were one.
        let memory = Memory::of(pid);
        let holders = memory.holders(value.raw.as_bytes());
        assert!(!holders.is_empty(), "the daemon has the value somewhere");
        for holder in holders {
            assert!(holder.flags.contains(" dd"), "{holder:?} would be dumped");
            assert!(holder.flags.contains(" dc"), "{holder:?} would be copied by fork");
        }

        // More than once: Rust's own handler takes the first SIGSEGV for a stack overflow and looks whether it repeats.
        wait_until("its end", || {
            let _ = run(Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]));
            !is_running(pid)
        });
        assert_eq!(count(), 0, "a core file after SIG{signal}");
        place.holds_none(std::slice::from_ref(&value));
    }
}

/// A range of a process's memory.
#[derive(Debug)]
struct Range {
    start: u64,
    end: u64,
    name: String,
    /// The kernel's two letters for each property: proc_pid_smaps(5).
    flags: String,
}

/// All that a process has in memory, as root sees it.
struct Memory {
    ranges: Vec<Range>,
    memory: std::fs::File,
}

impl Memory {
    fn of(pid: u32) -> Memory {
        let mut ranges: Vec<Range> = Vec::new();
        for line in std::fs::read_to_string(format!("/proc/{pid}/smaps")).expect("smaps").lines() {
            if let Some(flags) = line.strip_prefix("VmFlags:") {
                ranges.last_mut().expect("a range").flags = format!(" {}", flags.trim());
            }
            let mut words = line.split_whitespace();
            let Some((start, end)) = words.next().and_then(|word| word.split_once('-')) else { continue };
            let number = |text| u64::from_str_radix(text, 16).ok();
            if let (Some(start), Some(end)) = (number(start), number(end)) {
                let name = words.nth(4).unwrap_or("anonymous").to_owned();
                ranges.push(Range { start, end, name, flags: String::new() });
            }
        }
        let memory = std::fs::File::open(format!("/proc/{pid}/mem")).expect("mem");
        Memory { ranges, memory }
    }

    /// The ranges that hold these bytes.
    fn holders(&self, wanted: &[u8]) -> Vec<&Range> {
        self.ranges.iter().filter(|range| self.holds(range, wanted)).collect()
    }

    fn holds(&self, range: &Range, wanted: &[u8]) -> bool {
        const PIECE: usize = 1 << 20;
        // The pages of reserved but untouched memory cannot be read, or are zero.
        if !range.flags.contains(" rd") || range.name.starts_with("[v") {
            return false;
        }
        let mut piece = vec![0; PIECE + wanted.len()];
        let mut at = range.start;
        while at < range.end {
            let len = (range.end - at).min(piece.len() as u64) as usize;
            match self.memory.read_at(&mut piece[..len], at) {
                Ok(read) if find(&piece[..read], wanted).is_some() => return true,
                Ok(_) => at += PIECE as u64,
                Err(_) => return false,
            }
        }
        false
    }
}

#[test]
fn an_old_value_is_gone_from_the_daemon_once_nobody_has_it_open() {
    let (old, new) = (Planted::new("old"), Planted::new("new"));
    let namespace = namespace();
    namespace.secret("s", &[("key", &old.raw)]);
    let dir = tempdir();
    let point = subdir(dir.path(), "mnt");
    let config = namespace.cluster.kubeconfig();
    let source = format!("{}/secret/s", namespace.name);
    let mount = Mount::new(&["--kubeconfig", config.to_str().expect("UTF-8"), &source], &point);
    let read = || std::fs::read_to_string(point.join("key")).expect("read");
    assert_eq!(read(), old.raw);
    set(&namespace, &new.raw);
    wait_until("the update", || read() == new.raw);
    let pid = mount.pid();
    wait_until("the last owner of the old value to let go", || Memory::of(pid).holders(old.raw.as_bytes()).is_empty());
    let memory = Memory::of(pid);
    for form in &old.forms {
        let holders = memory.holders(form);
        assert!(holders.is_empty(), "{} is still in {holders:?}", String::from_utf8_lossy(form));
    }
    for holder in memory.holders(new.raw.as_bytes()) {
        assert!(holder.flags.contains(" dd"), "{holder:?} holds the value and would be dumped");
    }
    mount.end();
}

#[test]
fn a_value_of_a_manifest_is_gone_from_the_daemon_when_it_has_changed() {
    let (old, new) = (Planted::new("old"), Planted::new("new"));
    let place = Place::new(ROOT);
    let text = |field: &str, text: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, field: {"key": text}}).to_string()
    };
    let file = place.input("s.yaml", &text("data", &old.base64()));
    let point = place.path("mnt");
    let mount = Mount::new(&["-f", &file, "secret/s"], &point);
    let read = || std::fs::read_to_string(point.join("key")).expect("read");
    assert_eq!(read(), old.raw);
    place.input("s.yaml", &text("stringData", &new.raw));
    wait_until("the update", || read() == new.raw);
    let pid = mount.pid();
    for form in &old.forms {
        wait_until("the old value to be gone", || Memory::of(pid).holders(form).is_empty());
    }
    mount.end();
}
