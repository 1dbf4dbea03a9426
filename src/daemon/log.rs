//! Where messages go: the terminal while somebody looks at it, the system's log afterwards.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;

/// kube logs the body of an object that it cannot decode, and each failing request as an error; hyper, h2 and
/// fuser log names. What is worth saying of these we say ourselves.
const QUIET: [&str; 8] = ["kube_client", "kube", "hyper_util", "hyper", "h2", "rustls", "tower", "fuser"];

/// The log's switch from the terminal to the system.
#[derive(Clone, Default)]
pub struct Log(Arc<Inner>);

#[derive(Default)]
struct Inner {
    detached: AtomicBool,
    system: Mutex<Option<UnixDatagram>>,
}

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Warn,
    Info,
    Debug,
}

/// Starts logging to standard error.
pub fn start(level: Level) -> Log {
    let log = Log::default();
    let level = match level {
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    let filter = Targets::new().with_default(level).with_targets(QUIET.map(|target| (target, LevelFilter::OFF)));
    let messages = fmt::layer().with_writer(log.clone()).with_target(false).with_ansi(false).without_time();
    let subscriber = tracing_subscriber::registry().with(filter).with(messages);
    // A second call in one process keeps the first one's settings.
    let _ = tracing::subscriber::set_global_default(subscriber);
    log
}

impl Log {
    /// From now on messages go to /dev/log (journald and every syslog daemon read it), or nowhere if it is not there.
    pub fn detach(&self) {
        let socket = UnixDatagram::unbound().and_then(|socket| {
            socket.connect("/dev/log")?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        *self.0.system.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = socket.ok();
        self.0.detached.store(true, Ordering::Release);
    }
}

/// One message on its way.
pub struct Line(Log);

impl Write for Line {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if !self.0.0.detached.load(Ordering::Acquire) {
            return io::stderr().write(text);
        }
        if let Some(socket) = &*self.0.0.system.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            // RFC 3164: facility daemon (3), severity warning (4).
            let mut packet = format!("<28>secretfs[{}]: ", std::process::id()).into_bytes();
            packet.extend_from_slice(text.trim_ascii_end());
            // A full or vanished log daemon must not stop the mount.
            let _ = socket.send(&packet);
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(self.clone())
    }
}
