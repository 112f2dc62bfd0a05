//! Where pictures go: named, checked before a job is sent, written whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ipc_protocol::failure::{Failure, Field};
use ipc_protocol::ids::JobId;
use tempfile::NamedTempFile;

use super::CommandError;
use super::args::Format;

/// Where the pictures of one request go.
#[derive(Debug)]
pub enum Output {
    /// Raw bytes to stdout.
    Stdout,
    /// Files that the user named, one per picture.
    Named {
        /// In the order of the pictures.
        files: Vec<PathBuf>,
        /// Overwrite.
        force: bool,
    },
    /// `imagepool-JOB.png` in the current folder.
    ByJob {
        /// `png`, `jpeg` or `webp`.
        extension: &'static str,
    },
}

impl Output {
    /// Reads `-o`, and finds out now whether the files can be written later.
    ///
    /// # Errors
    /// A refused value (`-` for several, a file that exists), or `Output` where nothing can be written.
    pub fn prepare(
        output: Option<&str>,
        count: u32,
        force: bool,
        format: Format,
    ) -> Result<Self, CommandError> {
        let output = match output {
            Some("-") if count > 1 => {
                let message = "stdout takes one picture; leave out -n or name a file";
                return Err(Failure::bad_value(Field::Output, message).into());
            }
            Some("-") => return Ok(Self::Stdout),
            Some("") => {
                return Err(Failure::bad_value(Field::Output, "an empty file name").into());
            }
            Some(file) => Self::Named {
                files: numbered(Path::new(file), count),
                force,
            },
            None => Self::ByJob {
                extension: extension(format),
            },
        };
        output.check()?;
        Ok(output)
    }

    fn check(&self) -> Result<(), CommandError> {
        let Self::Named { files, force } = self else {
            return writable_folder(Path::new("."));
        };
        for file in files {
            match fs::metadata(file) {
                Ok(found) if found.is_dir() => {
                    return Err(CommandError::Output(format!(
                        "{} is a folder",
                        file.display()
                    )));
                }
                Ok(found) if found.is_file() && !force => {
                    let message = format!("{} exists; -f overwrites it", file.display());
                    return Err(Failure::bad_value(Field::Output, message).into());
                }
                Ok(found) if found.permissions().readonly() => {
                    return Err(CommandError::Output(format!(
                        "{} is read-only",
                        file.display()
                    )));
                }
                Ok(_) | Err(_) => writable_folder(folder_of(file))?,
            }
        }
        Ok(())
    }

    /// Writes one picture; returns the file's name, `-` for stdout.
    pub fn write(&self, index: u32, job: JobId, bytes: &[u8]) -> Result<String, CommandError> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout
                    .write_all(bytes)
                    .and_then(|()| stdout.flush())
                    .map_err(|error| CommandError::Output(format!("stdout: {error}")))?;
                Ok("-".into())
            }
            Self::Named { files, force } => {
                let file = &files[index as usize];
                write_whole(file, bytes, *force)?;
                Ok(file.display().to_string())
            }
            Self::ByJob { extension } => {
                let file = free_name(job, extension);
                write_whole(&file, bytes, false)?;
                Ok(file.display().to_string())
            }
        }
    }
}

/// What the file should hold: as asked, else as its name says, else PNG.
pub fn format(asked: Option<Format>, output: Option<&str>) -> Format {
    let by_name = || {
        let name = Path::new(output?)
            .extension()?
            .to_str()?
            .to_ascii_lowercase();
        match name.as_str() {
            "jpg" | "jpeg" => Some(Format::Jpeg),
            "webp" => Some(Format::Webp),
            _ => None,
        }
    };
    asked.or_else(by_name).unwrap_or(Format::Png)
}

fn extension(format: Format) -> &'static str {
    match format {
        Format::Png => "png",
        Format::Jpeg => "jpeg",
        Format::Webp => "webp",
    }
}

/// `a.png` for one picture, `a-1.png` to `a-N.png` for several.
fn numbered(file: &Path, count: u32) -> Vec<PathBuf> {
    if count == 1 {
        return vec![file.to_owned()];
    }
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    (1..=count)
        .map(|number| {
            let name = match file.extension() {
                Some(extension) => format!("{stem}-{number}.{}", extension.to_string_lossy()),
                None => format!("{stem}-{number}"),
            };
            file.with_file_name(name)
        })
        .collect()
}

/// A name nobody has used: private pools count their jobs from 1 each, so the job alone is not enough.
fn free_name(job: JobId, extension: &str) -> PathBuf {
    let plain = PathBuf::from(format!("imagepool-{job}.{extension}"));
    if !plain.exists() {
        return plain;
    }
    (2u64..)
        .map(|number| PathBuf::from(format!("imagepool-{job}-{number}.{extension}")))
        .find(|name| !name.exists())
        .expect("no folder holds 2^64 files")
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Tries it: permissions, read-only file systems and full disks all answer alike.
fn writable_folder(folder: &Path) -> Result<(), CommandError> {
    NamedTempFile::new_in(folder).map(drop).map_err(|error| {
        CommandError::Output(format!("cannot write in {}: {error}", folder.display()))
    })
}

/// Writes beside the file and renames, so that a reader sees the old file or the new one.
fn write_whole(file: &Path, bytes: &[u8], force: bool) -> Result<(), CommandError> {
    let failed = |error: io::Error| CommandError::Output(format!("{}: {error}", file.display()));
    if fs::metadata(file).is_ok_and(|found| !found.is_file()) {
        return fs::write(file, bytes).map_err(failed); // A device or pipe takes bytes, not names.
    }
    let mut beside = NamedTempFile::new_in(folder_of(file)).map_err(failed)?;
    beside.write_all(bytes).map_err(failed)?;
    set_usual_permissions(beside.as_file()).map_err(failed)?;
    let persisted = match force {
        true => beside.persist(file),
        false => beside.persist_noclobber(file),
    };
    persisted.map(drop).map_err(|error| failed(error.error))
}

/// Temporary files are private; a picture is as readable as any file its user makes.
fn set_usual_permissions(file: &fs::File) -> io::Result<()> {
    use nix::sys::stat::{Mode, umask};
    use std::os::unix::fs::PermissionsExt;
    // The mask can only be read by setting it; this program has one thread that makes files.
    let mask = umask(Mode::empty());
    umask(mask);
    file.set_permissions(fs::Permissions::from_mode(0o666 & !mask.bits()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_pictures_are_numbered_before_the_extension() {
        assert_eq!(
            numbered(Path::new("x/a.png"), 1),
            [PathBuf::from("x/a.png")]
        );
        let files = numbered(Path::new("x/a.png"), 2);
        assert_eq!(
            files,
            [PathBuf::from("x/a-1.png"), PathBuf::from("x/a-2.png")]
        );
    }

    #[test]
    fn an_existing_file_is_refused_and_a_missing_folder_is_unwritable() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("a.png");
        fs::write(&file, b"old").expect("ours");
        let prepare = |name: &Path, force| {
            Output::prepare(name.to_str(), 1, force, Format::Png).map_err(|error| error.exit_code())
        };
        assert_eq!(prepare(&file, false).expect_err("exists"), 2);
        assert!(prepare(&file, true).is_ok());
        assert_eq!(
            prepare(&folder.path().join("no/a.png"), true).expect_err("no folder"),
            1
        );
        assert_eq!(prepare(folder.path(), true).expect_err("a folder"), 1);
        assert_eq!(fs::read(&file).expect("still there"), b"old");
    }

    #[test]
    fn the_name_of_the_file_says_what_it_holds() {
        assert_eq!(format(None, Some("a.JPG")), Format::Jpeg);
        assert_eq!(format(None, Some("a")), Format::Png);
        assert_eq!(format(Some(Format::Webp), Some("a.jpg")), Format::Webp);
    }
}
