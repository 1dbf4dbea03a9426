//! Who waits for a server that does not answer can be interrupted, long before the deadline.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{Mounted, stage};
use crate::support::cluster::Namespace;
use crate::support::proxy::Proxy;
use crate::support::{in_time, wait_until};

/// The view of a namespace behind a black hole, with a deadline that no test lives to see.
struct Silent {
    proxy: Proxy,
    view: Mounted,
    _namespace: Namespace,
}

impl Silent {
    fn new() -> Silent {
        let (namespace, secrets) = stage();
        secrets.create("unread", &[("k", "at last")]);
        let proxy = Proxy::start(namespace.cluster);
        let of_ns = format!("ns/{}", namespace.name);
        let view = Mounted::new(proxy.context(&namespace.name), &["--timeout", "10m", &of_ns]);
        proxy.black_hole();
        Silent { proxy, view, _namespace: namespace }
    }

    /// Starts a program that reads something of the mount, its last argument, and waits until it hangs there.
    fn reader(&self, program: &[&str], name: &str) -> Reader {
        let mut command = Command::new(program[0]);
        let command =
            command.args(&program[1..]).arg(self.view.path(name)).stdout(Stdio::piped()).stderr(Stdio::piped());
        let reader = Reader(command.spawn().expect("spawn"));
        wait_until("it to wait for the server", || {
            let place = std::fs::read_to_string(format!("/proc/{}/wchan", reader.0.id())).unwrap_or_default();
            // In the kernel: for the answer, or for another who has asked for the same name before.
            ["request_wait_answer", "d_alloc_parallel"].contains(&place.as_str())
        });
        reader
    }
}

/// Killed with its test.
struct Reader(Child);

impl Reader {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("kill");
    }

    fn end(mut self) -> (ExitStatus, String) {
        in_time("the reader hangs", move || {
            let status = self.0.wait().expect("wait");
            let said =
                [self.0.stdout.take().map(std::io::read_to_string), self.0.stderr.take().map(std::io::read_to_string)];
            (status, said.into_iter().flatten().map(|text| text.expect("text")).collect())
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

#[test]
fn signals_end_those_who_wait() {
    let silent = Silent::new();
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        // Each alone, and one who waits behind another.
        let readers = [silent.reader(&["cat"], "unread/k"), silent.reader(&["cat"], "unread/k")];
        for reader in readers {
            reader.signal(signal);
            let (status, said) = reader.end();
            assert_eq!(status.signal(), Some(signal.as_raw()), "{said}");
        }
    }
    let lister = silent.reader(&["ls"], "unread");
    lister.signal(Signal::INT);
    assert_eq!(lister.end().0.signal(), Some(Signal::INT.as_raw()));
}

#[test]
fn who_catches_the_signal_is_told() {
    let silent = Silent::new();
    let script = "import signal, sys, os\n\
        def caught(number, frame): raise SystemExit('caught %d' % number)\n\
        signal.signal(signal.SIGALRM, caught)\n\
        signal.alarm(1)\n\
        open(sys.argv[1])";
    let (status, said) = silent.reader(&["python3", "-c", script], "unread/k").end();
    assert_eq!((status.code(), said.trim()), (Some(1), "caught 14"));
}

#[test]
fn other_signals_disturb_nobody() {
    let silent = Silent::new();
    let script = "import signal, sys, threading\n\
        signal.signal(signal.SIGURG, lambda *_: None)\n\
        signal.signal(signal.SIGINT, signal.SIG_IGN)\n\
        print(open(sys.argv[1]).read())";
    let reader = silent.reader(&["python3", "-c", script], "unread/k");
    let other = silent.reader(&["ls"], "unread");
    for signal in [Signal::URG, Signal::INT, Signal::CHILD] {
        reader.signal(signal);
    }
    // By now they have been looked at.
    other.signal(Signal::INT);
    assert!(!other.end().0.success());
    silent.proxy.heal();
    let (status, said) = reader.end();
    assert_eq!((status.code(), said.trim()), (Some(0), "at last"));
}
