//! The runtime folder while the daemon serves in it: created again, and closed to other users again.

use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ipc_protocol::folders::{FolderEntry, FolderEntryKind, WRITABLE_BY_OTHERS};
use nix::fcntl::OFlag;
use nix::unistd::Uid;

use crate::config::paths::{self, PathError};
use crate::telemetry::doors;

/// Creates the folder again if it is missing. If it is this user's and other users may write to it, takes that permission
/// away, and logs it. Then checks it like a folder at the start.
///
/// # Errors
/// It cannot be created, or it is a link, a file or another user's folder.
pub fn keep(folder: &Path, socket_mode: u32) -> Result<(), PathError> {
    // If that fails, the check names what is wrong with the folder.
    if let Ok(Some(mode)) = close(folder) {
        doors::closed_folder(folder, mode);
    }
    paths::prepare(folder, socket_mode)
}

/// Removes the permissions of other users to write to our folder. Returns its mode before, if it had such.
fn close(folder: &Path) -> io::Result<Option<u32>> {
    let seen = FolderEntry::at(folder)?;
    let is_ours = seen.kind == FolderEntryKind::Folder && seen.uid == Uid::effective().as_raw();
    if !is_ours || seen.mode & WRITABLE_BY_OTHERS == 0 {
        return Ok(None);
    }
    // By its descriptor: whoever may write to the folder above could put another in its place.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
        .open(folder)?;
    if opened.metadata()?.uid() != seen.uid {
        return Ok(None);
    }
    opened.set_permissions(Permissions::from_mode(seen.mode & !WRITABLE_BY_OTHERS))?;
    Ok(Some(seen.mode))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_of_ours_is_closed_to_other_users_again_and_a_link_is_not_followed() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let folder = base.path().join("run");
        keep(&folder, 0o660).expect("ours to make");
        for mode in [0o777, 0o1777, 0o770, 0o752] {
            fs::set_permissions(&folder, Permissions::from_mode(mode)).expect("ours");
            keep(&folder, 0o660).expect("ours to close");
            let seen = FolderEntry::at(&folder).expect("it is there");
            assert_eq!(seen.mode & 0o777, mode & 0o755, "{mode:o}");
        }
        let (link, open) = (base.path().join("link"), base.path().join("open"));
        fs::create_dir(&open).expect("ours");
        fs::set_permissions(&open, Permissions::from_mode(0o777)).expect("ours");
        std::os::unix::fs::symlink(&open, &link).expect("ours");
        let refused = keep(&link, 0o660).expect_err("a link");
        assert!(matches!(refused, PathError::NoFolder { .. }), "{refused}");
        assert_eq!(FolderEntry::at(&open).expect("it is there").mode, 0o777);
    }
}
