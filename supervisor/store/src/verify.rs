//! Compares the files of a published model with its record.

use std::fs::File;
use std::path::Path;

use crate::digest;
use crate::store::FetchedModel;

/// Result of comparing a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileVerdict {
    /// The file is as recorded.
    Good,
    /// The file differs: a sentence.
    Bad(String),
}

/// Reads every file and reports its name and verdict; returns the number of bad files.
pub fn run(fetched: &FetchedModel, mut report: impl FnMut(&str, &FileVerdict)) -> usize {
    let mut bad = 0;
    for file in &fetched.record.files {
        let verdict = look(&fetched.folder.join(&file.name), file.bytes, &file.sha256);
        bad += usize::from(verdict != FileVerdict::Good);
        report(&file.name, &verdict);
    }
    bad
}

fn look(path: &Path, bytes: u64, sha256: &str) -> FileVerdict {
    match File::open(path).and_then(digest::sha256) {
        Err(error) => FileVerdict::Bad(format!("cannot be read: {error}")),
        Ok((_, found)) if found != bytes => {
            FileVerdict::Bad(format!("has {found} bytes instead of {bytes}"))
        }
        Ok((found, _)) if found != sha256 => {
            FileVerdict::Bad(format!("has the SHA-256 {found} instead of {sha256}"))
        }
        Ok(_) => FileVerdict::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flipped_bit_is_found() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let path = base.path().join("a");
        std::fs::write(&path, [7; 1000]).expect("ours");
        let (sha256, bytes) = File::open(&path).and_then(digest::sha256).expect("ours");
        assert_eq!(look(&path, bytes, &sha256), FileVerdict::Good);
        let mut changed = [7; 1000];
        changed[999] ^= 1;
        std::fs::write(&path, changed).expect("ours");
        assert!(
            matches!(look(&path, bytes, &sha256), FileVerdict::Bad(why) if why.contains("SHA-256"))
        );
        std::fs::write(&path, &changed[..999]).expect("ours");
        assert!(
            matches!(look(&path, bytes, &sha256), FileVerdict::Bad(why) if why.contains("999"))
        );
    }
}
