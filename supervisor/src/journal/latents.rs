//! The newest latents of running jobs: a file for each, which nothing waits for.
//!
//! A file is not synced, so a power loss may tear it: its digest shows that, and the job begins at its first step.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Largest file that is read, in bytes: a picture of 2048x2048 has latents of 4 MiB.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Longest first line, in bytes.
const HEAD_BYTES_MAX: u64 = 4096;

/// Latents from which the next daemon resumes a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournaledLatents {
    /// The finished step.
    pub step: u32,
    /// The files that they were computed with.
    pub stamp: String,
    pub latents: Vec<u8>,
}

/// The first line of a file.
#[derive(Debug, Serialize, Deserialize)]
struct LatentsHead {
    step: u32,
    stamp: String,
    bytes: u64,
    /// SHA-256 of all that follows the line.
    digest: String,
}

impl JournaledLatents {
    /// # Errors
    /// The file cannot be written.
    pub(super) fn write(&self, mut file: impl Write) -> io::Result<()> {
        let head = LatentsHead {
            step: self.step,
            stamp: self.stamp.clone(),
            bytes: self.latents.len() as u64,
            digest: digest(&self.latents),
        };
        let head = serde_json::to_string(&head)?;
        writeln!(file, "{head}")?;
        file.write_all(&self.latents)
    }

    /// Reads a file; `None` if there is none, or if it is torn.
    pub(super) fn read(path: &Path) -> Option<Self> {
        if fs::symlink_metadata(path).ok()?.len() > FILE_BYTES_MAX {
            return None;
        }
        let mut file = BufReader::new(File::open(path).ok()?);
        let mut head = String::new();
        let mut first = file.by_ref().take(HEAD_BYTES_MAX);
        first.read_line(&mut head).ok()?;
        let head: LatentsHead = serde_json::from_str(&head).ok()?;
        let mut latents = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut latents).ok()?;
        let is_whole = latents.len() as u64 == head.bytes && digest(&latents) == head.digest;
        is_whole.then_some(Self {
            step: head.step,
            stamp: head.stamp,
            latents,
        })
    }
}

fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torn_latents_are_not_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("1.latents");
        let latents = JournaledLatents {
            step: 7,
            stamp: "of files".into(),
            latents: vec![3; 10_000],
        };
        let mut whole = Vec::new();
        latents.write(&mut whole).expect("memory");
        fs::write(&path, &whole).expect("ours");
        assert_eq!(JournaledLatents::read(&path), Some(latents));
        for length in [0, 1, 50, whole.len() - 1] {
            fs::write(&path, &whole[..length]).expect("ours");
            assert_eq!(JournaledLatents::read(&path), None, "{length} bytes");
        }
        let mut zeroed = whole.clone();
        let middle = whole.len() / 2;
        zeroed[middle..].fill(0);
        fs::write(&path, &zeroed).expect("ours");
        assert_eq!(JournaledLatents::read(&path), None);
        assert_eq!(JournaledLatents::read(folder.path()), None);
    }
}
