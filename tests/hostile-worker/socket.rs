//! The socket on descriptor 0, for decent frames and for the other kind.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

use ipc_protocol::arithmetic::Dtype;
use ipc_protocol::connection;
use ipc_protocol::exit_code::ExitCode;
use ipc_protocol::frame::{HEADER_BYTES, Header};
use ipc_protocol::ids::JobId;
use ipc_protocol::messages::worker::{FromWorker, JobOrder, ToWorker, Welcome};
use ipc_protocol::sandbox::SandboxReached;
use ipc_protocol::version::PROTOCOL;
use nix::sys::socket::{MsgFlags, recv};

/// Our end of the conversation.
#[derive(Debug)]
pub struct WorkerSocket(UnixStream);

impl WorkerSocket {
    /// Takes up descriptor 0.
    pub fn take() -> Self {
        let socket = io::stdin().as_fd().try_clone_to_owned();
        Self(socket.expect("the supervisor gave us one").into())
    }

    /// Returns the greeting and leaves it in the socket for the next reader.
    pub fn peek_welcome(&self) -> Welcome {
        let mut bytes = [0; HEADER_BYTES + 16 * 1024];
        loop {
            let seen = recv(self.0.as_raw_fd(), &mut bytes, MsgFlags::MSG_PEEK)
                .expect("the supervisor speaks first");
            assert_ne!(seen, 0, "the supervisor is gone");
            let Some((head, rest)) = bytes[..seen].split_first_chunk::<HEADER_BYTES>() else {
                continue;
            };
            let header = Header::parse::<ToWorker>(head).expect("a frame of the supervisor's");
            let Some(body) = rest.get(..header.length) else {
                continue;
            };
            match header.decode(body).expect("a frame of the supervisor's") {
                ToWorker::Welcome(welcome) => return welcome,
                other => panic!("a greeting comes first, not {other:?}"),
            }
        }
    }

    /// Says a decent frame. A supervisor that no longer listens has had enough of us.
    pub fn say(&self, message: &FromWorker) {
        if connection::write(&mut &self.0, message).is_err() {
            ExitCode::Left.exit();
        }
    }

    /// Says bytes.
    pub fn say_bytes(&self, bytes: &[u8]) {
        if (&self.0).write_all(bytes).is_err() {
            ExitCode::Left.exit();
        }
    }

    /// Greets and gets ready as a decent worker would; returns the first order.
    pub fn behave(&self, welcome: &Welcome) -> JobOrder {
        self.behave_within(welcome, SandboxReached::Off)
    }

    /// The same, in a sandbox.
    pub fn behave_within(&self, welcome: &Welcome, sandbox: SandboxReached) -> JobOrder {
        self.say(&FromWorker::Hello {
            protocol: PROTOCOL,
            pid: std::process::id(),
            generation: welcome.generation,
            sandbox,
        });
        self.say(&FromWorker::Ready {
            peak_bytes: 1 << 20,
            dtype: Dtype::F32,
            because: None,
        });
        loop {
            match self.hear() {
                ToWorker::Run(order) => return order,
                ToWorker::Leave => ExitCode::Left.exit(),
                ToWorker::Welcome(_) | ToWorker::Cancel { .. } => {}
            }
        }
    }

    /// Hears one frame; ends with the supervisor.
    pub fn hear(&self) -> ToWorker {
        connection::read(&mut &self.0).unwrap_or_else(|_| ExitCode::Left.exit())
    }

    /// Hears and does nothing about it, until the supervisor is gone.
    pub fn ignore(&self) -> ! {
        loop {
            self.hear();
        }
    }

    /// Closes our end in both directions.
    pub fn close(&self) {
        self.0
            .shutdown(std::net::Shutdown::Both)
            .expect("it was open");
    }

    /// A job's failure that is nobody's fault.
    pub fn fail(&self, job: JobId) {
        let message = "out of sorts".to_owned();
        self.say(&FromWorker::Failed {
            job,
            fault: ipc_protocol::messages::worker::JobFault::Other { message },
        });
    }
}
