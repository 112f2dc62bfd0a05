//! Reads the list of a repository's files from a hub, page by page, bounded in entries and bytes.

use std::fmt;

use hf_hub::repository::RepoTreeEntry;
use reqwest::Url;
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};

use crate::http::{Http, NoAnswer};

/// Most files and folders of a repository. The largest known one has about 60.
pub const ENTRIES_MAX: usize = 10_000;
/// Most bytes of all pages of a listing.
pub const BYTES_MAX: usize = 8 << 20;

/// Why a repository has no listing.
#[derive(Debug)]
pub enum NoListing {
    /// The hub does not answer.
    NoAnswer(NoAnswer),
    /// The listing has more than [`ENTRIES_MAX`] entries or [`BYTES_MAX`] bytes.
    TooLong,
    /// The answer does not parse as a listing.
    Malformed(String),
}

impl From<NoAnswer> for NoListing {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::TooLong(_) => Self::TooLong,
            other => Self::NoAnswer(other),
        }
    }
}

/// Reads all pages, beginning with `first`.
pub async fn read(http: &Http, first: Url) -> Result<Vec<RepoTreeEntry>, NoListing> {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    let mut page = Some(first);
    while let Some(url) = page {
        let response = http.get(&url, 0).await?;
        page = http.next_page(response.headers())?;
        let body = http.body(response, BYTES_MAX - bytes).await?;
        let before = entries.len();
        append(&mut entries, &body)?;
        // An empty page has at least two bytes, so the bound in bytes ends this loop.
        bytes += body.len();
        if entries.len() == before {
            break;
        }
    }
    Ok(entries)
}

/// Adds the entries of one page.
fn append(entries: &mut Vec<RepoTreeEntry>, page: &[u8]) -> Result<(), NoListing> {
    let mut json = serde_json::Deserializer::from_slice(page);
    let read = Page(entries)
        .deserialize(&mut json)
        .and_then(|()| json.end());
    match read {
        Ok(()) => Ok(()),
        Err(_) if entries.len() > ENTRIES_MAX => Err(NoListing::TooLong),
        Err(error) => Err(NoListing::Malformed(error.to_string())),
    }
}

/// Collects the entries of a page while it is parsed; parsing fails at one too many.
struct Page<'a>(&'a mut Vec<RepoTreeEntry>);

impl<'de> DeserializeSeed<'de> for Page<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Page<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list of files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(entry) = list.next_element()? {
            self.0.push(entry);
            if self.0.len() > ENTRIES_MAX {
                return Err(A::Error::custom("too many files"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(entries: usize) -> Vec<u8> {
        let entry = r#"{"type":"directory","oid":"0","path":"a"}"#;
        format!("[{}]", vec![entry; entries].join(",")).into_bytes()
    }

    #[test]
    fn a_listing_of_too_many_files_is_refused_while_it_is_read() {
        let mut entries = Vec::new();
        append(&mut entries, &page(ENTRIES_MAX)).expect("at most as many as allowed");
        assert_eq!(entries.len(), ENTRIES_MAX);
        assert!(matches!(
            append(&mut entries, &page(200_000)),
            Err(NoListing::TooLong)
        ));
        assert_eq!(entries.len(), ENTRIES_MAX + 1, "no more of them were kept");
        let mut entries = Vec::new();
        for other in ["{}", "[1]", "[", "[] []"] {
            let read = append(&mut entries, other.as_bytes());
            assert!(matches!(read, Err(NoListing::Malformed(_))), "{other}");
        }
    }
}
