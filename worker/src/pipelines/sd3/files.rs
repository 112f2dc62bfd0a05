//! Everything that a Stable Diffusion 3.5 model is made of.

use super::configuration::{self, Sd3Described};
use crate::fault::Fault;
use crate::pipelines::folder::{CLIP_EMBEDDING, T5_EMBEDDING, rows};
use crate::pipelines::shelf::{self, Shelf};
use crate::pipelines::tokens::TokenizerFile;
use crate::pipelines::vocabulary::Vocabulary;
use crate::weights::{Part, Weights};
use std::path::Path;

/// Where this family's CLIP-L is before FLUX's is thought of.
const CLIP_L: [&str; 2] = ["text_encoders/clip_l.safetensors", "clip_l.safetensors"];

/// The files of a model, opened.
pub struct Sd3Files {
    /// `joint_blocks.*`, `x_embedder.*`, …
    pub transformer: Weights,
    /// `decoder.*`.
    pub autoencoder: Weights,
    /// `shared`, `encoder.*`.
    pub t5: Weights,
    /// `text_model.*`.
    pub clip_l: Weights,
    /// `text_model.*`, `text_projection`.
    pub clip_g: Weights,
    /// T5's `tokenizer.json`.
    pub t5_tokenizer: TokenizerFile,
    /// CLIP's `tokenizer.json`, for both.
    pub clip_tokenizer: TokenizerFile,
    /// Sizes.
    pub described: Sd3Described,
}

impl Sd3Files {
    /// Opens the files of a folder.
    ///
    /// # Errors
    /// [`Fault::WeightsMissing`], [`Fault::WeightsCorrupt`], [`Fault::Configuration`], each naming its file.
    pub fn open(folder: &Path) -> Result<Sd3Files, Fault> {
        let shelf = Shelf::new(folder);
        let described = configuration::of_folder(folder)?;
        let transformer = shelf.part(Part::Mmdit)?;
        shelf::refuse_strays(&transformer)?;
        let near = |part, names| shelf.part_near(part, &transformer, names);
        let (t5, clip_l) = (near(Part::T5, &[])?, near(Part::ClipL, &CLIP_L)?);
        Ok(Sd3Files {
            autoencoder: near(Part::Autoencoder, &[])?,
            clip_g: near(Part::ClipG, &[])?,
            t5_tokenizer: Vocabulary::T5.for_encoder(folder, rows(&t5, T5_EMBEDDING))?,
            clip_tokenizer: Vocabulary::Clip.for_encoder(folder, rows(&clip_l, CLIP_EMBEDDING))?,
            transformer,
            t5,
            clip_l,
            described,
        })
    }

    /// The parts, in the order in which a digest runs over them.
    pub fn weights(&self) -> [&Weights; 5] {
        [
            &self.transformer,
            &self.autoencoder,
            &self.t5,
            &self.clip_l,
            &self.clip_g,
        ]
    }
}
