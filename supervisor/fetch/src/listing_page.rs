//! Parses one page of the list of a repository's files.

use std::fmt;

use hf_hub::repository::RepoTreeEntry;
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};

/// Most files and folders of a repository. The largest known one has about 60.
pub const ENTRIES_MAX: usize = 10_000;

/// Why a page cannot be added to a listing.
#[derive(Debug)]
pub enum NoPage {
    /// The listing has more than [`ENTRIES_MAX`] entries.
    TooLong,
    /// The page does not parse as a list of files.
    Malformed(String),
}

/// Adds the entries of one page.
///
/// # Errors
/// The listing has too many entries now, or the page does not parse.
pub fn append(entries: &mut Vec<RepoTreeEntry>, page: &[u8]) -> Result<(), NoPage> {
    let mut json = serde_json::Deserializer::from_slice(page);
    let read = Page(entries)
        .deserialize(&mut json)
        .and_then(|()| json.end());
    match read {
        Ok(()) => Ok(()),
        Err(_) if entries.len() > ENTRIES_MAX => Err(NoPage::TooLong),
        Err(error) => Err(NoPage::Malformed(error.to_string())),
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
            Err(NoPage::TooLong)
        ));
        assert_eq!(entries.len(), ENTRIES_MAX + 1, "no more of them were kept");
        let mut entries = Vec::new();
        for other in ["{}", "[1]", "[", "[] []"] {
            let read = append(&mut entries, other.as_bytes());
            assert!(matches!(read, Err(NoPage::Malformed(_))), "{other}");
        }
    }
}
