//! The small models inside this program. Their files: `worker/assets/`.

use crate::fault::Fault;
use crate::pipelines::families::flux::files::FluxFiles;
use crate::pipelines::families::sd3::configuration as sd3_configuration;
use crate::pipelines::families::sd3::files::{Sd3Files, Tokenizers};
use crate::pipelines::folder::configuration;
use crate::pipelines::folder::search;
use crate::pipelines::parts::tokens::TokenizerFile;
use crate::weights::{Part, WeightFile, Weights, digest};
use std::borrow::Cow;
use std::sync::Arc;

/// A model inside this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pocket {
    /// The FLUX architecture.
    Flux,
    /// That of Stable Diffusion 3.5.
    Sd3,
}

/// How the names of weight files end.
const WEIGHTS: &str = ".safetensors";

type Files = &'static [(&'static str, &'static [u8])];

macro_rules! assets {
    ($folder:literal: $($name:literal),+) => {
        &[$(($name, include_bytes!(concat!("../../../assets/", $folder, "/", $name)))),+]
    };
}

const FLUX: Files = assets!("pocket-flux": "SHA256SUMS", "config.json", "t5_tokenizer.json", "clip_tokenizer.json",
    "flux1-schnell.safetensors", "ae.safetensors", "t5.safetensors", "clip_l.safetensors");

const SD3: Files = assets!("pocket-sd3": "SHA256SUMS", "config.json", "t5_tokenizer.json", "clip_tokenizer.json",
    "sd3.5_large_turbo.safetensors", "t5xxl.safetensors", "text_encoders/clip_l.safetensors",
    "text_encoders/clip_g.safetensors");

impl Pocket {
    /// Both.
    pub const ALL: [Pocket; 2] = [Pocket::Flux, Pocket::Sd3];

    /// Its registry key.
    pub fn key(self) -> &'static str {
        match self {
            Pocket::Flux => "pocket-flux",
            Pocket::Sd3 => "pocket-sd3",
        }
    }

    /// The one with a registry key.
    pub fn named(key: &str) -> Option<Pocket> {
        Pocket::ALL.into_iter().find(|model| model.key() == key)
    }

    fn files(self) -> Files {
        match self {
            Pocket::Flux => FLUX,
            Pocket::Sd3 => SD3,
        }
    }

    /// Compares the weights with the digests that they were published with; gives the names that were
    /// compared.
    ///
    /// # Errors
    /// [`Fault::WeightsCorrupt`] naming the file: this program itself was damaged, or built from damaged files.
    pub fn verify(self) -> Result<Vec<String>, Fault> {
        let sums = String::from_utf8_lossy(self.bytes("SHA256SUMS")?);
        let weights = |(name, _): &&(&str, &[u8])| name.ends_with(WEIGHTS);
        let compare = |(name, bytes): &(&'static str, &'static [u8])| {
            let mut lines = sums.lines();
            let promised = lines.find_map(|line| line.strip_suffix(name)?.strip_suffix("  "));
            let named = self.name(name);
            digest::expect(
                &named,
                &digest::of_bytes(bytes),
                promised.unwrap_or("in SHA256SUMS"),
            )?;
            Ok(named)
        };
        self.files().iter().filter(weights).map(compare).collect()
    }

    /// Bytes of the weights inside this program.
    pub fn weight_bytes(self) -> u64 {
        let weights = self
            .files()
            .iter()
            .filter(|(name, _)| name.ends_with(WEIGHTS));
        weights.map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// As messages name a file.
    fn name(self, file: &str) -> String {
        format!("{}/{file}", self.key())
    }

    fn bytes(self, name: &str) -> Result<&'static [u8], Fault> {
        let found = self.files().iter().find(|(known, _)| *known == name);
        found
            .map(|(_, bytes)| *bytes)
            .ok_or_else(|| Fault::WeightsMissing {
                file: self.name(name),
                what: "is not inside this program".to_owned(),
            })
    }

    fn weights(self, name: &str) -> Result<Arc<WeightFile>, Fault> {
        Ok(Arc::new(WeightFile::embedded(
            &self.name(name),
            self.bytes(name)?,
        )?))
    }

    fn part(self, part: Part, name: &str) -> Result<Weights, Fault> {
        search::part_in(part, self.weights(name)?)
    }

    fn tokenizer(self, name: &str) -> Result<TokenizerFile, Fault> {
        Ok(TokenizerFile {
            file: self.name(name),
            bytes: Cow::Borrowed(self.bytes(name)?),
            pad_token: None,
        })
    }
}

/// The files of `pocket-flux`, checked like any folder's.
///
/// # Errors
/// As those of a folder; this program was built from damaged files then.
pub fn flux() -> Result<FluxFiles, Fault> {
    let model = Pocket::Flux;
    let config = model.bytes("config.json")?;
    Ok(FluxFiles {
        transformer: model.part(Part::Flux, "flux1-schnell.safetensors")?,
        autoencoder: model.part(Part::Autoencoder, "ae.safetensors")?,
        t5: model.part(Part::T5, "t5.safetensors")?,
        clip: model.part(Part::ClipL, "clip_l.safetensors")?,
        t5_tokenizer: model.tokenizer("t5_tokenizer.json")?,
        clip_tokenizer: model.tokenizer("clip_tokenizer.json")?,
        described: configuration::from_config(&model.name("config.json"), config)?,
    })
}

/// The files of `pocket-sd3`, checked like any folder's.
///
/// # Errors
/// As [`flux`].
pub fn sd3() -> Result<Sd3Files, Fault> {
    let model = Pocket::Sd3;
    let config = model.bytes("config.json")?;
    // One file for both, as the published one.
    let shared = model.weights("sd3.5_large_turbo.safetensors")?;
    Ok(Sd3Files {
        transformer: search::part_in(Part::Mmdit, Arc::clone(&shared))?,
        autoencoder: search::part_in(Part::Autoencoder, shared)?,
        t5: model.part(Part::T5, "t5xxl.safetensors")?,
        clip_l: model.part(Part::ClipL, "text_encoders/clip_l.safetensors")?,
        clip_g: model.part(Part::ClipG, "text_encoders/clip_g.safetensors")?,
        tokenizers: Tokenizers {
            t5: model.tokenizer("t5_tokenizer.json")?,
            clip_l: model.tokenizer("clip_tokenizer.json")?,
            clip_g: model.tokenizer("clip_tokenizer.json")?,
        },
        described: sd3_configuration::from_config(&model.name("config.json"), config)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_weights_are_those_of_the_lists() {
        for model in Pocket::ALL {
            assert_eq!(model.verify().expect("good files").len(), 4);
        }
    }
}
