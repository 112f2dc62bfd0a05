//! The folder of the journal: its database, the pixels of pictures, and damaged databases.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ipc_protocol::ids::JobId;

use super::latents::JournaledLatents;
use crate::config::paths::{self, PathError};

/// Name of the folder in the state folder.
const FOLDER: &str = "journal";
const DATABASE: &str = "jobs.redb";
/// Extension of the files with pixels, whose name is the job's id.
const PIXELS: &str = "rgb8";
/// Extension of the files with latents, whose name is the job's id.
const LATENTS: &str = "latents";
/// The beginning of the name of a file that is not complete yet.
const UNFINISHED: &str = ".unfinished-";
/// The beginning of the name of a damaged database.
const DAMAGED: &str = "damaged-";
/// Damaged databases that are kept; the oldest are removed.
const DAMAGED_MAX: usize = 3;

/// The folder of the journal.
#[derive(Debug, Clone)]
pub struct JournalFolder(PathBuf);

impl JournalFolder {
    /// Creates the folder in the state folder, or checks that no other user may write to it.
    ///
    /// # Errors
    /// One of the two folders cannot be used; the message names it.
    pub fn open(state_dir: &Path) -> Result<Self, PathError> {
        paths::prepare_state(state_dir)?;
        let path = state_dir.join(FOLDER);
        paths::prepare_state(&path)?;
        Ok(Self(path))
    }

    /// The file of the database.
    pub fn database(&self) -> PathBuf {
        self.0.join(DATABASE)
    }

    /// Whether there is a database, and it is not empty.
    pub fn has_database(&self) -> bool {
        fs::metadata(self.database()).is_ok_and(|file| file.len() > 0)
    }

    /// Whether an earlier daemon has left anything here, a database or not.
    pub fn was_used(&self) -> bool {
        let extensions = [PIXELS, LATENTS, "redb"];
        let is_ours = |name: &str| {
            let extension = name.rsplit_once('.').map(|(_, extension)| extension);
            extension.is_some_and(|extension| extensions.contains(&extension))
        };
        !self.named(is_ours).is_empty()
    }

    /// Moves a damaged database aside; returns where it is now.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn move_aside(&self, date: &str) -> io::Result<PathBuf> {
        let aside = self.0.join(format!("{DAMAGED}{date}.redb"));
        fs::rename(self.database(), &aside)?;
        let mut damaged = self.named(|name| name.starts_with(DAMAGED));
        damaged.sort_unstable();
        let beyond = damaged.len().saturating_sub(DAMAGED_MAX);
        for old in &damaged[..beyond] {
            // Only its room is lost.
            let _ = fs::remove_file(old);
        }
        Ok(aside)
    }

    /// Writes the pixels of a picture and waits until they are on the disk. The file appears complete or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_pixels(&self, job: JobId, rgb8: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempfile_in(&self.0)?;
        file.write_all(rgb8)?;
        file.as_file().sync_all()?;
        file.persist(self.pixels(job))
            .map_err(|error| error.error)?;
        self.sync()
    }

    /// Waits until the names of the files are on the disk.
    ///
    /// # Errors
    /// The folder cannot be read, or its disk fails.
    pub fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    /// Reads the pixels of a picture, which has `bytes` bytes.
    ///
    /// # Errors
    /// The file cannot be read, or has another length.
    pub fn read_pixels(&self, job: JobId, bytes: u64) -> io::Result<Vec<u8>> {
        let path = self.pixels(job);
        let found = fs::metadata(&path)?.len();
        if found != bytes {
            let why = format!("{} has {found} bytes, not {bytes}", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        fs::read(path)
    }

    /// Removes the pixels of a picture.
    pub fn drop_pixels(&self, job: JobId) {
        // There may be none.
        let _ = fs::remove_file(self.pixels(job));
    }

    /// Writes the newest latents of a job, without waiting for the disk. The file appears complete or not at all, unless
    /// the power is lost.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_latents(&self, job: JobId, latents: &JournaledLatents) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempfile_in(&self.0)?;
        latents.write(&mut file)?;
        let kept = file.persist(self.latents(job));
        kept.map(drop).map_err(|error| error.error)
    }

    /// Reads the latents of a job, if there are any.
    pub fn read_latents(&self, job: JobId) -> Option<JournaledLatents> {
        JournaledLatents::read(&self.latents(job))
    }

    /// Removes the latents of a job.
    pub fn drop_latents(&self, job: JobId) {
        // There may be none.
        let _ = fs::remove_file(self.latents(job));
    }

    /// Removes files that a killed daemon has not completed, and those of jobs that need no pixels or no latents.
    pub fn sweep(
        &self,
        needs_pixels: impl Fn(JobId) -> bool,
        needs_latents: impl Fn(JobId) -> bool,
    ) {
        let of = |name: &str, extension: &str| {
            let job = name.strip_suffix(extension)?.strip_suffix('.')?;
            job.parse().ok().map(JobId)
        };
        let left = |name: &str| {
            name.starts_with(UNFINISHED)
                || of(name, PIXELS).is_some_and(|job| !needs_pixels(job))
                || of(name, LATENTS).is_some_and(|job| !needs_latents(job))
        };
        for file in self.named(left) {
            // Only its room is lost.
            let _ = fs::remove_file(file);
        }
    }

    fn pixels(&self, job: JobId) -> PathBuf {
        self.0.join(format!("{job}.{PIXELS}"))
    }

    fn latents(&self, job: JobId) -> PathBuf {
        self.0.join(format!("{job}.{LATENTS}"))
    }

    /// The files whose names are `meant`.
    fn named(&self, meant: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let meant = |entry: &fs::DirEntry| entry.file_name().to_str().is_some_and(&meant);
        entries.filter(meant).map(|entry| entry.path()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &JournalFolder) -> Vec<String> {
        let path = |path: PathBuf| Some(path.file_name()?.to_str()?.to_owned());
        let mut names: Vec<String> = folder
            .named(|_| true)
            .into_iter()
            .filter_map(path)
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn pixels_are_kept_whole_and_those_of_unknown_jobs_are_swept() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let folder = JournalFolder::open(state.path()).expect("ours to make");
        folder.keep_pixels(JobId(1), &[7; 12]).expect("ours");
        folder.keep_pixels(JobId(2), &[8; 12]).expect("ours");
        fs::write(folder.0.join(".unfinished-x"), "half").expect("ours");
        fs::write(folder.0.join("notes"), "of an operator").expect("ours");
        let read = folder.read_pixels(JobId(1), 12).expect("it is there");
        assert_eq!(read, [7; 12]);
        let wrong = folder.read_pixels(JobId(1), 13).expect_err("it is shorter");
        assert!(
            wrong.to_string().contains("has 12 bytes, not 13"),
            "{wrong}"
        );
        folder.sweep(|job| job == JobId(2), |_| false);
        assert_eq!(names(&folder), ["2.rgb8", "notes"]);
    }

    #[test]
    fn the_newest_damaged_databases_are_kept() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let folder = JournalFolder::open(state.path()).expect("ours to make");
        for date in 1..=5 {
            fs::write(folder.database(), "torn").expect("ours");
            folder.move_aside(&date.to_string()).expect("ours");
        }
        assert_eq!(
            names(&folder),
            ["damaged-3.redb", "damaged-4.redb", "damaged-5.redb"]
        );
    }
}
