//! Events of workers' processes, on their way into the loop.

use std::os::fd::OwnedFd;

use ipc_protocol::ids::Generation;
use ipc_protocol::messages::worker::Timings;
use ipc_protocol::segment::Segment;
use pool::{CpuTime, Exit, StartFault};

use crate::process::memory_limit::MemoryLimit;

/// A spawned process with its socket and segment.
#[derive(Debug)]
pub(super) struct StartedProcess {
    pub pid: u32,
    pub label: String,
    pub child: tokio::process::Child,
    pub socket: OwnedFd,
    pub segment: Segment,
    /// The limit of its memory on the host.
    pub limit: MemoryLimit,
}

/// An event of a worker's process.
#[derive(Debug)]
pub(super) enum ProcessEvent {
    Started(Box<StartedProcess>),
    /// There is no process: why, and what was in the way.
    NotStarted(String, StartFault),
    /// CPU time, as it was asked for.
    Measured(Option<CpuTime>),
    /// Memory of the host that it holds now.
    Holds {
        bytes: u64,
    },
    Exited(Exit),
}

/// A worker's news with the generation it belongs to.
#[derive(Debug)]
pub(super) struct WorkerProcessEvent {
    pub worker: Generation,
    pub news: ProcessEvent,
}

/// The pool's word for a worker's timings.
pub(super) fn phases(timings: Timings) -> pool::Phases {
    let ms = |ms: u32| std::time::Duration::from_millis(ms.into());
    pool::Phases {
        encode: ms(timings.encode_ms),
        denoise: ms(timings.denoise_ms),
        decode: ms(timings.decode_ms),
    }
}
