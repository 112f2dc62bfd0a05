//! One fetch of a model at a time, for any number of processes.

use std::fs::File;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::trouble::FetchError;

/// Held while a model's folders are changed; the kernel gives it back with the process.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock in `folder`; where another process has it, calls `waiting` and waits for its end.
    ///
    /// # Errors
    /// The lock file cannot be made.
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
