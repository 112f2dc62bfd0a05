//! Confines the process that calls it: its privileges, files, network, signals and system calls.
//!
//! ```text
//!  enter    before a foreign byte is read and a thread is started: no privileges, no changes to files, no network,
//!           no programs, no signals to others
//!  narrow   once the model's files are known: nothing else can be opened
//!  seal     once the weights are loaded: only the system calls of a computation
//! ```
//!
//! Each stage adds to the one before, and none can be taken back. A kernel that lacks a part gives the others:
//! [`SandboxReached`] says which.
//!
//! - `privileges` drops capabilities, and hides the process from others of its user
//! - `limits` lowers resource limits
//! - `files` has the rules for Landlock
//! - `calls` lists denied system calls, `sealed` the allowed ones of a sealed process; `filter` applies both

mod calls;
mod files;
mod filter;
mod limits;
mod privileges;
mod sealed;

use std::path::Path;

use ipc_protocol::sandbox::SandboxReached;

/// The rights that a process keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxProfile {
    /// Computes on the CPU, or reads files: no device, and no code that was not there at its start.
    Cpu,
    /// Uses the driver of a GPU: its devices, and libraries that are loaded later.
    Gpu,
}

/// Confines this process as far as the kernel can. Must be called before other threads are started: they would stay
/// outside.
pub fn enter(profile: SandboxProfile) -> SandboxReached {
    privileges::drop_all();
    limits::lower(profile);
    let landlock = files::forbid_changes(profile);
    let filters_calls = filter::deny(&calls::denied(profile));
    SandboxReached::On {
        landlock,
        filters_calls,
    }
}

/// Makes everything unreadable except the files in `folder`, those that its links lead to, and what the profile needs.
/// Must be called before other threads are started. Does nothing where Landlock is missing.
///
/// # Errors
/// The kernel refuses the rules, with its reason.
pub fn narrow(profile: SandboxProfile, folder: Option<&Path>) -> Result<(), String> {
    files::allow_reading_only(profile, folder)
}

/// Limits the size to which any file can be written, such as the segment's.
pub fn limit_files(bytes: u64) {
    limits::lower_file_size(bytes);
}

/// Limits the private memory of this process. Must be called before [`enter`], after which a process on the CPU cannot
/// change it.
pub fn limit_memory(bytes: u64) {
    limits::lower_memory(bytes);
}

/// Leaves only the system calls of a computation to all threads of this process, and returns whether the kernel could.
/// A process that uses a GPU is not sealed: its driver opens files at any time.
pub fn seal(profile: SandboxProfile) -> bool {
    match profile {
        SandboxProfile::Cpu => filter::allow_only(&sealed::allowed()),
        SandboxProfile::Gpu => false,
    }
}
