//! The socket to the supervisor on descriptor 0, and what ends this process with the supervisor.
//!
//! The reader thread blocks in a read while the supervisor lives. End-of-file ends the process at once,
//! even during a step. The kernel's parent-death signal does the same slightly earlier. A supervisor that
//! died before the signal was set is detected by comparing the parent's pid.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;

use ipc_protocol::connection::{self, ConnectionError};
use ipc_protocol::exit_code::ExitCode;
use ipc_protocol::messages::worker::{FromWorker, ToWorker};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd;

use crate::fault::complain;

/// A reader and writer of descriptor 0, without a duplicate of it.
struct SupervisorSocket;

impl Read for SupervisorSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(unistd::read(io::stdin().as_fd(), buffer)?)
    }
}

impl Write for SupervisorSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(unistd::write(io::stdin().as_fd(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Asks the kernel to kill this process when its parent exits.
pub fn arm() {
    // If the kernel refuses, end-of-file on the socket still ends this process.
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
}

/// Makes a write beyond the file size limit (`ulimit -f`) an error, which otherwise kills the process.
/// Must be called before threads are started, because they inherit the signal mask.
pub fn fail_beyond_file_size_limit() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    // Setting the mask of the own thread cannot fail.
    let _ = signals.thread_block();
}

/// Exits if the parent is not `supervisor_pid`: the supervisor died before [`arm`].
pub fn check_parent(supervisor_pid: u32) {
    if unistd::getppid().as_raw() as u32 != supervisor_pid {
        complain(format_args!("worker: the supervisor is gone"));
        ExitCode::SupervisorGone.exit();
    }
}

/// Takes the segment's handle from descriptor 1 and redirects 1 to stderr, so that prints do not go to the
/// segment.
pub fn take_segment_handle() -> io::Result<OwnedFd> {
    let handle = io::stdout().as_fd().try_clone_to_owned()?;
    unistd::dup2_stdout(io::stderr())?;
    Ok(handle)
}

/// Returns the supervisor's next message.
///
/// Exits the process if the supervisor is gone or sends an invalid frame.
pub fn hear() -> ToWorker {
    match connection::read(&mut SupervisorSocket) {
        Ok(message) => message,
        Err(ConnectionError::Frame(error)) => {
            complain(format_args!(
                "worker: the supervisor sent an invalid frame: {error}"
            ));
            ExitCode::ProtocolMismatch.exit();
        }
        Err(ConnectionError::Closed | ConnectionError::Io(_)) => ExitCode::SupervisorGone.exit(),
    }
}

/// Sends messages to the supervisor from any thread, one frame at a time.
#[derive(Debug, Default)]
pub struct SupervisorSender(Mutex<()>);

impl SupervisorSender {
    /// Sends one message. Exits the process if the supervisor no longer reads.
    pub fn say(&self, message: &FromWorker) {
        // A thread that panics while it sends ends the process, so the lock is never poisoned.
        let Ok(_turn) = self.0.lock() else {
            ExitCode::SupervisorGone.exit()
        };
        if let Err(error) = connection::write(&mut SupervisorSocket, message) {
            complain(format_args!(
                "worker: cannot send to the supervisor: {error}"
            ));
            ExitCode::SupervisorGone.exit();
        }
    }
}
