//! The limit of a worker's memory on the host: that of its control group, or else of its process.
//!
//! The limit of a process is `RLIMIT_DATA`, the private memory that it can write, touched or not: the heap, stacks of
//! threads, tensors. Mapped weight files and the segment do not count. Beyond it an allocation fails in the worker, which
//! ends alone. It is the soft limit: only root could raise a hard one again. A sealed worker cannot change its own limits.

use std::io;
use std::sync::Arc;

use ipc_protocol::ids::Device;
use ipc_protocol::units::Mebibytes;
use nix::errno::Errno;
use rlimit::{INFINITY, Resource, prlimit};

use super::groups::{self, WorkerGroup};
use crate::telemetry;

/// The limit of one worker's memory on the host.
#[derive(Debug)]
pub enum MemoryLimit {
    /// That of its control group.
    Group(Arc<WorkerGroup>),
    /// That of its process, for this reservation.
    Process(Mebibytes),
    /// None: the driver of its device maps much more than it uses, or the kernel refused.
    None,
}

impl MemoryLimit {
    /// Limits the process `pid` of a worker with a reservation on the host, unless it has a control group. It must not
    /// have been waited for.
    pub fn of(
        group: Option<WorkerGroup>,
        program_of: Device,
        pid: u32,
        reserved: Mebibytes,
    ) -> Self {
        match (group, program_of) {
            (Some(group), _) => Self::Group(Arc::new(group)),
            (None, Device::Cuda(_)) => Self::None,
            (None, Device::Host) => match limit_process(pid, reserved) {
                Ok(()) => Self::Process(reserved),
                Err(error) => {
                    telemetry::workers::without_limit(pid, &error);
                    Self::None
                }
            },
        }
    }

    /// Raises the limit of process `pid` to a larger reservation. It is never lowered: memory that was used may still be
    /// held. The process must not have been waited for.
    pub fn raise(&mut self, pid: u32, reserved: Mebibytes) {
        match self {
            Self::Group(group) => group.raise(reserved),
            Self::Process(known) if *known < reserved => match limit_process(pid, reserved) {
                Ok(()) => *known = reserved,
                Err(error) => telemetry::workers::without_limit(pid, &error),
            },
            Self::Process(_) | Self::None => {}
        }
    }

    /// The control group.
    pub fn group(&self) -> Option<&Arc<WorkerGroup>> {
        match self {
            Self::Group(group) => Some(group),
            Self::Process(_) | Self::None => None,
        }
    }
}

/// Sets the limit of private memory of a process of ours, at most our own.
fn limit_process(pid: u32, reserved: Mebibytes) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(|_| io::Error::from(Errno::ESRCH))?;
    // Our own limits are those that it inherited.
    let (soft, hard) = Resource::DATA.get().unwrap_or((INFINITY, INFINITY));
    let new = (groups::hard_limit(reserved).min(soft), hard);
    prlimit(pid, Resource::DATA, Some(new), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_gone_cannot_be_limited() {
        let limit = MemoryLimit::of(None, Device::Host, u32::MAX, Mebibytes(1));
        assert!(matches!(limit, MemoryLimit::None));
    }

    #[test]
    fn a_worker_with_a_gpu_has_no_limit() {
        let own = std::process::id();
        let limit = MemoryLimit::of(None, Device::Cuda(0), own, Mebibytes(1));
        assert!(matches!(limit, MemoryLimit::None));
    }
}
