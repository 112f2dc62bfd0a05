//! Where a model's files are, and the texts that the `models` commands share.

use std::path::PathBuf;

use store::release::Release;
use store::{FetchedModel, Store};

use crate::catalogue::offer;
use crate::cli::CommandError;
use crate::config::file::ModelSection;
use crate::config::{self, Config};

/// Where a model's files are.
pub(super) enum FilesLocation {
    /// The model is synthetic: it has no files.
    Synthetic,
    /// Inside the worker program.
    Embedded,
    /// In the folder that `path` in the settings names.
    Folder(PathBuf),
    /// In the store of downloaded models.
    Fetched(FetchedModel),
    /// Missing; the value is the number of bytes already on disk from an interrupted fetch.
    Missing(u64),
}

impl FilesLocation {
    /// Finds the place of a model's files. An unknown model is a usage error.
    pub(super) fn of(config: &Config, key: &str) -> Result<Self, CommandError> {
        if !config::names::keys(&config.models).contains(&key.to_owned()) {
            return Err(trouble(
                "usage",
                format!("unknown model {key:?}: `imagepool models` lists them"),
            ));
        }
        let section = config.models.get(key).cloned().unwrap_or_default();
        if let Some(path) = &section.path {
            return Ok(Self::Folder(path.clone()));
        }
        if section.family.as_deref() == Some("synthetic") {
            return Ok(Self::Synthetic);
        }
        if Release::find(key).is_none() {
            return Ok(Self::Embedded);
        }
        let store = store(config);
        let found = wanted(&store, key, &section)?;
        Ok(found.map_or_else(|| Self::Missing(store.unfinished_bytes(key)), Self::Fetched))
    }

    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Synthetic => "synthetic",
            Self::Embedded => "embedded",
            Self::Folder(_) => "folder",
            Self::Fetched(_) => "fetched",
            Self::Missing(_) => "missing",
        }
    }

    pub(super) fn bytes(&self) -> Option<u64> {
        match self {
            Self::Fetched(fetched) => Some(fetched.record.bytes()),
            Self::Missing(bytes) if *bytes > 0 => Some(*bytes),
            Self::Missing(_) | Self::Synthetic | Self::Embedded | Self::Folder(_) => None,
        }
    }

    pub(super) fn detail(&self) -> String {
        match self {
            Self::Folder(path) => path.display().to_string(),
            Self::Fetched(fetched) => {
                let record = &fetched.record;
                format!("{} at {}", record.variant, short(&record.commit))
            }
            Self::Missing(0) => "`imagepool models fetch` downloads its files".into(),
            Self::Missing(_) => {
                "download interrupted: the next `imagepool models fetch` resumes".into()
            }
            Self::Synthetic | Self::Embedded => String::new(),
        }
    }
}

pub(super) fn store(config: &Config) -> Store {
    Store::at(offer::hub_settings(config).folder)
}

fn wanted(
    store: &Store,
    key: &str,
    section: &ModelSection,
) -> Result<Option<FetchedModel>, CommandError> {
    store
        .wanted(key, section.variant.as_deref(), section.revision.as_deref())
        .map_err(|why| trouble("usage", format!("[models.{key}]: {why}")))
}

pub(super) fn trouble(kind: &str, message: impl Into<String>) -> CommandError {
    CommandError::Models {
        kind: kind.to_owned(),
        message: message.into(),
    }
}

/// The licence in one line, printed before a fetch.
pub(super) fn licence(release: &Release) -> String {
    let licence = &release.licence;
    format!(
        "licence: {} ({}), {}",
        licence.name, licence.url, licence.note
    )
}

/// Formats bytes as megabytes of 1,000,000 bytes, as hubs count, rounded up.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

/// The first 12 digits of a commit.
fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}
