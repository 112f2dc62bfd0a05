//! `pocket-flux`, the small FLUX model inside this program. Its files: `worker/assets/pocket-flux/`.

use crate::fault::Fault;
use crate::pipelines::configuration;
use crate::pipelines::folder::FluxFiles;
use crate::pipelines::tokens::TokenizerFile;
use crate::weights::{Weights, digest};
use std::borrow::Cow;

/// Names the embedded files in messages.
const NAME: &str = "pocket-flux";

macro_rules! asset {
    ($name:literal) => {
        include_bytes!(concat!("../../assets/pocket-flux/", $name))
    };
}

/// Digests of the embedded files, as they lie in the repository.
const SUMS: &str = include_str!("../../assets/pocket-flux/SHA256SUMS");

/// Compares the embedded weights with the digests that they were published with.
///
/// # Errors
/// [`Fault::WeightsCorrupt`] naming the file: this program itself was damaged, or built from damaged files.
pub fn verify() -> Result<Vec<String>, Fault> {
    let files = files()?;
    let mut compared = Vec::new();
    for file in files.weights().iter().flat_map(|part| part.files()) {
        let name = file.name().trim_start_matches("pocket-flux/");
        let promised = SUMS
            .lines()
            .find_map(|line| line.strip_suffix(name)?.strip_suffix("  "));
        let found = digest::of_bytes(file.bytes());
        digest::expect(file.name(), &found, promised.unwrap_or("in SHA256SUMS"))?;
        compared.push(file.name().to_owned());
    }
    Ok(compared)
}

/// The embedded files, checked like any folder's.
///
/// # Errors
/// As those of a folder; this program was built from damaged files then.
pub fn files() -> Result<FluxFiles, Fault> {
    let weights = |part: &str, bytes| Weights::embedded(&format!("{NAME}/{part}"), bytes);
    let text = |part: &str, bytes| TokenizerFile {
        file: format!("{NAME}/{part}"),
        bytes: Cow::Borrowed(bytes),
    };
    Ok(FluxFiles {
        transformer: weights(
            "flux1-schnell.safetensors",
            asset!("flux1-schnell.safetensors"),
        )?,
        autoencoder: weights("ae.safetensors", asset!("ae.safetensors"))?,
        t5: weights("t5.safetensors", asset!("t5.safetensors"))?,
        clip: weights("clip_l.safetensors", asset!("clip_l.safetensors"))?,
        t5_tokenizer: text("t5_tokenizer.json", asset!("t5_tokenizer.json")),
        clip_tokenizer: text("clip_tokenizer.json", asset!("clip_tokenizer.json")),
        described: configuration::from_config("pocket-flux/config.json", asset!("config.json"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_weights_are_those_of_the_list() {
        assert_eq!(verify().expect("good files").len(), 4);
    }
}
