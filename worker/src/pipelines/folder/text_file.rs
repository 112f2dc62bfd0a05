//! Reading the JSON and text files beside the weights.

use crate::fault::WorkerFault;
use crate::weights::{open_regular, stand_in};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io::Read;
use std::path::Path;

/// Reads JSON.
///
/// # Errors
/// [`WorkerFault::Configuration`] for text that is none or lacks a key.
pub(crate) fn parse<'a, T: Deserialize<'a>>(file: &str, text: &'a [u8]) -> Result<T, WorkerFault> {
    serde_json::from_slice(text)
        .map_err(|error| WorkerFault::configuration(file, "JSON", error.to_string()))
}

/// Reads a JSON file, which may begin with the mark that editors on Windows put there.
///
/// # Errors
/// [`WorkerFault::WeightsMissing`] when it is not there; [`WorkerFault::WeightsCorrupt`] when it is a git-lfs pointer
/// or a web page; [`WorkerFault::Configuration`] for text that is none or lacks a key.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, WorkerFault> {
    let text = read_text(path)?;
    parse(&path.display().to_string(), &text)
}

/// Reads a text file as [`read_json`] does.
///
/// # Errors
/// As [`read_json`], but for what the text says.
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
