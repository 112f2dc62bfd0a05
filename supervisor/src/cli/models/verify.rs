//! `models verify`: reads what is here again, and says for each file whether it is what it should be.

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

/// File of digests in a folder; the worker program compares with it.
const SUMS: &str = "SHA256SUMS";

/// Verifies one model wherever its files are, or everything that was fetched.
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
            format!("{key} is synthetic: it has no files"),
        )),
        FilesLocation::Embedded => {
            embedded(key, &mut report)?;
            report.end("this program is damaged; install it again")
        }
        FilesLocation::Folder(path) => {
            let family = config
                .models
                .get(key)
                .and_then(|model| model.family.as_deref());
            folder(key, &path, family, &mut report)?;
            report.end("bring them again from where they came")
        }
        FilesLocation::Fetched(_) | FilesLocation::Missing(_) => {
            let release =
                Release::find(key).expect("only a model of the hub is fetched or missing");
            match fetched(config, release, &mut report) {
                0 => Err(trouble(
                    "absent",
                    format!("no files of {key:?} were fetched"),
                )),
                _ => report.end(MEND_FETCHED),
            }
        }
    }
}

const MEND_FETCHED: &str = "`imagepool models rm` and `fetch` bring them again";

/// Every variant and revision of a model that was fetched; returns how many these are.
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

/// The weights inside the worker program, which knows their digests.
fn embedded(key: &str, report: &mut VerifyReport) -> Result<(), CommandError> {
    let built_in = manifest::built_in().map_err(|why| trouble("worker", why))?;
    if !built_in.contains_key(key) {
        let why = format!("[models.{key}]: a model of one's own needs a family or a path");
        return Err(trouble("usage", why));
    }
    let said = spawn::verify(&worker()?, Path::new(key)).map_err(unasked)?;
    report.files(key, "the worker program", said);
    Ok(())
}

/// A folder of the user's. That its parts are there and their headers whole can always be said; their
/// bytes can be compared only with digests that lie beside them.
fn folder(
    key: &str,
    path: &Path,
    family: Option<&str>,
    report: &mut VerifyReport,
) -> Result<(), CommandError> {
    let worker = worker()?;
    let name = path.display().to_string();
    // What a folder holds does not depend on how it is computed.
    let looked = spawn::inspect(&worker, path, family, Arithmetic::default(), false);
    let structure = match looked.map_err(unasked)? {
        Ok(_) => FileVerdict::Good,
        Err(why) => FileVerdict::Bad(why),
    };
    report.tell(
        key,
        &name,
        &structure,
        "every part is there, and its header is whole",
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

/// What is told, and how much of it is bad.
struct VerifyReport {
    json: bool,
    bad: usize,
}

impl VerifyReport {
    /// What the worker program compared: the names of good files a line each, or a sentence on a bad one.
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

    /// Bytes that there is nothing to compare with are neither good nor bad.
    fn unknown(&self, key: &str, name: &str) {
        let why = format!("no digests are known: a {SUMS} in it would be compared with");
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
