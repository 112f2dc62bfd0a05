//! Reads a published model again and compares every byte with its record.

use std::fs::File;
use std::path::Path;

use super::digest;
use super::store::Fetched;

/// What a file turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As recorded.
    Good,
    /// Something else; a sentence.
    Bad(String),
}

/// Reads every file; `tell` gets each name with its verdict. Returns how many are bad.
pub fn run(fetched: &Fetched, mut tell: impl FnMut(&str, &Verdict)) -> usize {
    let mut bad = 0;
    for file in &fetched.record.files {
        let verdict = look(&fetched.folder.join(&file.name), file.bytes, &file.sha256);
        bad += usize::from(verdict != Verdict::Good);
        tell(&file.name, &verdict);
    }
    bad
}

fn look(path: &Path, bytes: u64, sha256: &str) -> Verdict {
    match File::open(path).and_then(digest::sha256) {
        Err(error) => Verdict::Bad(format!("cannot be read: {error}")),
        Ok((_, found)) if found != bytes => {
            Verdict::Bad(format!("has {found} bytes instead of {bytes}"))
        }
        Ok((found, _)) if found != sha256 => {
            Verdict::Bad(format!("has the SHA-256 {found} instead of {sha256}"))
        }
        Ok(_) => Verdict::Good,
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
        assert_eq!(look(&path, bytes, &sha256), Verdict::Good);
        let mut changed = [7; 1000];
        changed[999] ^= 1;
        std::fs::write(&path, changed).expect("ours");
        assert!(
            matches!(look(&path, bytes, &sha256), Verdict::Bad(why) if why.contains("SHA-256"))
        );
        std::fs::write(&path, &changed[..999]).expect("ours");
        assert!(matches!(look(&path, bytes, &sha256), Verdict::Bad(why) if why.contains("999")));
    }
}
