//! The runtime folders of daemons, found through the environment, and which of them a client trusts.
//!
//! A folder is trusted only if no other user could have put a socket into it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid};

/// File name of the native door's socket in a runtime folder.
pub const SOCKET: &str = "pool.sock";
/// The runtime folder of the system-wide daemon.
pub const SYSTEM: &str = "/run/imagepool";
/// Permission bits that let the group or all users change a folder.
pub const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Reads an absolute path from an environment variable. An empty or relative value counts as unset, because
/// a relative path depends on the working folder.
pub fn from_environment(variable: &str) -> Option<PathBuf> {
    absolute(std::env::var_os(variable))
}

/// A folder of this user: the value of `variable`, else `in_home` in `$HOME`. Folders of another user are
/// neither read nor written; `su` and `sudo -E` keep the variables of the user before.
pub fn of_user(variable: &str, in_home: &str) -> Option<PathBuf> {
    let own = Uid::effective().as_raw();
    let ours = |folder: &PathBuf| is_ours_or_roots(folder, own);
    let in_home = || Some(from_environment("HOME").filter(ours)?.join(in_home));
    from_environment(variable).filter(ours).or_else(in_home)
}

/// Tells whether a folder belongs to this user or to root. For a missing folder, its closest existing
/// parent counts.
fn is_ours_or_roots(folder: &Path, own: u32) -> bool {
    let there = folder.ancestors().find_map(|at| fs::metadata(at).ok());
    there.is_some_and(|there| there.uid() == own || there.uid() == 0)
}

fn absolute(value: Option<OsString>) -> Option<PathBuf> {
    value.map(PathBuf::from).filter(|path| path.is_absolute())
}

/// The default runtime folder of this user: `$RUNTIME_DIRECTORY` (set by a service manager), `imagepool` in
/// `$XDG_RUNTIME_DIR`, or `/tmp/imagepool-UID`.
pub fn runtime() -> PathBuf {
    service().or_else(session).unwrap_or_else(fallback)
}

/// The first folder in `$RUNTIME_DIRECTORY`; a service manager may list several.
fn service() -> Option<PathBuf> {
    let folders = std::env::var_os("RUNTIME_DIRECTORY")?;
    absolute(std::env::split_paths(&folders).next().map(OsString::from))
}

/// `imagepool` in the session's folder, if that belongs to this user: `su` and `sudo -E` keep the variable of
/// the user before.
fn session() -> Option<PathBuf> {
    let folder = from_environment("XDG_RUNTIME_DIR")?;
    belongs_to(&folder, Uid::effective().as_raw()).then(|| folder.join("imagepool"))
}

fn belongs_to(folder: &Path, uid: u32) -> bool {
    fs::metadata(folder).is_ok_and(|found| found.is_dir() && found.uid() == uid)
}

/// The runtime folder of a user without a session.
fn fallback() -> PathBuf {
    PathBuf::from(format!("/tmp/imagepool-{}", Uid::effective()))
}

/// The sockets that a client tries if none is given, in order.
pub fn sockets() -> Vec<PathBuf> {
    let folders = session().into_iter().chain([SYSTEM.into(), fallback()]);
    folders.map(|folder| folder.join(SOCKET)).collect()
}

/// Type, owner and permissions of a path, without following links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderEntry {
    /// Type of the file.
    pub kind: FolderEntryKind,
    /// Owner of the file.
    pub uid: u32,
    /// Permission bits of the file.
    pub mode: u32,
}

/// The type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderEntryKind {
    /// A folder.
    Folder,
    /// A socket.
    Socket,
    /// A link, a file or a device.
    Other,
}

impl FolderEntry {
    /// Reads the metadata of a path.
    ///
    /// # Errors
    /// The kernel's error, such as `NotFound`.
    pub fn at(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        let kind = found.file_type();
        Ok(Self {
            kind: if kind.is_dir() {
                FolderEntryKind::Folder
            } else if kind.is_socket() {
                FolderEntryKind::Socket
            } else {
                FolderEntryKind::Other
            },
            uid: found.uid(),
            mode: found.mode() & 0o7777,
        })
    }
}

/// The name of the group of a socket's folder, or of the folder above if that cannot be seen; its number without a name.
/// `None` for the group of root, to which nobody should be added.
pub fn group_of(socket: &Path) -> Option<String> {
    let mut folders = socket.ancestors().skip(1);
    let folder = folders.find_map(|it| fs::metadata(it).ok())?;
    let gid = Gid::from_raw(folder.gid());
    if gid.as_raw() == 0 {
        return None;
    }
    let known = Group::from_gid(gid).ok().flatten();
    Some(known.map_or_else(|| gid.to_string(), |group| group.name))
}

/// The users whose daemons a client trusts: its own user, root, and the owner of the system-wide runtime
/// folder, which root created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Servers {
    own: u32,
    service: Option<u32>,
}

impl Servers {
    /// Tells whether a daemon of this user is trusted.
    pub fn include(self, uid: u32) -> bool {
        uid == self.own || uid == 0 || self.service == Some(uid)
    }
}

/// Returns the users that this user trusts to serve at a socket at a usual path.
///
/// # Errors
/// `Ok(Err)` is the reason why the socket is not trusted; `Err` is the kernel's error, `NotFound` if the
/// socket is missing.
pub fn servers(socket: &Path) -> io::Result<Result<Servers, String>> {
    let folder = socket.parent().unwrap_or(Path::new("/"));
    let above = folder.parent().unwrap_or(Path::new("/"));
    let seen = (FolderEntry::at(folder)?, FolderEntry::at(socket)?);
    let above = match folder == Path::new(SYSTEM) {
        true => Some(FolderEntry::at(above)?),
        false => None,
    };
    Ok(judge(above, seen, Uid::effective().as_raw()))
}

/// Checks a folder and the socket in it for a client of user `own`; for the system-wide folder, its parent
/// folder too.
fn judge(
    above: Option<FolderEntry>,
    (folder, socket): (FolderEntry, FolderEntry),
    own: u32,
) -> Result<Servers, String> {
    // Only root can create an entry in a folder of root, so root chose the owner of this one.
    let of_root = above.is_some_and(|above| {
        above.kind == FolderEntryKind::Folder
            && above.uid == 0
            && above.mode & WRITABLE_BY_OTHERS == 0
    });
    let servers = Servers {
        own,
        service: of_root.then_some(folder.uid),
    };
    if folder.kind != FolderEntryKind::Folder {
        return Err("its folder is a link or a file".to_owned());
    }
    if !servers.include(folder.uid) {
        return Err(format!("its folder belongs to user {}", folder.uid));
    }
    if folder.mode & WRITABLE_BY_OTHERS != 0 {
        return Err(format!(
            "other users may write to its folder (mode {:04o})",
            folder.mode
        ));
    }
    if socket.kind != FolderEntryKind::Socket {
        return Err("it is not a socket".to_owned());
    }
    if !servers.include(socket.uid) {
        return Err(format!("it belongs to user {}", socket.uid));
    }
    Ok(servers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 1000;
    const OTHER: u32 = 1001;
    const TMP: FolderEntry = seen(FolderEntryKind::Folder, 0, 0o1777);
    const RUN: FolderEntry = seen(FolderEntryKind::Folder, 0, 0o755);

    const fn seen(kind: FolderEntryKind, uid: u32, mode: u32) -> FolderEntry {
        FolderEntry { kind, uid, mode }
    }

    const fn folder(uid: u32, mode: u32) -> FolderEntry {
        seen(FolderEntryKind::Folder, uid, mode)
    }

    const fn socket(uid: u32) -> FolderEntry {
        seen(FolderEntryKind::Socket, uid, 0o600)
    }

    #[test]
    fn a_socket_that_another_user_could_have_made_is_refused_with_the_reason() {
        let link = seen(FolderEntryKind::Other, OWN, 0o777);
        let cases = [
            (folder(OTHER, 0o700), socket(OTHER), "belongs to user 1001"),
            (folder(OTHER, 0o755), socket(OWN), "belongs to user 1001"),
            (folder(OWN, 0o777), socket(OWN), "other users may write"),
            (folder(OWN, 0o1777), socket(OWN), "other users may write"),
            (folder(OWN, 0o770), socket(OWN), "other users may write"),
            (folder(OWN, 0o700), socket(OTHER), "belongs to user 1001"),
            (link, socket(OWN), "is a link"),
            (folder(OWN, 0o700), link, "is not a socket"),
        ];
        for (folder, socket, why) in cases {
            let refused = judge(None, (folder, socket), OWN).expect_err(why);
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn daemons_of_the_own_user_and_of_root_are_trusted_and_no_others() {
        let servers = judge(None, (folder(OWN, 0o700), socket(OWN)), OWN).expect("ours");
        assert!(servers.include(OWN) && servers.include(0) && !servers.include(OTHER));
        let servers = judge(None, (folder(0, 0o755), socket(0)), OWN).expect("root's");
        assert!(servers.include(0) && !servers.include(OTHER));
    }

    #[test]
    fn the_owner_of_the_system_folder_is_trusted_if_root_chose_it() {
        let service = 200;
        let seen = (folder(service, 0o750), socket(service));
        let servers = judge(Some(RUN), seen, OWN).expect("root chose who serves there");
        assert!(servers.include(service) && !servers.include(OTHER));
        assert!(judge(None, seen, OWN).is_err(), "it is another folder");
        for above in [folder(0, 0o777), folder(OTHER, 0o755), TMP] {
            assert!(judge(Some(above), seen, OWN).is_err(), "{above:?}");
        }
    }

    #[test]
    fn only_absolute_paths_are_taken_from_the_environment() {
        for value in ["", "run", "./run", "../run"] {
            assert_eq!(absolute(Some(value.into())), None, "{value:?}");
        }
        assert_eq!(absolute(None), None);
        assert_eq!(absolute(Some("/run/u".into())), Some("/run/u".into()));
    }

    #[test]
    fn a_home_of_another_user_is_not_used() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let own = Uid::effective().as_raw();
        for folder in [home.path().to_owned(), home.path().join("not/there/yet")] {
            assert!(is_ours_or_roots(&folder, own));
        }
        std::os::unix::fs::chown(home.path(), Some(if own == 0 { OTHER } else { own }), None)
            .expect("root may change the owner, and anyone may set the present one");
        let another = if own == 0 { own } else { own + 1 };
        assert!(!is_ours_or_roots(
            &home.path().join("not/there/yet"),
            another
        ));
    }

    #[test]
    fn a_session_folder_of_another_user_is_not_used() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let own = Uid::effective().as_raw();
        assert!(belongs_to(folder.path(), own));
        assert!(!belongs_to(folder.path(), own + 1));
        assert!(!belongs_to(&folder.path().join("missing"), own));
    }
}
