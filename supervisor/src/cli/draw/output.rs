//! The outputs of a request's pictures, named and checked before the jobs are sent.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

use ipc_protocol::failure::{Failure, Field};
use ipc_protocol::ids::JobId;

use super::destination::{self, Destination};
use crate::cli::CommandError;
use crate::picture::format::{PictureFormat, extension};

/// Names of this process's stdout.
const STDOUT: [&str; 4] = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

/// Whether the name of an output is this process's stdout.
pub fn is_stdout(name: &str) -> bool {
    STDOUT.contains(&name)
}

/// The outputs of one request's pictures.
#[derive(Debug)]
pub enum PictureOutput {
    /// The encoded picture on stdout.
    Stdout,
    /// The named files, one per picture.
    Named(Vec<Destination>),
    /// One device for all pictures.
    Device(Destination),
    /// `imagepool-JOB.png` in the current folder.
    ByJob {
        /// `png`, `jpeg` or `webp`.
        extension: &'static str,
    },
}

impl PictureOutput {
    /// Parses `-o` and checks that every output can be written.
    ///
    /// # Errors
    /// A refused value (`-` for several, a file that exists), or `PictureOutput` where nothing can be written.
    pub fn prepare(
        output: Option<&str>,
        count: u32,
        force: bool,
        format: PictureFormat,
    ) -> Result<Self, CommandError> {
        match output {
            Some(name) if is_stdout(name) => to_stdout(count, force),
            Some("") => Err(refused(
                "the file name is empty: name a file, or leave out -o",
            )),
            Some(name) => named(Path::new(name), count, force),
            None => {
                let extension = extension(format);
                let any = by_job("JOB", 1, extension);
                destination::try_beside(&any, &any)?;
                Ok(Self::ByJob { extension })
            }
        }
    }

    /// Writes one picture; returns the name of its file, `-` for stdout.
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
            Self::Named(files) => files[index as usize].write(bytes),
            Self::Device(device) => device.write(bytes),
            Self::ByJob { extension } => write_by_job(job, extension, bytes),
        }
    }
}

fn refused(message: impl Into<String>) -> CommandError {
    Failure::bad_value(Field::Output, message).into()
}

fn to_stdout(count: u32, force: bool) -> Result<PictureOutput, CommandError> {
    if count > 1 {
        let message = "stdout takes one picture; leave out -n or name a file";
        return Err(refused(message));
    }
    if io::stdout().is_terminal() && !force {
        let message = "stdout is a terminal: name a file or redirect it; -f writes there anyway";
        return Err(refused(message));
    }
    Ok(PictureOutput::Stdout)
}

fn named(name: &Path, count: u32, force: bool) -> Result<PictureOutput, CommandError> {
    if count > 1 && destination::is_stream(name) {
        let device = Destination::prepare(name, force)?;
        if device.takes_one_picture() {
            let name = name.display();
            let message = format!("{name} takes one picture; leave out -n or name a file");
            return Err(refused(message));
        }
        return Ok(PictureOutput::Device(device));
    }
    let files = numbered(name, count);
    let prepared = files.iter().map(|file| Destination::prepare(file, force));
    Ok(PictureOutput::Named(prepared.collect::<Result<_, _>>()?))
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

/// Writes under the first unused name. The job id alone is not unique: every private pool counts from 1.
fn write_by_job(job: JobId, extension: &str, bytes: &[u8]) -> Result<String, CommandError> {
    let job = job.to_string();
    for number in 1u64.. {
        let file = by_job(&job, number, extension);
        match destination::write_file(&file, bytes, false) {
            Ok(()) => return Ok(file.display().to_string()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(destination::unwritable(&file, error));
            }
        }
    }
    unreachable!("no folder holds 2^64 files")
}

/// `imagepool-JOB.png`, then `imagepool-JOB-2.png` and so on.
fn by_job(job: &str, number: u64, extension: &str) -> PathBuf {
    PathBuf::from(match number {
        1 => format!("imagepool-{job}.{extension}"),
        _ => format!("imagepool-{job}-{number}.{extension}"),
    })
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
    fn every_one_of_several_files_is_checked() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("a-2.png"), b"old").expect("our own folder");
        let name = folder.path().join("a.png");
        let prepare = |count, force| {
            let output = PictureOutput::prepare(name.to_str(), count, force, PictureFormat::Png);
            output.map_err(|error| error.exit_code())
        };
        assert!(prepare(1, false).is_ok());
        assert!(matches!(prepare(2, false), Err(2)));
        assert!(prepare(2, true).is_ok());
    }

    #[test]
    fn a_device_takes_several_pictures_and_stdout_one() {
        let prepare =
            |name, count| PictureOutput::prepare(Some(name), count, true, PictureFormat::Png);
        assert!(matches!(
            prepare("/dev/null", 3),
            Ok(PictureOutput::Device(_))
        ));
        for name in STDOUT {
            assert!(prepare(name, 2).is_err(), "{name}");
            assert!(
                matches!(prepare(name, 1), Ok(PictureOutput::Stdout)),
                "{name}"
            );
        }
    }
}
