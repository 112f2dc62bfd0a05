//! Lowers resource limits of this process.
//!
//! There is no limit of processes: the kernel counts all of the user's, and a filter forbids new ones anyway.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use crate::SandboxProfile;

/// Open files of a process on the CPU: the parts of a large model, each mapped, and a few more.
const FILES_CPU: rlim_t = 256;
/// Open files of a process with a GPU, whose driver opens one for each channel.
const FILES_GPU: rlim_t = 4096;

/// Forbids core dumps, which would hold pictures and prompts, and message queues; limits open files and locked memory.
pub fn lower(profile: SandboxProfile) {
    at_most(Resource::RLIMIT_CORE, 0);
    at_most(Resource::RLIMIT_MSGQUEUE, 0);
    match profile {
        SandboxProfile::Cpu => {
            at_most(Resource::RLIMIT_NOFILE, FILES_CPU);
            at_most(Resource::RLIMIT_MEMLOCK, 0);
        }
        SandboxProfile::Gpu => at_most(Resource::RLIMIT_NOFILE, FILES_GPU),
    }
}

/// Limits the size of files that are written.
pub fn lower_file_size(bytes: u64) {
    at_most(Resource::RLIMIT_FSIZE, bytes);
}

/// Limits the private memory that can be written.
pub fn lower_memory(bytes: u64) {
    at_most(Resource::RLIMIT_DATA, bytes);
}

fn at_most(resource: Resource, most: rlim_t) {
    if let Ok((soft, hard)) = getrlimit(resource) {
        // A process may always lower its own.
        let _ = setrlimit(resource, soft.min(most), hard.min(most));
    }
}
