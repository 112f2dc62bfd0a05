//! Names of files in a repository, checked so that none leads out of the model's folder.

use std::fmt;

use ipc_protocol::untrusted::is_obeyed;

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 512;

/// A relative path of plain parts, such as `text_encoders/clip_l.safetensors`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName(String);

impl FileName {
    /// Checks a name.
    ///
    /// # Errors
    /// A sentence that quotes the name: it is empty, too long, or could lead out of its folder.
    pub fn new(name: &str) -> Result<Self, String> {
        let plain = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part
                    .chars()
                    .all(|letter| !is_obeyed(letter) && letter != '\\' && letter != ':')
        };
        if name.len() > NAME_BYTES_MAX || !name.split('/').all(plain) {
            let quoted: String = name.escape_debug().take(80).collect();
            return Err(format!(
                "\"{quoted}\" is not a safe file name: parts may not be empty, begin with a dot, \
                 or hold backslashes, colons or control characters"
            ));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whether a revision is a commit: 40 lower-case hexadecimal digits.
pub fn is_commit(revision: &str) -> bool {
    revision.len() == 40
        && revision
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_out_of_its_folder_is_refused() {
        for name in [
            "",
            "../escape",
            "a/../../b",
            "/etc/passwd",
            "a//b",
            "a/.",
            ".hidden",
            "a\\..\\b",
            "C:x",
            "a\0b",
            "a\nb",
            "a\u{9b}b",
            "a\u{202e}b",
            "a\u{2028}b",
        ] {
            assert!(FileName::new(name).is_err(), "{name:?}");
        }
        for name in ["ae.safetensors", "text_encoders/clip_l.safetensors", "a..b"] {
            assert!(FileName::new(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn only_forty_lower_case_hexadecimal_digits_are_a_commit() {
        assert!(is_commit("0123456789abcdef0123456789abcdef01234567"));
        assert!(!is_commit("main"));
        assert!(!is_commit("0123456789abcdef0123456789abcdef0123456/"));
    }
}
