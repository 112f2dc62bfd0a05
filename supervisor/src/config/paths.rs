//! The daemon's folders, and the checks that other users cannot change them.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ipc_protocol::folders::{self, FolderEntry, FolderEntryKind, SOCKET, WRITABLE_BY_OTHERS};
use nix::unistd::Uid;

/// Longest socket path, in bytes: `sun_path` of unix(7) without its final zero.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Name of the folder in the runtime folder that has a folder for each private pool.
pub const PRIVATE: &str = "private";

/// The options that choose these folders.
const RUNTIME_DIR: &str = "--runtime-dir";
const STATE_DIR: &str = "--state-dir";

/// Why a runtime or state folder is refused.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// Another user owns the folder and could replace its files.
    #[error(
        "{} belongs to user {uid}, so it is not safe to use: have it removed, or choose another {option}",
        path.display()
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// The option that chooses another.
        option: &'static str,
    },
    /// Other users may write to the folder and could replace its files.
    #[error(
        "other users may write to {} (mode {mode:04o}), so it is not safe to use: run `chmod go-w` on it, or choose another {option}",
        path.display()
    )]
    Writable {
        /// The folder.
        path: PathBuf,
        /// Permissions of the folder.
        mode: u32,
        /// The option that chooses another.
        option: &'static str,
    },
    /// The path is a file or a link; a link could be changed later.
    #[error(
        "{} is a link or a file, not a folder: remove it, or choose another {option}",
        path.display()
    )]
    NoFolder {
        /// The path.
        path: PathBuf,
        /// The option that chooses another.
        option: &'static str,
    },
    /// The folder cannot be created or examined.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The runtime folder.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// The socket path is longer than [`SOCKET_PATH_BYTES_MAX`].
    #[error(
        "the socket path {} has {} bytes, the kernel's limit is {SOCKET_PATH_BYTES_MAX}: choose a shorter --runtime-dir",
        .0.display(),
        .0.as_os_str().len()
    )]
    TooLong(PathBuf),
}

/// The settings file if none is given: `$IMAGEPOOL_CONFIG`, else the first that exists of
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

/// The cache folder: `$CACHE_DIRECTORY`, `$XDG_CACHE_HOME/imagepool` or `$HOME/.cache/imagepool`. `None` if it
/// would be in another user's folder.
pub fn default_cache_dir() -> Option<PathBuf> {
    let given = std::env::var_os("CACHE_DIRECTORY").map(PathBuf::from);
    given.filter(|folder| folder.is_absolute()).or_else(|| {
        let own = folders::of_user("XDG_CACHE_HOME", ".cache")?;
        Some(own.join("imagepool"))
    })
}

/// The user's state folder: `$XDG_STATE_HOME/imagepool` or `$HOME/.local/state/imagepool`. `None` if it would be in
/// another user's folder.
pub fn own_state_dir() -> Option<PathBuf> {
    Some(folders::of_user("XDG_STATE_HOME", ".local/state")?.join("imagepool"))
}

/// The state folder that a service manager gives: the first of `$STATE_DIRECTORY`.
pub fn given_state_dir() -> Option<PathBuf> {
    let given = std::env::var_os("STATE_DIRECTORY")?;
    let first = std::env::split_paths(&given).next()?;
    first.is_absolute().then_some(first)
}

/// Creates the folder of a door, or checks that an existing one belongs to this user and that no other user
/// may write to it. The folder admits the same users as the socket's mode: the group, or this user alone.
pub fn prepare(folder: &Path, socket_mode: u32) -> Result<(), PathError> {
    prepare_folder(folder, socket_mode, RUNTIME_DIR)
}

/// Creates a folder for state, or checks that an existing one belongs to this user and that no other user may write
/// to it.
pub fn prepare_state(folder: &Path) -> Result<(), PathError> {
    prepare_folder(folder, 0o600, STATE_DIR)
}

fn prepare_folder(folder: &Path, socket_mode: u32, option: &'static str) -> Result<(), PathError> {
    let io = |source| PathError::Io {
        path: folder.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(io)?;
    let seen = FolderEntry::at(folder).map_err(io)?;
    judge(folder, seen, Uid::effective().as_raw(), option)?;
    let wanted = match socket_mode & 0o070 {
        0 => 0o700,
        _ => 0o750,
    };
    if seen.mode & wanted != wanted {
        fs::set_permissions(folder, Permissions::from_mode(seen.mode | wanted)).map_err(io)?;
    }
    Ok(())
}

/// Checks the folder of a door without changing anything. A missing folder is no error: the daemon creates it.
pub fn examine(folder: &Path) -> Result<(), PathError> {
    examine_folder(folder, RUNTIME_DIR)
}

/// Checks a folder for state in the same way.
pub fn examine_state(folder: &Path) -> Result<(), PathError> {
    examine_folder(folder, STATE_DIR)
}

fn examine_folder(folder: &Path, option: &'static str) -> Result<(), PathError> {
    match FolderEntry::at(folder) {
        Ok(seen) => judge(folder, seen, Uid::effective().as_raw(), option),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(PathError::Io {
            path: folder.to_owned(),
            source,
        }),
    }
}

/// Whether a folder exists, belongs to this user, and is not writable by any other user.
pub fn is_ours(folder: &Path) -> bool {
    let own = Uid::effective().as_raw();
    FolderEntry::at(folder).is_ok_and(|seen| judge(folder, seen, own, RUNTIME_DIR).is_ok())
}

/// Checks that a folder is safe for a daemon of the user `own`.
fn judge(
    folder: &Path,
    seen: FolderEntry,
    own: u32,
    option: &'static str,
) -> Result<(), PathError> {
    let path = || folder.to_owned();
    if seen.kind != FolderEntryKind::Folder {
        return Err(PathError::NoFolder {
            path: path(),
            option,
        });
    }
    if seen.uid != own {
        return Err(PathError::Foreign {
            path: path(),
            uid: seen.uid,
            option,
        });
    }
    if seen.mode & WRITABLE_BY_OTHERS != 0 {
        return Err(PathError::Writable {
            path: path(),
            mode: seen.mode,
            option,
        });
    }
    Ok(())
}

/// The path of the native door's socket in `runtime_dir`.
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
    fn a_too_long_socket_path_is_refused_with_its_length() {
        let folder = Path::new("/tmp").join("x".repeat(120));
        let error = socket(&folder).expect_err("too long").to_string();
        assert!(error.contains("135 bytes"), "{error}");
    }

    #[test]
    fn a_link_or_a_folder_that_others_own_or_may_write_to_is_refused() {
        let base = tempfile::tempdir().expect("a temporary folder");
        prepare(&base.path().join("a/b"), 0o600).expect("ours to make");
        let link = base.path().join("link");
        std::os::unix::fs::symlink(base.path(), &link).expect("ours to make");
        let refused = prepare(&link, 0o600).expect_err("a link");
        assert!(matches!(refused, PathError::NoFolder { .. }), "{refused}");
        for mode in [0o777, 0o1777, 0o720, 0o702] {
            let open = base.path().join("a");
            fs::set_permissions(&open, Permissions::from_mode(mode)).expect("ours");
            let refused = prepare(&open, 0o600).expect_err("open to others");
            assert!(refused.to_string().contains("chmod go-w"), "{refused}");
        }
        let seen = FolderEntry {
            kind: FolderEntryKind::Folder,
            uid: 1000,
            mode: 0o700,
        };
        assert!(judge(base.path(), seen, 1000, STATE_DIR).is_ok());
        let refused = judge(base.path(), seen, 1001, STATE_DIR).expect_err("another's");
        assert!(
            refused.to_string().contains("belongs to user 1000"),
            "{refused}"
        );
    }

    #[test]
    fn a_folder_admits_the_same_users_as_its_socket() {
        let base = tempfile::tempdir().expect("a temporary folder");
        for (socket_mode, folder_mode) in [(0o600, 0o700), (0o660, 0o750)] {
            let folder = base.path().join(format!("{socket_mode:o}"));
            prepare(&folder, socket_mode).expect("ours to make");
            let seen = FolderEntry::at(&folder).expect("it is there");
            assert_eq!(seen.mode, folder_mode);
            prepare(&folder, 0o660).expect("it is ours");
            assert_eq!(FolderEntry::at(&folder).expect("it is there").mode, 0o750);
        }
    }
}
