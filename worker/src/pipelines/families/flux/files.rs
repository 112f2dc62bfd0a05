//! The files of a FLUX model, found in its folder.

use crate::fault::Fault;
use crate::pipelines::family::Family;
use crate::pipelines::folder::configuration::{self, Described};
use crate::pipelines::folder::schedule;
use crate::pipelines::folder::search::{self, Shelf};
use crate::pipelines::folder::shapes;
use crate::pipelines::folder::vocabulary::{CLIP_EMBEDDING, T5_EMBEDDING, Vocabulary, rows};
use crate::pipelines::parts::tokens::TokenizerFile;
use crate::weights::{Part, Weights};
use std::path::Path;

/// The opened files of a FLUX model.
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
    /// Opens the files of a FLUX model. `path` is its folder, or its transformer's file in it.
    ///
    /// # Errors
    /// [`Fault::WeightsMissing`], [`Fault::WeightsCorrupt`], [`Fault::Configuration`], each naming its file.
    pub fn open(path: &Path) -> Result<FluxFiles, Fault> {
        let (shelf, folder) = (Shelf::new(path, Family::Flux), search::folder_of(path));
        let described = configuration::of_folder(&folder)?;
        schedule::check(&folder, Family::Flux)?;
        let sizes = &described.sizes;
        let transformer = shelf.part(Part::Flux, &shapes::flux(&sizes.transformer))?;
        search::refuse_strays(&transformer)?;
        let near = |part, shapes| shelf.part_near(part, Some(&transformer), &shapes);
        let t5 = near(Part::T5, shapes::t5(&sizes.t5))?;
        let clip = near(Part::ClipL, shapes::clip(&sizes.clip))?;
        let (t5_rows, clip_rows) = (rows(&t5, T5_EMBEDDING), rows(&clip, CLIP_EMBEDDING));
        Ok(FluxFiles {
            autoencoder: near(Part::Autoencoder, shapes::decoder(&sizes.decoder))?,
            t5_tokenizer: Vocabulary::T5.for_encoder(&folder, "tokenizer_2", t5_rows)?,
            clip_tokenizer: Vocabulary::ClipL.for_encoder(&folder, "tokenizer", clip_rows)?,
            transformer,
            t5,
            clip,
            described,
        })
    }

    /// The weight files, in the order in which a digest runs over them.
    pub fn weights(&self) -> [&Weights; 4] {
        [&self.transformer, &self.autoencoder, &self.t5, &self.clip]
    }
}
