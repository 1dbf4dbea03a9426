//! What tells the process to end, and threads for what blocks.

use tokio::signal::unix::{self, SignalKind, signal};
use tokio::sync::oneshot;

/// Runs something that blocks in a thread of its own. Dropping the receiver leaves the thread alone.
pub fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
    let (send, receive) = oneshot::channel();
    std::thread::spawn(move || send.send(work()));
    receive
}

/// What told the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGINT, or SIGHUP because the terminal went away: all that runs there gets it.
    FromTerminal,
}

/// Signals that tell the process to end. While they are listened to, none is lost, and none ends the process by itself,
/// which would leave a mount that nobody serves.
pub struct Signals {
    terminate: Option<unix::Signal>,
    interrupt: Option<unix::Signal>,
    hangup: Option<unix::Signal>,
}

impl Signals {
    /// Begins to listen, for the rest of the process's life.
    pub fn listen() -> Self {
        Signals {
            terminate: signal(SignalKind::terminate()).ok(),
            interrupt: signal(SignalKind::interrupt()).ok(),
            // nohup(1) has it ignored.
            hangup: if is_ignored(libc::SIGHUP) { None } else { signal(SignalKind::hangup()).ok() },
        }
    }

    /// Waits until the process is told to end.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            () = received(&mut self.terminate) => Signal::Terminate,
            () = received(&mut self.interrupt) => Signal::FromTerminal,
            () = received(&mut self.hangup) => Signal::FromTerminal,
        }
    }

    /// Waits for the first of them.
    pub async fn told_to_end(mut self) {
        self.next().await;
    }
}

async fn received(signal: &mut Option<unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether whoever started the program had the signal ignored (`SigIgn` in proc_pid_status(5)).
fn is_ignored(signal: libc::c_int) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
