//! The folders a daemon works in, and who may own them.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use ipc_protocol::folders::{self, SOCKET};
use nix::unistd::Uid;

/// Bytes of a socket's path that the kernel takes (`sun_path` less its end).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Private pools' folders in a runtime folder, one per caller.
pub const PRIVATE: &str = "private";

/// Why a runtime folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// Somebody else could see or change what is in it.
    #[error("{} belongs to another user, so it is not used", .0.display())]
    Foreign(PathBuf),
    /// It cannot be made or looked at.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel takes no socket path of that length.
    #[error(
        "the socket path {} has {} bytes and the kernel takes {SOCKET_PATH_BYTES_MAX}; choose a shorter --runtime-dir",
        .0.display(),
        .0.as_os_str().len()
    )]
    TooLong(PathBuf),
}

/// The settings file when none is named: the first that exists of `$IMAGEPOOL_CONFIG`,
/// `$XDG_CONFIG_HOME/imagepool/imagepool.toml` and `/etc/imagepool/imagepool.toml`.
pub fn default_config() -> Option<PathBuf> {
    if let Some(file) = std::env::var_os("IMAGEPOOL_CONFIG").filter(|file| !file.is_empty()) {
        return Some(file.into());
    }
    let own = folders::of_user("XDG_CONFIG_HOME", ".config");
    own.into_iter()
        .chain([PathBuf::from("/etc")])
        .map(|folder| folder.join("imagepool/imagepool.toml"))
        .find(|file| file.is_file())
}

/// Makes a folder for our user alone, or checks that an existing one is ours.
pub fn prepare(folder: &Path) -> Result<(), PathError> {
    let io = |source| PathError::Io {
        path: folder.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(io)?;
    let found = fs::symlink_metadata(folder).map_err(io)?;
    if !found.is_dir() || found.uid() != Uid::effective().as_raw() {
        return Err(PathError::Foreign(folder.to_owned()));
    }
    Ok(())
}

/// The native door's path in `runtime_dir`.
pub fn socket(runtime_dir: &Path) -> Result<PathBuf, PathError> {
    let path = runtime_dir.join(SOCKET);
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Err(PathError::TooLong(path));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_path_that_the_kernel_would_cut_is_refused_with_its_length() {
        let folder = Path::new("/tmp").join("x".repeat(120));
        let error = socket(&folder).expect_err("too long").to_string();
        assert!(error.contains("135 bytes"), "{error}");
    }

    #[test]
    fn a_folder_of_another_user_is_not_used() {
        let base = tempfile::tempdir().expect("a temporary folder");
        prepare(&base.path().join("a/b")).expect("ours to make");
        let link = base.path().join("link");
        std::os::unix::fs::symlink(base.path(), &link).expect("ours to make");
        assert!(matches!(prepare(&link), Err(PathError::Foreign(_))));
    }
}
