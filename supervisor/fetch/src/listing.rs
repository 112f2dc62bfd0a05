//! Reads the list of a repository's files from a hub, page by page, bounded in entries and bytes.

use hf_hub::repository::RepoTreeEntry;
use reqwest::Url;

use crate::http::{Http, NoAnswer};
use crate::listing_page::{NoPage, append};

/// Most bytes of all pages of a listing.
pub const BYTES_MAX: usize = 8 << 20;

/// Why a repository has no listing.
#[derive(Debug)]
pub enum NoListing {
    /// The hub does not answer.
    NoAnswer(NoAnswer),
    /// The listing has more than [`ENTRIES_MAX`](crate::listing_page::ENTRIES_MAX) entries or [`BYTES_MAX`] bytes.
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

impl From<NoPage> for NoListing {
    fn from(error: NoPage) -> Self {
        match error {
            NoPage::TooLong => Self::TooLong,
            NoPage::Malformed(why) => Self::Malformed(why),
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
