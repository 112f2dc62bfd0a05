//! The default back end of segments: a memfd that can neither shrink nor grow, and has no name.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{SegmentError, os, reserve};

/// `MFD_NOEXEC_SEAL`, which nix does not define: the pages can never be made executable.
const NOEXEC_SEAL: u32 = 8;

/// The largest segment, many times what the largest picture needs. Unlike /dev/shm, memfds have no limit:
/// the kernel would reserve pages until its OOM killer ends a process.
pub const BYTES_MAX: u64 = 1 << 30;

pub(super) fn create(label: &str, bytes: u64) -> Result<File, SegmentError> {
    if bytes > BYTES_MAX {
        let source = io::Error::other(format!("a segment has at most {BYTES_MAX} bytes"));
        return Err(SegmentError::NoRoom { bytes, source });
    }
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Kernels before 6.3 and some sandboxes do not know NOEXEC_SEAL and return EINVAL.
    let descriptor = match memfd_create(label, flags | MFdFlags::from_bits_retain(NOEXEC_SEAL)) {
        Err(Errno::EINVAL) => memfd_create(label, flags),
        other => other,
    }
    .map_err(|errno| os("create a memfd")(errno.into()))?;
    let file = File::from(descriptor);
    reserve(&file, bytes)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(|errno| os("seal a memfd")(errno.into()))?;
    Ok(file)
}
