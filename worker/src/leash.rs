//! Descriptor 0: the socket to the supervisor, and what keeps this process from outliving it.
//!
//! The reader thread blocks in a read for as long as the supervisor lives; end-of-file ends the process
//! at once, even in the middle of a step. The kernel's parent-death signal does the same a little
//! earlier, and covers a supervisor that died before it was armed by comparing the parent's pid.

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

/// The two directions of descriptor 0, without duplicating it.
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

/// Asks the kernel to end this process with its parent.
pub fn arm() {
    // A kernel that refuses leaves end-of-file on the socket, which says the same.
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
}

/// Makes a write beyond the limit of a file's size (`ulimit -f`) an error instead of the end of the process.
/// To be called before threads are started, which inherit it.
pub fn fail_beyond_file_size_limit() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    // The mask of this thread can be set.
    let _ = signals.thread_block();
}

/// Ends this process when its parent is not `supervisor_pid`: the supervisor died before [`arm`].
pub fn check_parent(supervisor_pid: u32) {
    if unistd::getppid().as_raw() as u32 != supervisor_pid {
        complain(format_args!("worker: the supervisor is gone"));
        ExitCode::SupervisorGone.exit();
    }
}

/// Takes the segment's handle from descriptor 1 and points 1 at stderr, so that no print writes pixels.
pub fn take_segment_handle() -> io::Result<OwnedFd> {
    let handle = io::stdout().as_fd().try_clone_to_owned()?;
    unistd::dup2_stdout(io::stderr())?;
    Ok(handle)
}

/// Returns the supervisor's next message.
///
/// Does not return when the supervisor is gone or speaks in riddles: nobody is left to work for.
pub fn hear() -> ToWorker {
    match connection::read(&mut SupervisorSocket) {
        Ok(message) => message,
        Err(ConnectionError::Frame(error)) => {
            complain(format_args!(
                "worker: the supervisor sent what is not a frame: {error}"
            ));
            ExitCode::ProtocolMismatch.exit();
        }
        Err(ConnectionError::Closed | ConnectionError::Io(_)) => ExitCode::SupervisorGone.exit(),
    }
}

/// Speaks to the supervisor from any thread, a frame at a time.
#[derive(Debug, Default)]
pub struct SupervisorSender(Mutex<()>);

impl SupervisorSender {
    /// Sends one message; a supervisor that no longer listens is gone, and so are we.
    pub fn say(&self, message: &FromWorker) {
        // A thread that panicked while it spoke has ended the process already.
        let Ok(_turn) = self.0.lock() else {
            ExitCode::SupervisorGone.exit()
        };
        if let Err(error) = connection::write(&mut SupervisorSocket, message) {
            complain(format_args!(
                "worker: the supervisor does not listen: {error}"
            ));
            ExitCode::SupervisorGone.exit();
        }
    }
}
