//! Programs that run beside the test, their output followed line by line; they are ended with the test.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use super::PATIENCE;

/// A running program.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    pub out: Stream,
    pub err: Stream,
}

/// What a program has said so far on one of its streams.
#[derive(Clone)]
pub struct Stream(Arc<(Mutex<Said>, Condvar)>);

#[derive(Default)]
struct Said {
    text: Vec<u8>,
    ended: bool,
}

impl Running {
    /// Starts a program in a process group of its own.
    #[track_caller]
    pub fn start(command: &mut Command) -> Running {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
        let stdin = child.stdin.take();
        let out = Stream::follow(child.stdout.take().expect("a pipe"));
        let err = Stream::follow(child.stderr.take().expect("a pipe"));
        Running { child, stdin, out, err }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).expect("kill");
    }

    /// Closes its input and waits for its end, with a deadline.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        self.close_stdin();
        super::wait_for("the program's end", || self.child.try_wait().expect("wait"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The whole group, but only while its leader has not been waited for: afterwards the number may be somebody else's.
        if let Ok(None) = self.child.try_wait() {
            let _ = rustix::process::kill_process_group(
                rustix::process::Pid::from_child(&self.child),
                rustix::process::Signal::KILL,
            );
            let _ = self.child.wait();
        }
    }
}

impl Stream {
    fn follow(mut pipe: impl Read + Send + 'static) -> Stream {
        let stream = Stream(Arc::default());
        let shared = stream.0.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let count = pipe.read(&mut buffer).unwrap_or(0);
                let mut said = shared.0.lock().expect("no panic while it was held");
                said.text.extend_from_slice(&buffer[..count]);
                said.ended |= count == 0;
                shared.1.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        stream
    }

    /// All it has said so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.0.lock().expect("no panic while it was held").text).into_owned()
    }

    /// Waits until `enough` holds of all that was said, and returns that.
    #[track_caller]
    pub fn wait(&self, what: &str, enough: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut said = self.0.0.lock().expect("no panic while it was held");
        loop {
            let text = String::from_utf8_lossy(&said.text).into_owned();
            if enough(&text) {
                return text;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let ended = said.ended;
            if left.is_zero() || ended {
                drop(said);
                panic!(
                    "waited in vain for {what}{}; it said:\n{text}",
                    if ended { ", the stream has ended" } else { "" }
                );
            }
            said = self.0.1.wait_timeout(said, left).expect("no panic while it was held").0;
        }
    }

    /// Waits for a piece of text.
    #[track_caller]
    pub fn wait_for(&self, part: &str) -> String {
        self.wait(&format!("{part:?}"), |text| text.contains(part))
    }

    /// Waits for the end of the stream, which comes when nobody can write to it any more, and returns all that was said.
    #[track_caller]
    pub fn wait_end(&self) -> String {
        super::wait_until("the end of a stream", || self.0.0.lock().expect("no panic while it was held").ended);
        self.text()
    }
}
