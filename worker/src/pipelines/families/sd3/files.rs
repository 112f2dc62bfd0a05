//! Everything that a Stable Diffusion 3.5 model is made of.

use super::configuration::{self, Sd3Described};
use crate::fault::Fault;
use crate::pipelines::family::Family;
use crate::pipelines::folder::schedule;
use crate::pipelines::folder::search::{self, Shelf};
use crate::pipelines::folder::shapes;
use crate::pipelines::folder::vocabulary::{CLIP_EMBEDDING, T5_EMBEDDING, Vocabulary, rows};
use crate::pipelines::parts::tokens::TokenizerFile;
use crate::weights::{Part, Weights};
use std::path::Path;

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
    /// The tokenizers of all three encoders.
    pub tokenizers: Tokenizers,
    /// Sizes.
    pub described: Sd3Described,
}

/// The `tokenizer.json` of each encoder.
pub struct Tokenizers {
    /// T5's.
    pub t5: TokenizerFile,
    /// CLIP-L's.
    pub clip_l: TokenizerFile,
    /// CLIP-G's: CLIP-L's with another padding token, as published.
    pub clip_g: TokenizerFile,
}

impl Tokenizers {
    /// The tokenizers of a folder for encoders with so many embeddings: T5, CLIP-L, CLIP-G.
    ///
    /// # Errors
    /// As [`Vocabulary::for_encoder`].
    pub fn open(folder: &Path, rows: [usize; 3]) -> Result<Tokenizers, Fault> {
        let [t5, clip_l, clip_g] = rows;
        Ok(Tokenizers {
            t5: Vocabulary::T5.for_encoder(folder, "tokenizer_3", t5)?,
            clip_l: Vocabulary::ClipL.for_encoder(folder, "tokenizer", clip_l)?,
            clip_g: Vocabulary::ClipG.for_encoder(folder, "tokenizer_2", clip_g)?,
        })
    }
}

impl Sd3Files {
    /// Opens the files of a model. `path` is its folder, or its transformer's file in it.
    ///
    /// # Errors
    /// [`Fault::WeightsMissing`], [`Fault::WeightsCorrupt`], [`Fault::Configuration`], each naming its file.
    pub fn open(path: &Path) -> Result<Sd3Files, Fault> {
        let (shelf, folder) = (Shelf::new(path, Family::Sd35), search::folder_of(path));
        let described = configuration::of_folder(&folder)?;
        schedule::check(&folder, Family::Sd35)?;
        let sizes = &described.sizes;
        let transformer = shelf.part(Part::Mmdit, &shapes::mmdit(&sizes.transformer))?;
        search::refuse_strays(&transformer)?;
        let near = |part, shapes| shelf.part_near(part, Some(&transformer), &shapes);
        let t5 = near(Part::T5, shapes::t5(&sizes.t5))?;
        let clip_l = near(Part::ClipL, shapes::clip(&sizes.clip_l))?;
        let clip_g = near(Part::ClipG, shapes::clip(&sizes.clip_g))?;
        let rows = [
            rows(&t5, T5_EMBEDDING),
            rows(&clip_l, CLIP_EMBEDDING),
            rows(&clip_g, CLIP_EMBEDDING),
        ];
        Ok(Sd3Files {
            autoencoder: near(Part::Autoencoder, shapes::decoder(&sizes.decoder))?,
            tokenizers: Tokenizers::open(&folder, rows)?,
            transformer,
            t5,
            clip_l,
            clip_g,
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
