//! The files of the obituaries: one JSON file each, put in place by one rename.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ipc_protocol::obituary::Obituary;
use nix::fcntl::OFlag;

use crate::config::paths::{self, PathError};
use crate::telemetry;

/// Name of the folder in the state folder.
const FOLDER: &str = "obituaries";
/// Largest file that is read, in bytes. Its lines are at most 32 KiB, and JSON may double them.
const FILE_BYTES_MAX: u64 = 128 * 1024;
/// Bytes of all files; the oldest are removed beyond that.
const TOTAL_BYTES_MAX: u64 = 8 << 20;
/// The beginning of the name of a file that is not complete yet.
const UNFINISHED: &str = ".unfinished-";
const EXTENSION: &str = "json";

/// The folder with the files. A file's name begins with the time of the end, so names sort by age.
#[derive(Debug, Clone)]
pub struct ObituaryFolder {
    path: PathBuf,
    most: usize,
}

impl ObituaryFolder {
    /// Creates the folder in the state folder, or checks that no other user may write to it. It will hold at most
    /// `most` files.
    ///
    /// # Errors
    /// One of the two folders cannot be used; the message names it.
    pub fn open(state_dir: &Path, most: usize) -> Result<Self, PathError> {
        paths::prepare_state(state_dir)?;
        let path = state_dir.join(FOLDER);
        paths::prepare_state(&path)?;
        Ok(Self { path, most })
    }

    /// The folder in a state folder that a daemon has used, for reading.
    ///
    /// # Errors
    /// There is none, or this user may not read it.
    pub fn existing(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join(FOLDER);
        fs::read_dir(&path)?;
        Ok(Self {
            path,
            most: usize::MAX,
        })
    }

    /// Reads all obituaries, oldest first. Files that are damaged or not obituaries are reported and skipped.
    pub fn read(&self) -> Vec<Obituary> {
        let files = self.files();
        let skip = files.len().saturating_sub(self.most);
        let read = files[skip..].iter().filter_map(|file| match read(file) {
            Ok(obituary) => Some(obituary.bounded()),
            Err(why) => {
                telemetry::daemon::obituary_skipped(file, &why);
                None
            }
        });
        read.collect()
    }

    /// Writes an obituary, then removes the oldest files beyond the limits.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, obituary: &Obituary) -> io::Result<()> {
        // Only this user may read it.
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempfile_in(&self.path)?;
        serde_json::to_writer_pretty(&mut file, obituary)?;
        writeln!(file)?;
        file.as_file().sync_all()?;
        file.persist(self.file(obituary))
            .map_err(|error| error.error)?;
        self.prune();
        Ok(())
    }

    /// Removes the file of an obituary.
    pub fn remove(&self, obituary: &Obituary) {
        // It may be beyond the limits and gone.
        let _ = fs::remove_file(self.file(obituary));
    }

    /// Removes the unfinished files of a daemon that was killed.
    pub fn sweep(&self) {
        for file in self.entries() {
            if name(&file).starts_with(UNFINISHED) {
                // Another daemon may have removed it.
                let _ = fs::remove_file(file);
            }
        }
    }

    fn file(&self, obituary: &Obituary) -> PathBuf {
        let Obituary {
            time,
            supervisor_pid,
            generation,
            ..
        } = obituary;
        let name = format!("{time}-{supervisor_pid}-{generation}.{EXTENSION}");
        self.path.join(name)
    }

    fn prune(&self) {
        let files = self.files();
        let mut bytes = 0;
        let newest = files.iter().rev().enumerate();
        let beyond = newest.skip_while(|(nth, file)| {
            bytes += fs::symlink_metadata(file).map_or(0, |file| file.len());
            *nth < self.most && bytes <= TOTAL_BYTES_MAX
        });
        for (_, file) in beyond {
            // Another daemon may have removed it.
            let _ = fs::remove_file(file);
        }
    }

    /// The files, oldest first.
    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self
            .entries()
            .filter(|file| file.extension() == Some(OsStr::new(EXTENSION)))
            .collect();
        files.sort();
        files
    }

    fn entries(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path())
    }
}

fn name(file: &Path) -> &str {
    file.file_name().and_then(OsStr::to_str).unwrap_or_default()
}

/// Reads one file; the error says why it is not an obituary. Follows no link, and waits for no pipe.
fn read(path: &Path) -> Result<Obituary, String> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path);
    let file: File = opened.map_err(|error| error.to_string())?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a file".into());
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is longer than {FILE_BYTES_MAX} bytes"));
    }
    parse(&text)
}

/// Parses the text of a file.
///
/// # Errors
/// It is not an obituary.
pub fn parse(text: &[u8]) -> Result<Obituary, String> {
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::store::tests::obituary;
    use super::*;

    fn folder(most: usize) -> (tempfile::TempDir, ObituaryFolder) {
        let state = tempfile::tempdir().expect("a temporary folder");
        let folder = ObituaryFolder::open(state.path(), most).expect("ours to make");
        (state, folder)
    }

    #[test]
    fn an_obituary_is_read_back_and_only_its_user_may_read_it() {
        let (state, folder) = folder(100);
        let written = obituary(1, "syn:0");
        folder.write(&written).expect("room");
        assert_eq!(folder.read(), std::slice::from_ref(&written));
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&folder.file(&written)), 0o600);
        assert_eq!(mode(&state.path().join(FOLDER)), 0o700);
        folder.remove(&written);
        assert!(folder.read().is_empty());
    }

    #[test]
    fn the_oldest_files_are_removed_beyond_the_limit() {
        let (_state, folder) = folder(3);
        for generation in 1..=9 {
            folder.write(&obituary(generation, "syn:0")).expect("room");
        }
        let kept: Vec<u64> = folder.read().iter().map(|kept| kept.generation).collect();
        assert_eq!(kept, [7, 8, 9]);
    }

    #[test]
    fn torn_and_foreign_files_are_skipped() {
        let (state, folder) = folder(100);
        let whole = obituary(2, "syn:0");
        folder.write(&whole).expect("room");
        let path = state.path().join(FOLDER);
        let text = fs::read(folder.file(&whole)).expect("there");
        fs::write(path.join("1-torn.json"), &text[..text.len() / 2]).expect("ours");
        fs::write(path.join("1-else.json"), "{\"a\":1}").expect("ours");
        fs::write(path.join("1-long.json"), vec![b' '; 200_000]).expect("ours");
        fs::write(path.join("notes.txt"), "hello").expect("ours");
        std::os::unix::fs::symlink("/dev/zero", path.join("1-link.json")).expect("ours");
        nix::unistd::mkfifo(&path.join("1-pipe.json"), nix::sys::stat::Mode::S_IRUSR)
            .expect("ours");
        fs::write(path.join(format!("{UNFINISHED}x")), "{").expect("ours");
        assert_eq!(folder.read(), [whole]);
        folder.sweep();
        assert!(!path.join(format!("{UNFINISHED}x")).exists());
        assert!(path.join("notes.txt").exists());
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused_with_the_option_to_change() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let mode = fs::Permissions::from_mode(0o777);
        fs::set_permissions(state.path(), mode).expect("ours");
        let refused = ObituaryFolder::open(state.path(), 1).expect_err("open to others");
        assert!(refused.to_string().contains("--state-dir"), "{refused}");
    }
}
