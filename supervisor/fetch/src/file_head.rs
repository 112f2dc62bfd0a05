//! The facts of a file from the headers of answers to HEAD.

use reqwest::header::{CONTENT_LENGTH, ETAG, HeaderMap};

/// Headers in which a hub describes a large file before it redirects to another host.
const COMMIT: &str = "x-repo-commit";
const LINKED_ETAG: &str = "x-linked-etag";
const LINKED_BYTES: &str = "x-linked-size";

/// The facts of a file. Answers that redirect may state them as well; the first statement counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileHead {
    /// The commit of the repository.
    pub commit: Option<String>,
    /// The digest, without quotes.
    pub etag: Option<String>,
    /// Size in bytes.
    pub bytes: Option<u64>,
}

impl FileHead {
    /// Adds the facts of an answer that may redirect. Its length and its `ETag` may be those of the redirect.
    pub fn add(&mut self, headers: &HeaderMap) {
        if self.commit.is_none() {
            self.commit = text(headers, COMMIT);
        }
        if self.etag.is_none() {
            self.etag = text(headers, LINKED_ETAG).map(unquoted);
        }
        if self.bytes.is_none() {
            self.bytes = number(headers, LINKED_BYTES);
        }
    }

    /// Whether every fact is known: then a redirect need not be followed, and some hosts of files refuse HEAD.
    pub fn is_complete(&self) -> bool {
        self.commit.is_some() && self.etag.is_some() && self.bytes.is_some()
    }

    /// Adds the facts of the last answer.
    pub fn finish(&mut self, headers: &HeaderMap) {
        if self.etag.is_none() {
            self.etag = text(headers, ETAG.as_str()).map(unquoted);
        }
        if self.bytes.is_none() {
            self.bytes = number(headers, CONTENT_LENGTH.as_str());
        }
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.trim().to_owned())
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

/// An entity tag without its mark of weakness and its quotes.
fn unquoted(etag: String) -> String {
    etag.trim_start_matches("W/").trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(facts: &[(&'static str, &'static str)]) -> HeaderMap {
        let facts = facts.iter().map(|(name, value)| {
            let value = HeaderValue::from_static(value);
            (HeaderName::from_static(name), value)
        });
        facts.collect()
    }

    #[test]
    fn the_first_statement_about_a_file_counts() {
        let redirect = headers(&[
            ("x-repo-commit", "c1"),
            ("x-linked-etag", "\"ab\""),
            ("x-linked-size", "7"),
            ("content-length", "99"),
            ("etag", "\"redirect\""),
        ]);
        let last = headers(&[
            ("x-repo-commit", "c2"),
            ("etag", "\"other\""),
            ("content-length", "8"),
        ]);
        let mut head = FileHead::default();
        head.add(&redirect);
        assert!(head.is_complete());
        head.add(&last);
        head.finish(&last);
        let expected = FileHead {
            commit: Some("c1".into()),
            etag: Some("ab".into()),
            bytes: Some(7),
        };
        assert_eq!(head, expected);
    }

    #[test]
    fn a_small_file_is_described_by_the_last_answer() {
        let last = headers(&[("etag", "W/\"cd\""), ("content-length", "8")]);
        let mut head = FileHead::default();
        head.add(&last);
        head.finish(&last);
        assert_eq!((head.etag.as_deref(), head.bytes), (Some("cd"), Some(8)));
        assert_eq!(head.commit, None);
    }
}
