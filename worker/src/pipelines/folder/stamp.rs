//! The stamp of a model's folder: the state of its weight files and of the other files that are read.

use crate::fault::WorkerFault;
use crate::weights::digest;
use crate::weights::{Mark, Weights};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Largest number of files and folders besides the weights.
const BESIDE_MAX: usize = 1024;
/// Depth of the search for configurations: `tokenizers/t5/tokenizer.json` is the deepest.
const DEPTH: usize = 2;

/// The state of a model's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Marks of all relevant files and folders, sorted by path.
    pub marks: BTreeSet<Mark>,
}

impl Stamp {
    /// Takes the stamp of a folder with opened weights. The marks of the weights are those of the open files.
    pub fn of_folder(folder: &Path, weights: &[&Weights]) -> Stamp {
        let files = weights.iter().flat_map(|part| part.files());
        let mut marks: BTreeSet<Mark> = files.filter_map(|file| file.mark().cloned()).collect();
        let mut paths = vec![folder.to_owned()];
        beside(folder, DEPTH, &mut paths);
        marks.extend(paths.iter().filter_map(|path| Mark::of(path)));
        Stamp { marks }
    }

    /// SHA-256 of the marks, in hexadecimal.
    pub fn text(&self) -> String {
        let lines: String = self
            .marks
            .iter()
            .map(|mark| {
                let Mark {
                    path,
                    device,
                    inode,
                    bytes,
                    modified_ns,
                    changed_ns,
                } = mark;
                format!("{path:?} {device} {inode} {bytes} {modified_ns} {changed_ns}\n")
            })
            .collect();
        digest::of_bytes(lines.as_bytes())
    }

    /// Compares the stamp with an earlier one.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsCorrupt`] with the folder, if they differ.
    pub fn expect(&self, folder: &Path, stamp: &str) -> Result<(), WorkerFault> {
        match stamp.is_empty() || self.text() == stamp {
            true => Ok(()),
            false => Err(changed(folder, "after they were inspected")),
        }
    }

    /// Checks, after everything was loaded, that no file has changed.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsCorrupt`] with the first file that changed.
    pub fn expect_unchanged(&self) -> Result<(), WorkerFault> {
        let now = |mark: &Mark| Mark::of(Path::new(&mark.path));
        match self
            .marks
            .iter()
            .find(|mark| now(mark).as_ref() != Some(mark))
        {
            None => Ok(()),
            Some(mark) => Err(changed(Path::new(&mark.path), "while they were loaded")),
        }
    }
}

fn changed(path: &Path, when: &str) -> WorkerFault {
    WorkerFault::WeightsCorrupt {
        file: path.display().to_string(),
        what: format!("the model's files changed {when}"),
    }
}

/// Collects the marks of folders and of the JSON files in them.
fn beside(folder: &Path, depth: usize, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return; // A folder that cannot be listed is not read either.
    };
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.sort();
    for path in found {
        if paths.len() >= BESIDE_MAX {
            return;
        }
        let is_json = path.extension().is_some_and(|end| end == "json");
        if path.is_dir() && depth > 0 {
            paths.push(path.clone());
            beside(&path, depth - 1, paths);
        } else if is_json && path.is_file() {
            paths.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_protocol::exit_code::ExitCode;

    #[test]
    fn a_stamp_changes_with_a_configuration_and_with_the_list_of_files() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path();
        std::fs::create_dir_all(path.join("tokenizers/t5")).expect("our own folder");
        let deep = path.join("tokenizers/t5/tokenizer.json");
        std::fs::write(&deep, "{}").expect("our own folder");
        let first = Stamp::of_folder(path, &[]);
        assert_eq!(first, Stamp::of_folder(path, &[]));
        first.expect(path, &first.text()).expect("nothing changed");
        first.expect_unchanged().expect("nothing changed");
        std::fs::write(&deep, "{ }").expect("our own folder");
        let second = Stamp::of_folder(path, &[]);
        let fault = second.expect(path, &first.text()).expect_err("it changed");
        assert_eq!(fault.exit_code(), Some(ExitCode::UnusableWeights));
        let fault = first
            .expect_unchanged()
            .expect_err("it changed")
            .to_string();
        assert!(fault.contains("tokenizer.json"), "{fault}");
        std::fs::write(path.join("flux1-schnell.safetensors"), "").expect("our own folder");
        assert_ne!(Stamp::of_folder(path, &[]).text(), second.text());
    }
}
