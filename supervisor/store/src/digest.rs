//! Digests of files: parses what a hub states before a transfer and checks the bytes against it.

use std::io::{self, Read};

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The digest that a hub states for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatedDigest {
    /// SHA-256 of the content.
    Sha256(String),
    /// Git's object id of the content: small files, which are kept in git itself.
    GitBlob(String),
    /// Git's object id of the pointer file of a large file. The pointer's text follows from the SHA-256 and the size
    /// of the content, so the id proves both.
    GitPointer(String),
}

impl StatedDigest {
    /// Parses an `ETag`: 64 hexadecimal digits are a SHA-256, 40 a git object id; anything else proves nothing.
    pub fn from_etag(etag: &str) -> Option<Self> {
        let etag = etag.to_ascii_lowercase();
        if !etag.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        match etag.len() {
            64 => Some(Self::Sha256(etag)),
            40 => Some(Self::GitBlob(etag)),
            _ => None,
        }
    }
}

/// Computes the digest of a model from the SHA-256 of its weight files, as the worker program does for a folder.
pub fn of_model<'a>(files: impl IntoIterator<Item = &'a str>) -> String {
    let mut files: Vec<String> = files.into_iter().map(str::to_ascii_lowercase).collect();
    files.sort();
    let mut sum = Sha256::new();
    for digest in files {
        sum.update(digest);
        sum.update("\n");
    }
    hex(&sum.finalize())
}

/// Hashes the bytes of a file while they arrive.
#[derive(Debug, Clone)]
pub struct Hasher {
    sha256: Sha256,
    git: Option<Sha1>,
    size: u64,
}

impl Hasher {
    /// Starts with no bytes of a file of `size` bytes.
    pub fn new(stated: &StatedDigest, size: u64) -> Self {
        let git = matches!(stated, StatedDigest::GitBlob(_))
            .then(|| Sha1::new_with_prefix(format!("blob {size}\0")));
        Self {
            sha256: Sha256::new(),
            git,
            size,
        }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(git) = &mut self.git {
            git.update(bytes);
        }
    }

    /// Adds the rest of `reader`; returns its number of bytes.
    pub fn update_from(&mut self, mut reader: impl Read) -> io::Result<u64> {
        let mut buffer = vec![0; 1 << 20];
        let mut total = 0;
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(total),
                count => {
                    self.update(&buffer[..count]);
                    total += count as u64;
                }
            }
        }
    }

    /// Returns the SHA-256: `Ok` if the bytes match the stated digest, else `Err`.
    pub fn finish(self, stated: &StatedDigest) -> Result<String, String> {
        let sha256 = hex(&self.sha256.finalize());
        let agrees = match stated {
            StatedDigest::Sha256(expected) => *expected == sha256,
            StatedDigest::GitPointer(expected) => *expected == git_pointer(&sha256, self.size),
            StatedDigest::GitBlob(expected) => self
                .git
                .is_some_and(|git| *expected == hex(&git.finalize())),
        };
        if agrees { Ok(sha256) } else { Err(sha256) }
    }
}

/// SHA-256 and number of a reader's bytes.
pub fn sha256(reader: impl Read) -> io::Result<(String, u64)> {
    let mut hasher = Hasher {
        sha256: Sha256::new(),
        git: None,
        size: 0,
    };
    let bytes = hasher.update_from(reader)?;
    Ok((hex(&hasher.sha256.finalize()), bytes))
}

/// Git's id of the pointer file of a large file (git-lfs specification, version 1).
fn git_pointer(sha256: &str, size: u64) -> String {
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n");
    let prefix = format!("blob {}\0", pointer.len());
    hex(&Sha1::new_with_prefix(prefix)
        .chain_update(pointer)
        .finalize())
}

/// Formats bytes as hexadecimal digits, in lower case.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stated: &StatedDigest, bytes: &[u8]) -> Result<String, String> {
        let mut hasher = Hasher::new(stated, bytes.len() as u64);
        hasher.update_from(bytes).expect("a slice can be read");
        hasher.finish(stated)
    }

    const HELLO: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

    #[test]
    fn the_three_ways_to_state_a_content_agree_with_git() {
        // `printf 'hello\n' | git hash-object --stdin`, and the same of the pointer that git-lfs writes.
        let pointer = git_pointer(HELLO, 6);
        for stated in [
            StatedDigest::Sha256(HELLO.into()),
            StatedDigest::GitBlob("ce013625030ba8dba906f756967f9e9ca394464a".into()),
            StatedDigest::GitPointer(pointer),
        ] {
            assert_eq!(check(&stated, b"hello\n"), Ok(HELLO.into()), "{stated:?}");
            assert!(check(&stated, b"hellO\n").is_err(), "{stated:?}");
        }
    }

    #[test]
    fn an_etag_that_is_not_a_digest_states_nothing() {
        assert_eq!(
            StatedDigest::from_etag(HELLO),
            Some(StatedDigest::Sha256(HELLO.into()))
        );
        assert_eq!(StatedDigest::from_etag("5d41-abc"), None);
        assert_eq!(
            StatedDigest::from_etag("d41d8cd98f00b204e9800998ecf8427e"),
            None
        );
    }
}
