//! Reading the JSON and text files beside the weights.

use crate::fault::WorkerFault;
use crate::weights::{open_regular, stand_in};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io::Read;
use std::path::Path;

/// Parses JSON.
///
/// # Errors
/// [`WorkerFault::Configuration`] for invalid JSON and for a missing key.
pub(crate) fn parse<'a, T: Deserialize<'a>>(file: &str, text: &'a [u8]) -> Result<T, WorkerFault> {
    serde_json::from_slice(text)
        .map_err(|error| WorkerFault::configuration(file, "JSON", error.to_string()))
}

/// Reads a JSON file, with or without a byte order mark.
///
/// # Errors
/// [`WorkerFault::WeightsMissing`]; [`WorkerFault::WeightsCorrupt`] for a git-lfs pointer or a web page;
/// [`WorkerFault::Configuration`] for invalid JSON and for a missing key.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, WorkerFault> {
    let text = read_text(path)?;
    parse(&path.display().to_string(), &text)
}

/// Reads a text file, like [`read_json`] without parsing.
///
/// # Errors
/// As [`read_json`], except [`WorkerFault::Configuration`].
pub(crate) fn read_text(path: &Path) -> Result<Vec<u8>, WorkerFault> {
    let unread = |error| WorkerFault::reading(path, &error);
    let mut text = Vec::new();
    let mut file = open_regular(path)?;
    file.read_to_end(&mut text).map_err(unread)?;
    if let Some(what) = stand_in(&text) {
        return Err(WorkerFault::WeightsCorrupt {
            file: path.display().to_string(),
            what: what.to_owned(),
        });
    }
    Ok(text
        .strip_prefix(b"\xef\xbb\xbf")
        .map_or(text.clone(), <[u8]>::to_vec))
}
