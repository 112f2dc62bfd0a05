//! Everything that a model is made of, found in a folder by looking.

use crate::fault::Fault;
use crate::pipelines::Family;
use crate::pipelines::configuration::{self, Described};
use crate::pipelines::shelf::{self, MODEL_INDEX, Shelf};
use crate::pipelines::tokens::TokenizerFile;
use crate::pipelines::vocabulary::Vocabulary;
use crate::weights::{Part, Weights};
use std::path::Path;

const TRANSFORMER: &str = "flux1-schnell.safetensors";
const SD35: &str = "sd3.5_large_turbo.safetensors";

/// Everything that a FLUX model is made of.
pub struct FluxFiles {
    /// `double_blocks.*`, `single_blocks.*`, …
    pub transformer: Weights,
    /// `decoder.*`.
    pub autoencoder: Weights,
    /// `shared`, `encoder.*`.
    pub t5: Weights,
    /// `text_model.*`.
    pub clip: Weights,
    /// T5's `tokenizer.json`.
    pub t5_tokenizer: TokenizerFile,
    /// CLIP's `tokenizer.json`.
    pub clip_tokenizer: TokenizerFile,
    /// Sizes.
    pub described: Described,
}

impl FluxFiles {
    /// The weight files, in the order in which a digest runs over them.
    pub fn weights(&self) -> [&Weights; 4] {
        [&self.transformer, &self.autoencoder, &self.t5, &self.clip]
    }
}

/// The family of a folder: the one that was named, else that of the first transformer that is there.
///
/// # Errors
/// [`Fault::WeightsMissing`] when there is none, and the faults of looking into files for one.
pub fn family(folder: &Path, named: Option<Family>) -> Result<Family, Fault> {
    if let Some(family) = named {
        return Ok(family);
    }
    for (file, family) in [(TRANSFORMER, Family::Flux), (SD35, Family::Sd35)] {
        if folder.join(file).is_file() {
            return Ok(family);
        }
    }
    if !folder.is_dir() {
        return Err(missing(folder, "no such folder".to_owned()));
    }
    let shelf = Shelf::new(folder);
    for (part, family) in [(Part::Flux, Family::Flux), (Part::Mmdit, Family::Sd35)] {
        if shelf.find(part)?.is_some() {
            return Ok(family);
        }
    }
    shelf.refuse_pickles()?;
    let names = format!("{TRANSFORMER}, {SD35}, {MODEL_INDEX} nor another file with a transformer");
    Err(missing(
        folder,
        format!("neither {names} is in this folder"),
    ))
}

/// Opens the files of a FLUX model.
///
/// # Errors
/// [`Fault::WeightsMissing`], [`Fault::WeightsCorrupt`], [`Fault::Configuration`], each naming its file.
pub fn flux(folder: &Path) -> Result<FluxFiles, Fault> {
    let shelf = Shelf::new(folder);
    let described = configuration::of_folder(folder)?;
    let transformer = shelf.part(Part::Flux)?;
    let (t5, clip) = (shelf.part(Part::T5)?, shelf.part(Part::ClipL)?);
    shelf::refuse_strays(&transformer)?;
    Ok(FluxFiles {
        autoencoder: shelf.part(Part::Autoencoder)?,
        t5_tokenizer: Vocabulary::T5.for_encoder(folder, rows(&t5, T5_EMBEDDING))?,
        clip_tokenizer: Vocabulary::Clip.for_encoder(folder, rows(&clip, CLIP_EMBEDDING))?,
        transformer,
        t5,
        clip,
        described,
    })
}

/// Names of the tensors that have a row for each token.
pub const T5_EMBEDDING: &str = "shared.weight";
/// As [`T5_EMBEDDING`], for both CLIP encoders.
pub const CLIP_EMBEDDING: &str = "text_model.embeddings.token_embedding.weight";

/// Rows of a tensor; as many as there can be when it is not there, which loading will say.
pub fn rows(weights: &Weights, name: &str) -> usize {
    let shape = weights.shape(name);
    shape
        .and_then(|shape| shape.first())
        .copied()
        .unwrap_or(usize::MAX)
}

fn missing(folder: &Path, what: String) -> Fault {
    Fault::WeightsMissing {
        file: folder.display().to_string(),
        what,
    }
}
