//! The lock of a model: one process at a time changes its folder.

use std::fs::File;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::trouble::FetchError;

/// Held while a model's folder changes; the kernel releases it when the process exits.
#[derive(Debug)]
pub struct ModelLock {
    _file: Flock<File>,
}

impl ModelLock {
    /// Takes the lock in `folder`. If another process holds it, calls `waiting` and waits for its release.
    ///
    /// # Errors
    /// The lock file cannot be created or locked.
    pub fn take(folder: &Path, waiting: impl FnOnce()) -> Result<Self, FetchError> {
        let path = folder.join("lock");
        let open = || {
            File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .map_err(FetchError::at(&path))
        };
        let file = match Flock::lock(open()?, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((file, Errno::EWOULDBLOCK)) => {
                waiting();
                Flock::lock(file, FlockArg::LockExclusive)
                    .map_err(|(_, errno)| FetchError::at(&path)(errno.into()))?
            }
            Err((_, errno)) => return Err(FetchError::at(&path)(errno.into())),
        };
        Ok(Self { _file: file })
    }
}
