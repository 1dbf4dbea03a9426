//! sd_notify(3): tells systemd that the mount is usable (`Type=notify`) and that we are alive (`WatchdogSec=`).

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Whoever started us, if it wants to be told. All of it does nothing otherwise.
#[derive(Debug, Default)]
pub struct Notify {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub fn of_environment() -> Self {
        let variable = |name| std::env::var(name).ok();
        let ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let period = variable("WATCHDOG_USEC").and_then(|text| text.parse().ok()).filter(|usec| *usec > 0 && ours);
        Notify {
            socket: std::env::var_os("NOTIFY_SOCKET").and_then(|name| connect(&name).ok()),
            watchdog: period.map(Duration::from_micros),
        }
    }

    /// The mount is usable.
    pub fn ready(&self, status: &str) {
        let status: String = status.chars().filter(|c| !c.is_control()).collect();
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// The mount ends.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Says in each half of the watchdog's time that this thread still gets its turn. Never resolves.
    pub async fn keep_alive(&self) {
        let Some(period) = self.watchdog.filter(|_| self.socket.is_some()) else {
            return std::future::pending().await;
        };
        loop {
            self.send("WATCHDOG=1");
            tokio::time::sleep(period / 2).await;
        }
    }

    fn send(&self, state: &str) {
        if let Some(socket) = &self.socket {
            // Whoever does not listen does not want to know.
            let _ = socket.send(state.as_bytes());
        }
    }
}

/// A name that begins with @ is in the abstract namespace (unix(7)).
fn connect(name: &OsStr) -> std::io::Result<UnixDatagram> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_begins_with_at_is_in_the_abstract_namespace() {
        let name = format!("secretfs-test-{}", std::process::id());
        let theirs = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let notify = Notify { socket: connect(OsStr::new(&format!("@{name}"))).ok(), watchdog: None };
        notify.ready("default/secret/a at /m\nREADY=0");
        let mut told = [0; 100];
        let length = theirs.recv(&mut told).unwrap();
        assert_eq!(std::str::from_utf8(&told[..length]), Ok("READY=1\nSTATUS=default/secret/a at /mREADY=0"));
    }

    #[test]
    fn nobody_who_listens_is_no_error() {
        assert!(connect(OsStr::new("/nonexistent/notify")).is_err());
        Notify::default().stopping();
    }
}
