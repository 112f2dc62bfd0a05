//! An order to fetch a model, and the terms on which the hub may be used.

use std::path::PathBuf;
use std::time::Duration;

use crate::release::{Release, Variant};
use crate::trouble::FetchError;

/// The revision that is fetched by default.
pub const NEWEST: &str = "main";

/// Environment variable in which the fetch program gets the address of the hub.
pub const ENDPOINT_VARIABLE: &str = "IMAGEPOOL_HUB_ENDPOINT";

/// Environment variable in which the fetch program gets the body of a call. Other users can read arguments, and a body may
/// hold a key.
pub const BODY_VARIABLE: &str = "IMAGEPOOL_CALL_BODY";

/// How the hub may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// Refuses every fetch.
    pub offline: bool,
    /// Address of the hub or mirror; the default hub if `None`.
    pub endpoint: Option<String>,
    /// Folder of fetched models.
    pub folder: PathBuf,
    /// Longest wait for data from the hub.
    pub patience: Duration,
}

/// A model to fetch.
#[derive(Debug, Clone)]
pub struct FetchOrder {
    /// The model.
    pub release: &'static Release,
    /// The choice of files.
    pub variant: &'static Variant,
    /// A branch, a tag or a commit of its first repository.
    pub revision: String,
}

impl FetchOrder {
    /// Finds the release and the variant; the default is the first variant at [`NEWEST`].
    ///
    /// # Errors
    /// Unknown model or variant.
    pub fn new(
        key: &str,
        variant: Option<&str>,
        revision: Option<&str>,
    ) -> Result<Self, FetchError> {
        let release = Release::find(key).ok_or_else(|| {
            let keys: Vec<_> = Release::all().iter().map(|release| release.key).collect();
            FetchError::Usage(format!(
                "{key:?} cannot be fetched; {} can",
                keys.join(" and ")
            ))
        })?;
        Ok(Self {
            release,
            variant: release.variant(variant).map_err(FetchError::Usage)?,
            revision: revision.unwrap_or(NEWEST).to_owned(),
        })
    }
}
