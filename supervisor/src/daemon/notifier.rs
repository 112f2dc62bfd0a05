//! Messages to the service manager, in the protocol of sd_notify(3).
//!
//! The crate sd-notify is not used: it blocks its caller, and the protocol is a datagram.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram as BlockingDatagram};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ipc_protocol::untrusted::escaped;
use tokio::net::UnixDatagram;

use crate::clock::Clock;
use crate::telemetry;

/// The socket to which a service sends its messages.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";

/// The socket of the service manager that started this process; without one, no message is sent.
#[derive(Debug, Default)]
pub struct NotifySocket {
    socket: Option<BlockingDatagram>,
    /// Time without a sign of life after which the service manager restarts the daemon.
    watchdog: Option<Duration>,
}

impl NotifySocket {
    /// Finds the socket in the environment.
    ///
    /// # Errors
    /// It wants messages, and its socket cannot be reached.
    pub fn from_environment() -> io::Result<Self> {
        let Some(address) = std::env::var_os(SOCKET_VARIABLE).filter(|it| !it.is_empty()) else {
            return Ok(Self::default());
        };
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            path => SocketAddr::from_pathname(Path::new(std::ffi::OsStr::from_bytes(path)))?,
        };
        let socket = BlockingDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: Some(socket),
            watchdog: watchdog(|variable| std::env::var(variable).ok()),
        })
    }

    /// Prepares sending from tasks.
    ///
    /// # Errors
    /// The kernel's error.
    pub(super) fn open(self) -> io::Result<Notifier> {
        Ok(Notifier {
            socket: self.socket.map(UnixDatagram::from_std).transpose()?,
            watchdog: self.watchdog,
            stops: AtomicBool::new(false),
        })
    }
}

/// The watchdog's time in the environment, if it is about this process.
fn watchdog(value: impl Fn(&'static str) -> Option<String>) -> Option<Duration> {
    let number = |variable| value(variable)?.parse::<u64>().ok();
    let is_ours = match value("WATCHDOG_PID") {
        Some(pid) => pid.parse() == Ok(std::process::id()),
        None => true,
    };
    let time = number("WATCHDOG_USEC").filter(|time| is_ours && *time > 0)?;
    Some(Duration::from_micros(time))
}

/// Sends messages to the service manager; without one, sends nothing.
#[derive(Debug)]
pub(super) struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
    /// The daemon was asked to end, and the service manager measures how long that takes.
    stops: AtomicBool,
}

impl Notifier {
    /// A notifier, and the socket where its messages arrive.
    #[cfg(test)]
    pub(super) fn pair(watchdog: Option<Duration>) -> (Self, UnixDatagram) {
        let (ours, theirs) = UnixDatagram::pair().expect("two sockets");
        let notifier = Self {
            socket: Some(ours),
            watchdog,
            stops: AtomicBool::new(false),
        };
        (notifier, theirs)
    }

    /// Whether there is a service manager.
    pub(super) fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    /// The watchdog's time.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Whether the daemon was asked to end.
    pub(super) fn stops(&self) -> bool {
        self.stops.load(Ordering::Relaxed)
    }

    /// The daemon serves.
    pub(super) async fn ready(&self) {
        self.send("READY=1\n").await;
    }

    /// The settings and files are being read again.
    pub(super) async fn reloading(&self, clock: Clock) {
        match clock.kernel_us() {
            Ok(now) => {
                self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now}\n"))
                    .await;
            }
            Err(error) => telemetry::daemon::not_notified(&error),
        }
    }

    /// The loop turns.
    pub(super) async fn alive(&self) {
        self.send("WATCHDOG=1\n").await;
    }

    /// A sentence about the daemon's state.
    pub(super) async fn status(&self, text: &str) {
        self.send(&format!("STATUS={}\n", escaped(text))).await;
    }

    /// The daemon was asked to end.
    pub(super) async fn stopping(&self) {
        self.stops.store(true, Ordering::Relaxed);
        self.send("STOPPING=1\n").await;
    }

    /// The end takes at least this long from now.
    pub(super) async fn extend(&self, time: Duration) {
        let time = time.as_micros();
        self.send(&format!("EXTEND_TIMEOUT_USEC={time}\n")).await;
    }

    async fn send(&self, message: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(message.as_bytes()).await
        {
            telemetry::daemon::not_notified(&error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_without_a_time_or_of_another_process_does_not_count() {
        let own = std::process::id().to_string();
        let time = Some(Duration::from_secs(3));
        let cases = [
            (Some("3000000"), Some(own.as_str()), time),
            (Some("3000000"), None, time),
            (Some("3000000"), Some("1"), None),
            (Some("0"), None, None),
            (Some("soon"), None, None),
            (None, Some(own.as_str()), None),
        ];
        for (usec, pid, expected) in cases {
            let found = watchdog(|variable| match variable {
                "WATCHDOG_PID" => pid.map(str::to_owned),
                _ => usec.map(str::to_owned),
            });
            assert_eq!(found, expected, "{usec:?} {pid:?}");
        }
    }

    #[tokio::test]
    async fn messages_arrive_whole_and_a_status_is_one_line() {
        let (notifier, theirs) = Notifier::pair(None);
        notifier.status("a\nREADY=1 \u{1b}[2J").await;
        notifier.extend(Duration::from_secs(2)).await;
        let told = async || {
            let mut bytes = [0; 256];
            let length = theirs.recv(&mut bytes).await.expect("a message");
            String::from_utf8_lossy(&bytes[..length]).into_owned()
        };
        let status = told().await;
        assert_eq!(status.matches('\n').count(), 1, "{status:?}");
        assert!(!status.contains('\u{1b}'), "{status:?}");
        assert_eq!(told().await, "EXTEND_TIMEOUT_USEC=2000000\n");
    }
}
