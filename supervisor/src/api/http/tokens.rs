//! The tokens of the HTTP door on TCP: a name and rights for a secret text.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::secret::secret;
use crate::config::http::{HttpRight, TokenConfig, TokenSource};

/// File of the token that the daemon makes, beside the sockets.
pub const FILE: &str = "http.token";
/// Name of the token that the daemon makes.
const LOCAL: &str = "local";
/// Fewest bytes of a token: shorter ones can be guessed.
const BYTES_MIN: usize = 16;

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Its file cannot be read or written.
    #[error("http.tokens.{name}: cannot use {file}: {source}")]
    File {
        /// Name of the token.
        name: String,
        /// Its file.
        file: String,
        /// The error of the system call.
        source: io::Error,
    },
    /// It is a systemd credential, and there is none.
    #[error(
        "http.tokens.{name}.credential = {credential:?} is not there: systemd sets no CREDENTIALS_DIRECTORY; use LoadCredential= in the unit, or file"
    )]
    NoCredential {
        /// Name of the token.
        name: String,
        /// Name of the credential.
        credential: String,
    },
    /// It is shorter than 16 bytes or has blanks.
    #[error(
        "http.tokens.{name}: the token in {file} is not one word of at least 16 characters: write one, as from `openssl rand -hex 24`"
    )]
    Weak {
        /// Name of the token.
        name: String,
        /// Its file.
        file: String,
    },
    /// Two names have the same token, so that the rights of one would be unreachable.
    #[error("http.tokens.{name}: the token in {file} is that of another name: write another one")]
    Twice {
        /// Name of the token.
        name: String,
        /// Its file.
        file: String,
    },
    /// The kernel gives no random bytes for a new token.
    #[error("cannot make a token: the kernel gives no random bits: {0}")]
    Random(getrandom::Error),
}

/// A token's name and rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// The user of its jobs, after `token:`.
    pub name: String,
    /// Rights of requests with it.
    pub rights: BTreeSet<HttpRight>,
    /// SHA-256 of its text: the text itself is not kept.
    digest: [u8; 32],
}

/// All tokens.
#[derive(Debug, Clone, Default)]
pub struct TokenTable(Vec<AccessToken>);

impl TokenTable {
    /// Reads the tokens of the settings. Without any, makes one with every right and writes it to [`FILE`] in
    /// `folder`, which only this user can read.
    ///
    /// # Errors
    /// A file cannot be read or written, or a token can be guessed.
    pub fn load(tokens: &[TokenConfig], folder: &Path) -> Result<Self, TokenError> {
        if tokens.is_empty() {
            return Ok(Self(vec![make(&folder.join(FILE))?]));
        }
        let mut table = Self::default();
        for config in tokens {
            let file = file_of(config)?;
            let token = read(config, file)?;
            if table.0.iter().any(|other| other.digest == token.digest) {
                return Err(TokenError::Twice {
                    name: token.name,
                    file: file.display().to_string(),
                });
            }
            table.0.push(token);
        }
        Ok(table)
    }

    /// The token with this text.
    pub fn find(&self, text: &str) -> Option<&AccessToken> {
        let digest: [u8; 32] = Sha256::digest(text).into();
        // Every token is compared, and every byte: the time tells nothing about them.
        let matches = self
            .0
            .iter()
            .map(|token| (token, is_equal(&token.digest, &digest)));
        matches.fold(None, |found, (token, equal)| match equal {
            true => Some(token),
            false => found,
        })
    }
}

/// Compares two digests in a time that does not depend on them.
fn is_equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let differences = a.iter().zip(b).fold(0, |so_far, (a, b)| so_far | (a ^ b));
    std::hint::black_box(differences) == 0
}

fn file_of(token: &TokenConfig) -> Result<&Path, TokenError> {
    match &token.source {
        TokenSource::File(file) => Ok(file),
        TokenSource::MissingCredential(credential) => Err(TokenError::NoCredential {
            name: token.name.clone(),
            credential: credential.clone(),
        }),
    }
}

fn read(token: &TokenConfig, path: &Path) -> Result<AccessToken, TokenError> {
    let file = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|source| TokenError::File {
        name: token.name.clone(),
        file: file.clone(),
        source,
    })?;
    let text = text.trim();
    if text.len() < BYTES_MIN || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        let name = token.name.clone();
        return Err(TokenError::Weak { name, file });
    }
    Ok(AccessToken {
        name: token.name.clone(),
        rights: token.rights.clone(),
        digest: Sha256::digest(text).into(),
    })
}

fn make(file: &Path) -> Result<AccessToken, TokenError> {
    let text = secret().map_err(TokenError::Random)?;
    write(file, &text).map_err(|source| TokenError::File {
        name: LOCAL.into(),
        file: file.display().to_string(),
        source,
    })?;
    Ok(AccessToken {
        name: LOCAL.into(),
        rights: HttpRight::ALL.into(),
        digest: Sha256::digest(&text).into(),
    })
}

/// Writes a file that only this user can read, in place of one that a dead daemon left.
fn write(file: &Path, text: &str) -> io::Result<()> {
    if let Err(error) = fs::remove_file(file)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut open = OpenOptions::new();
    let mut file = open.write(true).create_new(true).mode(0o600).open(file)?;
    writeln!(file, "{text}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_found_by_its_whole_text_only() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("chat");
        fs::write(&file, "0123456789abcdef\n").expect("ours");
        let config = TokenConfig {
            name: "chat".into(),
            source: TokenSource::File(file.clone()),
            rights: [HttpRight::Generate].into(),
        };
        let table = TokenTable::load(std::slice::from_ref(&config), folder.path());
        let table = table.expect("a good token");
        let found = table.find("0123456789abcdef").expect("its text");
        assert_eq!(found.name, "chat");
        for other in [
            "",
            "0123456789abcde",
            "0123456789abcdef0",
            "0123456789ABCDEF",
        ] {
            assert_eq!(table.find(other), None, "{other}");
        }
        assert!(!folder.path().join(FILE).exists(), "none is made");
        let twice = TokenTable::load(&[config.clone(), config.clone()], folder.path());
        assert!(matches!(twice, Err(TokenError::Twice { .. })));
        for weak in ["", "short", "0123456789 abcdef", "0123456789\nabcdef"] {
            fs::write(&file, weak).expect("ours");
            let error = TokenTable::load(std::slice::from_ref(&config), folder.path());
            let error = error.expect_err("weak").to_string();
            assert!(error.contains("http.tokens.chat"), "{error}");
            assert!(weak.is_empty() || !error.contains(weak), "{error}");
        }
    }

    #[test]
    fn a_credential_is_missing_only_when_the_door_opens() {
        let config = TokenConfig {
            name: "chat".into(),
            source: TokenSource::MissingCredential("secret".into()),
            rights: [HttpRight::Generate].into(),
        };
        let error = TokenTable::load(&[config], Path::new("/")).expect_err("there is none");
        let error = error.to_string();
        assert!(
            error.contains("http.tokens.chat.credential = \"secret\""),
            "{error}"
        );
        assert!(error.contains("use LoadCredential="), "{error}");
    }

    #[test]
    fn without_tokens_one_is_made_that_only_this_user_can_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join(FILE), "left by a dead daemon").expect("ours");
        let table = TokenTable::load(&[], folder.path()).expect("a folder of ours");
        let file = folder.path().join(FILE);
        let text = fs::read_to_string(&file).expect("it is made");
        let mode = fs::metadata(&file)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let token = table.find(text.trim()).expect("the made token");
        assert_eq!(token.rights, HttpRight::ALL.into());
    }
}
