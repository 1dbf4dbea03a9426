//! Streams, terminals and signals around a command.

use std::ffi::OsStr;
use std::process::Command;

use rustix::process::Signal;

use super::{refused, sandbox};
use crate::support::process::Running;
use crate::support::user::{ROOT, ordinary};
use crate::support::{run, said, succeed, wait_until};

#[test]
fn closed_streams_do_not_matter() {
    for user in [ROOT, ordinary()] {
        for streams in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
            let sandbox = sandbox();
            let mut script = sandbox.bash(&format!("secretfs mount -f good.yaml secret/s mnt {streams}"));
            assert_eq!(succeed(user.runs(&mut script)), "", "{streams}");
            assert_eq!(user.does(|| std::fs::read(sandbox.path("mnt/key")).expect("read")), b"value");
            succeed(user.runs(sandbox.secretfs().args(["umount", "mnt"])));
            sandbox.is_clean();
            // The exit code needs no stream.
            let output =
                run(user.runs(&mut sandbox.bash(&format!("secretfs mount -f good.yaml secret/s missing {streams}"))));
            assert_eq!(output.status.code(), Some(7), "{streams}: {}", said(&output));
            sandbox.is_clean();
        }
    }
}

#[test]
fn a_daemon_holds_nothing_of_the_shell_that_started_it() {
    let sandbox = sandbox();
    // Whoever reads a pipe waits until the last writer is gone: the shell's streams, and a descriptor that it forgot.
    for script in [
        "secretfs mount -f good.yaml secret/s mnt | cat",
        "secretfs mount -f good.yaml secret/s mnt 2>&1 | cat",
        "test -z \"$(secretfs mount -f good.yaml secret/s mnt)\"",
        "{ secretfs mount -f good.yaml secret/s mnt; } 9>&1 >/dev/null | cat",
    ] {
        let shell = Running::start(&mut sandbox.bash(script));
        shell.out.wait_end();
        assert_eq!(std::fs::read(sandbox.path("mnt/key")).expect("read"), b"value");
        succeed(sandbox.secretfs().args(["umount", "mnt"]));
        sandbox.is_clean();
    }
}

#[test]
fn a_reader_that_has_gone_does_no_harm() {
    let sandbox = sandbox();
    for (words, code) in [
        ("--help", 0),
        ("mount --help", 0),
        ("status", 0),
        ("status -o json", 0),
        ("ls -f good.yaml", 0),
        ("cat -f good.yaml secret/s", 0),
        ("mount secret/S mnt", 2),
        ("--nonsense", 2),
        ("umount mnt", 7),
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = sandbox.secretfs();
        command.args(words.split(' ')).stdout(writer.try_clone().expect("a descriptor")).stderr(writer);
        assert_eq!(command.status().expect("its end").code(), Some(code), "{words}");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let sandbox = sandbox();
    let output = run(&mut sandbox.bash("secretfs cat -f good.yaml secret/s >/dev/full"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(text.starts_with("secretfs: cannot write to standard output: No space left"), "{text}");
}

#[test]
fn a_mount_survives_the_terminal_where_it_was_made() {
    let sandbox = sandbox();
    let on_a_terminal = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)";
    let words = [env!("CARGO_BIN_EXE_secretfs"), "mount", "-f", "good.yaml", "secret/s", "mnt"];
    succeed(sandbox.runs(Command::new("python3").args(["-c", on_a_terminal]).args(words)));
    let daemons = sandbox.processes();
    assert_eq!(daemons.len(), 1);
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemons[0])).expect("its state");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let (group, session, terminal) = (fields[2], fields[3], fields[4]);
    assert_eq!((group, session, terminal), (&*daemons[0].to_string(), &*daemons[0].to_string(), "0"), "{stat}");
    assert_eq!(std::fs::read(sandbox.path("mnt/key")).expect("read"), b"value");
    succeed(sandbox.secretfs().args(["umount", "mnt"]));
    sandbox.is_clean();
}

#[test]
fn who_interrupts_a_mount_that_is_in_the_making_gets_none() {
    let sandbox = sandbox();
    // A manifest that nobody writes yet.
    succeed(Command::new("mkfifo").arg(sandbox.path("slow")));
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let waiting = Running::start(sandbox.secretfs().args(["mount", "-f", "slow", "secret/s", "mnt"]));
        wait_until("the serving process", || sandbox.processes().len() == 2);
        waiting.signal(signal);
        sandbox.is_clean();
    }
}

#[test]
fn a_mount_in_the_foreground_ends_with_its_terminal_unless_nohup_says_no() {
    let sandbox = sandbox();
    // Starts it on a terminal, and closes that as soon as it says that it is mounted.
    let close_early = "import os, pty, sys\n\
        pid, terminal = pty.fork()\n\
        if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])\n\
        said = b''\n\
        while b'mounted' not in said: said += os.read(terminal, 4096)\n\
        os.close(terminal)\n\
        os.waitpid(pid, 0)";
    let words = [env!("CARGO_BIN_EXE_secretfs"), "mount", "--foreground", "-f", "good.yaml", "secret/s", "mnt"];
    succeed(sandbox.runs(Command::new("python3").args(["-c", close_early]).args(words)));
    sandbox.is_clean();

    let mut command = Command::new("nohup");
    let mut daemon = Running::start(sandbox.runs(command.args(words)));
    daemon.err.wait_for("mounted");
    daemon.signal(Signal::HUP);
    assert_eq!(std::fs::read(sandbox.path("mnt/key")).expect("read"), b"value");
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
    sandbox.is_clean();
}

#[test]
fn a_private_mount_returns_its_commands_exit_code() {
    let sandbox = sandbox();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)] {
        for user in [ROOT, ordinary()] {
            let mut command = sandbox.secretfs();
            command.args(["mount", "--private", "-f", "good.yaml", "secret/s", "mnt", "--", "sh", "-c"]);
            let output = run(user.runs(command.arg(format!("cat mnt/key; {script}"))));
            assert_eq!((output.status.code(), &*output.stdout), (Some(code), &b"value"[..]), "{}", said(&output));
            sandbox.is_clean();
        }
    }
    let args: Vec<&OsStr> = ["mount", "--private", "-f", "good.yaml", "secret/s", "mnt", "--", "./no-such-program"]
        .iter()
        .map(OsStr::new)
        .collect();
    refused(&sandbox, ROOT, &args, 1, &["./no-such-program", "cannot be run"]);
}
