//! Those who wait for content, and how they stop waiting when a signal tells them to end.
//!
//! For this the protocol has FUSE_INTERRUPT, but fuser 0.18 answers it with ENOSYS by itself (`dispatch_req` in its
//! request.rs), and gives a file system no way to see it. The kernel then never sends another, and from there on keeps
//! whoever waits for an answer to a request that was read, even those whom SIGKILL has met (`request_wait_answer` in
//! fs/fuse/dev.c). What it would have said is also in proc_pid_status(5): the signals that are pending for the thread that
//! asks. So these are looked at, as long as somebody waits, by a thread that ends when nobody does.

use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use crate::tree::{Demand, Error, Tree};

/// How often signals are looked at.
const INTERVAL: Duration = Duration::from_millis(200);

type Answer = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// One that waits. Whoever takes the answer gives it.
struct Wait {
    thread: u32,
    answer: Mutex<Option<Answer>>,
}

impl Wait {
    fn answer(&self) -> MutexGuard<'_, Option<Answer>> {
        self.answer.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn give(&self, outcome: Result<(), Error>) {
        let answer = self.answer().take();
        if let Some(answer) = answer {
            answer(outcome);
        }
    }
}

#[derive(Default)]
struct State {
    waiting: Vec<Weak<Wait>>,
    /// Whether a thread looks at them.
    watched: bool,
}

/// See the module's documentation.
#[derive(Clone, Default)]
pub(super) struct Waits(Arc<Mutex<State>>);

impl Waits {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Has `answer` called once `demand` is met or refused, or with EINTR when `thread`, whose request it is, has been told
    /// to end. 0 is a thread whose signals cannot be seen.
    pub fn wait(
        &self,
        tree: &Tree,
        demand: Demand,
        thread: u32,
        answer: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) {
        if thread == 0 {
            return tree.wait(demand, answer);
        }
        let wait = Arc::new(Wait { thread, answer: Mutex::new(Some(Box::new(answer))) });
        let seen = Arc::downgrade(&wait);
        tree.wait(demand, move |outcome| wait.give(outcome));
        if seen.strong_count() == 0 {
            return;
        }
        let mut state = self.lock();
        state.waiting.push(seen);
        if !state.watched {
            let waits = self.clone();
            // Without a thread they wait for the answer's own deadline.
            let watcher = std::thread::Builder::new().name("signals".to_owned()).spawn(move || waits.watch());
            state.watched = watcher.is_ok();
        }
    }

    /// Looks at all who wait until there are none.
    fn watch(&self) {
        loop {
            std::thread::sleep(INTERVAL);
            let waiting: Vec<_> = {
                let mut state = self.lock();
                state.waiting.retain(|wait| wait.upgrade().is_some_and(|wait| wait.answer().is_some()));
                if state.waiting.is_empty() {
                    state.watched = false;
                    return;
                }
                state.waiting.iter().filter_map(Weak::upgrade).collect()
            };
            let told = waiting.into_iter().filter(|wait| is_told_to_end(wait.thread));
            told.for_each(|wait| wait.give(Err(Error::Unavailable(libc::EINTR))));
        }
    }
}

/// Whether a signal is pending that will end the thread, or that a program catches in order to end or to stop waiting.
/// Others, which many runtimes send themselves all the time (SIGURG, SIGPROF), must not make calls fail.
fn is_told_to_end(thread: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{thread}/status")).is_ok_and(|status| tells_to_end(&status))
}

fn tells_to_end(status: &str) -> bool {
    let mask = |name: &str| {
        let field = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        field.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
    };
    let pending = (mask("SigPnd") | mask("ShdPnd")) & !mask("SigBlk") & !mask("SigIgn");
    let caught = pending & mask("SigCgt");
    caught & CAUGHT_TO_END != 0 || pending & !caught & !HARMLESS != 0
}

const CAUGHT_TO_END: u64 = set(&[libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGALRM, libc::SIGTERM]);
/// Signals that do not end a process that does not catch them.
const HARMLESS: u64 = set(&[
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGURG,
    libc::SIGWINCH,
    libc::SIGSTOP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
]);

const fn set(signals: &[libc::c_int]) -> u64 {
    let (mut set, mut at) = (0, 0);
    while at < signals.len() {
        set |= 1 << (signals[at] - 1);
        at += 1;
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(thread: &[i32], process: &[i32], [blocked, ignored, caught]: [&[i32]; 3]) -> String {
        let lines =
            [("SigPnd", thread), ("ShdPnd", process), ("SigBlk", blocked), ("SigIgn", ignored), ("SigCgt", caught)];
        let line = |(name, signals): (&str, &[i32])| format!("{name}:\t{:016x}\n", set(signals));
        format!("Name:\tcat\n{}CapInh:\t0000000000000000\n", lines.map(line).concat())
    }

    #[test]
    fn who_is_told_to_end_stops_waiting_and_nobody_else() {
        use libc::{SIGCHLD, SIGINT, SIGKILL, SIGTERM, SIGUSR1};
        let none: &[i32] = &[];
        for (status, ends) in [
            (status(&[], &[], [none; 3]), false),
            (status(&[SIGKILL], &[], [none; 3]), true),
            (status(&[], &[SIGINT], [none; 3]), true),
            (status(&[], &[SIGINT], [none, none, &[SIGINT]]), true),
            (status(&[], &[SIGTERM], [&[SIGTERM], none, none]), false),
            (status(&[], &[SIGINT], [none, &[SIGINT], none]), false),
            (status(&[SIGUSR1], &[], [none; 3]), true),
            (status(&[SIGUSR1], &[], [none, none, &[SIGUSR1]]), false),
            (status(&[SIGCHLD, libc::SIGTSTP], &[libc::SIGURG], [none; 3]), false),
            (String::new(), false),
        ] {
            assert_eq!(tells_to_end(&status), ends, "{status}");
        }
        assert!(!is_told_to_end(std::process::id()), "the kernel's own words");
    }
}
