//! `models verify`: compares model files with their digests, and prints a result for each file.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;
use store::release::Release;
use store::verify::{self, FileVerdict};

use ipc_protocol::arithmetic::Arithmetic;

use super::place::{FilesLocation, store, trouble};
use crate::catalogue::manifest;
use crate::cli::{CommandError, say};
use crate::config::Config;
use crate::process::{programs, spawn};

/// The file in a user's folder that lists digests, in the format of sha256sum(1).
const SUMS: &str = "SHA256SUMS";

/// Verifies one model, or all downloaded ones; returns the exit code.
pub fn run(config: &Config, key: Option<&str>, json: bool) -> Result<u8, CommandError> {
    let mut report = VerifyReport { json, bad: 0 };
    let Some(key) = key else {
        for release in Release::all() {
            fetched(config, release, &mut report);
        }
        return report.end(MEND_FETCHED);
    };
    match FilesLocation::of(config, key)? {
        FilesLocation::Synthetic => Err(trouble(
            "usage",
            format!("{key} is synthetic: it has no files to verify"),
        )),
        FilesLocation::Embedded => {
            embedded(key, &mut report)?;
            report.end("the worker program is damaged; install it again")
        }
        FilesLocation::Folder(path) => {
            let family = config
                .models
                .get(key)
                .and_then(|model| model.family.as_deref());
            folder(key, &path, family, &mut report)?;
            report.end("copy these files again from their source")
        }
        FilesLocation::Fetched(_) | FilesLocation::Missing(_) => {
            let release =
                Release::find(key).expect("only a model of the hub is fetched or missing");
            match fetched(config, release, &mut report) {
                0 => Err(trouble(
                    "absent",
                    format!(
                        "{key:?} has no downloaded files: `imagepool models fetch {key}` downloads them"
                    ),
                )),
                _ => report.end(MEND_FETCHED),
            }
        }
    }
}

const MEND_FETCHED: &str = "`imagepool models rm` and then `fetch` download them again";

/// Verifies every downloaded variant and revision of a model; returns their number.
fn fetched(config: &Config, release: &Release, report: &mut VerifyReport) -> usize {
    let mut seen = 0;
    for variant in release.variants {
        for fetched in store(config).all(release.key, variant.name) {
            seen += 1;
            verify::run(&fetched, |name, verdict| {
                report.tell(release.key, name, verdict, "good");
            });
        }
    }
    seen
}

/// Verifies the weights inside the worker program, which contains their digests.
fn embedded(key: &str, report: &mut VerifyReport) -> Result<(), CommandError> {
    let built_in = manifest::built_in().map_err(|why| trouble("worker", why))?;
    if !built_in.contains_key(key) {
        let why = format!("[models.{key}]: a model that is not built in needs `family` or `path`");
        return Err(trouble("usage", why));
    }
    let said = spawn::verify(&worker()?, Path::new(key)).map_err(unasked)?;
    report.files(key, "the worker program", said);
    Ok(())
}

/// Verifies a user's folder: always that every part exists and has a valid header; the bytes only if the
/// folder lists their digests.
fn folder(
    key: &str,
    path: &Path,
    family: Option<&str>,
    report: &mut VerifyReport,
) -> Result<(), CommandError> {
    let worker = worker()?;
    let name = path.display().to_string();
    // The arithmetic does not change which files a folder must have.
    let looked = spawn::inspect(&worker, path, family, Arithmetic::default(), false);
    let structure = match looked.map_err(unasked)? {
        Ok(_) => FileVerdict::Good,
        Err(why) => FileVerdict::Bad(why),
    };
    report.tell(
        key,
        &name,
        &structure,
        "every part exists and has a valid header",
    );
    if path.join(SUMS).is_file() {
        let said = spawn::verify(&worker, path).map_err(unasked)?;
        report.files(key, &name, said);
    } else {
        report.unknown(key, &name);
    }
    Ok(())
}

fn worker() -> Result<PathBuf, CommandError> {
    programs::find("worker").map_err(|error| trouble("worker", error.to_string()))
}

fn unasked(error: io::Error) -> CommandError {
    trouble("worker", format!("cannot ask the worker program: {error}"))
}

/// Prints the results and counts the damaged files.
struct VerifyReport {
    json: bool,
    bad: usize,
}

impl VerifyReport {
    /// Prints the worker program's result: one line `NAME: OK` per good file, or the error about a bad one.
    fn files(&mut self, key: &str, place: &str, said: Result<String, String>) {
        match said {
            Ok(names) => {
                for name in names.lines().filter_map(|line| line.strip_suffix(": OK")) {
                    self.tell(key, name, &FileVerdict::Good, "good");
                }
            }
            Err(why) => self.tell(key, place, &FileVerdict::Bad(why), ""),
        }
    }

    fn tell(&mut self, key: &str, name: &str, verdict: &FileVerdict, good: &str) {
        let (is_good, why) = match verdict {
            FileVerdict::Good => (true, good),
            FileVerdict::Bad(why) => (false, why.as_str()),
        };
        self.bad += usize::from(!is_good);
        self.line(key, name, Some(is_good), why);
    }

    /// Prints that no digests exist; such bytes count neither as good nor as bad.
    fn unknown(&self, key: &str, name: &str) {
        let why = format!("not compared: no digests are known, the folder has no {SUMS}");
        self.line(key, name, None, &why);
    }

    fn line(&self, key: &str, name: &str, good: Option<bool>, why: &str) {
        if self.json {
            say::line(json!({"key": key, "file": name, "good": good, "why": why}));
        } else {
            say::line(format!("{key} {name}: {why}"));
        }
    }

    fn end(self, mend: &str) -> Result<u8, CommandError> {
        match self.bad {
            0 => Ok(0),
            bad => Err(trouble("wrong_bytes", format!("{bad} damaged: {mend}"))),
        }
    }
}
