//! Listening sockets that the service manager has passed, as sd_listen_fds(3) describes.

use std::os::unix::net::UnixListener;

use ipc_protocol::folders::SOCKET;
use listenfd::ListenFd;

use crate::api::http::server::{self, PassedHttpSockets};

/// The sockets of both doors, if the service manager has passed them.
#[derive(Debug, Default)]
pub struct PassedSockets {
    /// In place of `pool.sock`.
    pub pool: Option<UnixListener>,
    /// In place of the sockets of the HTTP door.
    pub http: PassedHttpSockets,
}

impl PassedSockets {
    /// The number of descriptors that were passed to this process.
    pub fn count() -> usize {
        let number = |variable| std::env::var(variable).ok()?.parse::<usize>().ok();
        let own = std::process::id() as usize;
        let passed = number("LISTEN_PID").filter(|pid| *pid == own);
        passed.and_then(|_| number("LISTEN_FDS")).unwrap_or(0)
    }

    /// Takes the sockets over. Must be called once, before any thread runs: it removes variables of the environment.
    ///
    /// # Errors
    /// A sentence about a socket that is not one of ours.
    pub fn take() -> Result<Self, String> {
        let mut sockets = Self::default();
        if Self::count() == 0 {
            return Ok(sockets);
        }
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        for index in 0..passed.len() {
            let name = names.next().unwrap_or_default();
            sockets.take_one(&mut passed, index, name)?;
        }
        Ok(sockets)
    }

    fn take_one(&mut self, passed: &mut ListenFd, index: usize, name: &str) -> Result<(), String> {
        // A socket of the wrong kind stays where it is.
        let unix = passed.take_unix_listener(index).ok().flatten();
        let tcp = passed.take_tcp_listener(index).ok().flatten();
        let place = match (name, unix.is_some()) {
            (SOCKET, true) => &mut self.pool,
            (server::SOCKET, true) => &mut self.http.unix,
            (server::SOCKET, false) => {
                let tcp = tcp.ok_or_else(|| not_ours(name, "it is not a stream socket"))?;
                self.http.tcp.push(tcp);
                return Ok(());
            }
            (SOCKET, false) => return Err(not_ours(name, "it is not a Unix stream socket")),
            (_, _) => return Err(not_ours(name, "no door has this name")),
        };
        match place.is_some() {
            true => Err(not_ours(name, "it is passed twice")),
            false => {
                *place = unix;
                Ok(())
            }
        }
    }
}

fn not_ours(name: &str, why: &str) -> String {
    format!(
        "the service manager passes the socket {name:?}: {why}; use FileDescriptorName={SOCKET} for one Unix socket, and \
         {} for one Unix socket and any TCP sockets",
        server::SOCKET
    )
}
