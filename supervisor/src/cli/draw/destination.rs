//! The output file or stream of one picture, checked before the job is sent.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ipc_protocol::failure::{Failure, Field};
use nix::unistd::Uid;
use tempfile::NamedTempFile;

use crate::cli::CommandError;

/// Symbolic links followed from one name; the kernel's limit (path_resolution(7)).
const LINKS_MAX: usize = 40;
/// The sticky bit of a folder's mode: only the owner of a file may replace it.
const STICKY: u32 = 0o1000;

/// The output of one picture.
#[derive(Debug)]
pub enum Destination {
    /// A character device or a pipe, opened before the job is sent and written to directly.
    Stream {
        /// The name that the user gave.
        name: PathBuf,
        open: File,
    },
    /// A regular file, written completely or not at all.
    File {
        /// The name that the user gave.
        name: PathBuf,
        /// The path after following all symbolic links.
        target: PathBuf,
        /// Whether an existing file may be overwritten.
        force: bool,
    },
}

impl Destination {
    /// Opens a stream, or checks that a file can be written. Opening a pipe blocks until it has a reader,
    /// as in a shell.
    ///
    /// # Errors
    /// A refused value if `force` would allow the write, else `Output`.
    pub fn prepare(name: &Path, force: bool) -> Result<Self, CommandError> {
        if name.as_os_str().as_bytes().ends_with(b"/") {
            return Err(unwritable(name, "names a folder; name a file in it"));
        }
        match fs::metadata(name) {
            Ok(found) if found.is_dir() => Err(unwritable(name, "is a folder; name a file in it")),
            Ok(found) if found.is_file() => Self::existing(name, &found, force),
            Ok(found) => Self::stream(name, &found, force),
            Err(error) if error.kind() == ErrorKind::NotFound => Self::new_file(name, force),
            Err(error) => Err(unwritable(name, error)),
        }
    }

    fn stream(name: &Path, found: &Metadata, force: bool) -> Result<Self, CommandError> {
        let kind = found.file_type();
        if !kind.is_fifo() && !kind.is_char_device() {
            let what = "is a disk or a socket; name a file, a pipe or a character device";
            return Err(unwritable(name, what));
        }
        let open = OpenOptions::new().write(true).open(name);
        let open = open.map_err(|error| unwritable(name, error))?;
        if open.is_terminal() && !force {
            let message = format!("{} is a terminal; -f writes there anyway", name.display());
            return Err(Failure::bad_value(Field::Output, message).into());
        }
        let name = name.to_owned();
        Ok(Self::Stream { name, open })
    }

    fn existing(name: &Path, found: &Metadata, force: bool) -> Result<Self, CommandError> {
        if !force {
            let message = format!("{} exists; -f overwrites it", name.display());
            return Err(Failure::bad_value(Field::Output, message).into());
        }
        if found.permissions().readonly() {
            return Err(unwritable(name, "is read-only"));
        }
        let target = fs::canonicalize(name).map_err(|error| unwritable(name, error))?;
        let folder = fs::metadata(folder_of(&target)).map_err(|error| unwritable(name, error))?;
        let user = Uid::effective();
        let may_replace = user.is_root() || [found.uid(), folder.uid()].contains(&user.as_raw());
        if folder.mode() & STICKY != 0 && !may_replace {
            return Err(unwritable(name, "belongs to another user"));
        }
        Self::tried(name, target, force)
    }

    fn new_file(name: &Path, force: bool) -> Result<Self, CommandError> {
        let target = target_of(name).map_err(|error| unwritable(name, error))?;
        if target != name && !force {
            let (name, target) = (name.display(), target.display());
            let message =
                format!("{name} is a link to {target}, which does not exist; -f writes that file");
            return Err(Failure::bad_value(Field::Output, message).into());
        }
        Self::tried(name, target, force)
    }

    fn tried(name: &Path, target: PathBuf, force: bool) -> Result<Self, CommandError> {
        try_beside(name, &target)?;
        let name = name.to_owned();
        Ok(Self::File {
            name,
            target,
            force,
        })
    }

    /// Whether only one picture may be written: in a pipe or a terminal, several could not be told apart.
    pub fn takes_one_picture(&self) -> bool {
        match self {
            Self::Stream { open, .. } => {
                open.is_terminal()
                    || open
                        .metadata()
                        .is_ok_and(|found| found.file_type().is_fifo())
            }
            Self::File { .. } => true,
        }
    }

    /// Writes a picture; returns the name that the user gave.
    pub fn write(&self, bytes: &[u8]) -> Result<String, CommandError> {
        let (name, written) = match self {
            Self::Stream { name, open } => (name, { open }.write_all(bytes)),
            Self::File {
                name,
                target,
                force,
            } => (name, write_file(target, bytes, *force)),
        };
        written.map_err(|error| unwritable(name, error))?;
        Ok(name.display().to_string())
    }
}

/// Whether the name is a pipe or a device, which is written to and not replaced.
pub fn is_stream(name: &Path) -> bool {
    fs::metadata(name).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Creates and deletes a temporary file beside `target`: finds missing permissions, read-only file systems and
/// full disks. Errors name the file as the user did.
///
/// # Errors
/// The folder takes no new file.
pub fn try_beside(name: &Path, target: &Path) -> Result<(), CommandError> {
    let folder = folder_of(target).display();
    beside(target)
        .map(drop)
        .map_err(|error| unwritable(name, format_args!("cannot write in {folder}: {error}")))
}

/// Writes a temporary file beside `target` and renames it: readers see the old file or the new one.
///
/// # Errors
/// `AlreadyExists` if `target` exists and `force` is false.
pub fn write_file(target: &Path, bytes: &[u8], force: bool) -> io::Result<()> {
    let mut draft = beside(target)?;
    draft.as_file_mut().write_all(bytes)?;
    let persisted = match force {
        true => draft.persist(target),
        false => draft.persist_noclobber(target),
    };
    persisted.map(drop).map_err(|error| error.error)
}

/// Creates a temporary file beside `target`, with the mode of `target` if it exists, else of any new file.
fn beside(target: &Path) -> io::Result<NamedTempFile> {
    // Its own errors would name the temporary file, which the user does not know.
    let create = |path: &Path| {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        options.mode(0o666).open(path) // The kernel subtracts the umask.
    };
    let draft = tempfile::Builder::new().make_in(folder_of(target), create)?;
    if let Ok(found) = fs::metadata(target) {
        let mode = Permissions::from_mode(found.mode() & 0o777);
        draft.as_file().set_permissions(mode)?;
    }
    Ok(draft)
}

/// Follows the links of `name` to a path that does not exist.
fn target_of(name: &Path) -> io::Result<PathBuf> {
    let mut target = name.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&target) {
            Ok(next) => target = folder_of(&target).join(next),
            // Not a link, or missing.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => {
                return Ok(target);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many links"))
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// The error about an output that cannot be written.
pub fn unwritable(name: &Path, why: impl std::fmt::Display) -> CommandError {
    CommandError::Output(format!("{}: {why}", name.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn prepared(name: &Path, force: bool) -> Result<Destination, u8> {
        Destination::prepare(name, force).map_err(|error| error.exit_code())
    }

    #[test]
    fn an_unwritable_output_is_refused_and_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        let long = format!("{}.png", "x".repeat(300));
        for name in ["no/a.png", "new/", ".", &long] {
            let refused = prepared(&at(name), true);
            assert!(matches!(refused, Err(1)), "{name:.20}: {refused:?}");
        }
        let refused =
            Destination::prepare(&at("no/a.png"), true).map_err(|error| error.to_string());
        let error = refused.expect_err("there is no such folder");
        let expected = format!(
            "output: {}: cannot write in {}: No such file or directory (os error 2)",
            at("no/a.png").display(),
            at("no").display()
        );
        assert_eq!(error, expected);
        let left = fs::read_dir(folder.path()).expect("our own folder").count();
        assert_eq!(left, 0);
    }

    #[test]
    fn a_file_that_exists_is_overwritten_only_by_force_and_keeps_its_mode() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("a.png");
        fs::write(&file, b"old").expect("our own folder");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("our own file");
        assert!(matches!(prepared(&file, false), Err(2)));
        let destination = prepared(&file, true).expect("by force");
        assert_eq!(fs::read(&file).expect("still there"), b"old");
        destination.write(b"new").expect("it was tried");
        assert_eq!(fs::read(&file).expect("written"), b"new");
        assert_eq!(fs::metadata(&file).expect("written").mode() & 0o777, 0o600);
    }

    #[test]
    fn force_writes_the_file_behind_a_link_and_the_link_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("far")).expect("our own folder");
        fs::write(at("far/old.png"), b"old").expect("our own folder");
        symlink("far/old.png", at("link.png")).expect("our own folder");
        symlink("far/new.png", at("first.png")).expect("our own folder");
        symlink("first.png", at("dangling.png")).expect("our own folder");
        for (link, target) in [("link.png", "far/old.png"), ("dangling.png", "far/new.png")] {
            assert!(matches!(prepared(&at(link), false), Err(2)), "{link}");
            let destination = prepared(&at(link), true).expect("by force");
            destination.write(b"new").expect("it was tried");
            assert_eq!(fs::read(at(target)).expect("written"), b"new");
            assert!(at(link).is_symlink(), "{link}");
        }
        symlink("nowhere/a.png", at("lost.png")).expect("our own folder");
        assert!(matches!(prepared(&at("lost.png"), true), Err(1)));
        symlink("round.png", at("round.png")).expect("our own folder");
        assert!(matches!(prepared(&at("round.png"), true), Err(1)));
    }

    #[test]
    fn a_device_takes_bytes_and_stays_a_device() {
        let null = Path::new("/dev/null");
        let destination = prepared(null, false).expect("every user may write there");
        destination.write(b"picture").expect("it takes everything");
        let found = fs::metadata(null).expect("still there");
        assert!(found.file_type().is_char_device());
        assert!(!destination.takes_one_picture());
    }
}
