//! Everything that a model is made of, found in a folder by looking.

use crate::fault::Fault;
use crate::pipelines::Family;
use crate::pipelines::configuration::{self, Described};
use crate::pipelines::schedule;
use crate::pipelines::shapes;
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

/// The family of a folder, or of the transformer's file in it: the one that was named, else that of the
/// transformer that is there.
///
/// # Errors
/// [`Fault::WeightsMissing`] when there is none, [`Fault::Configuration`] when there are two of different
/// families, and the faults of looking into files for one.
pub fn family(path: &Path, named: Option<Family>) -> Result<Family, Fault> {
    if let Some(family) = named {
        return Ok(family);
    }
    for (file, family) in [(TRANSFORMER, Family::Flux), (SD35, Family::Sd35)] {
        if path.join(file).is_file() {
            return Ok(family);
        }
    }
    if !path.exists() {
        return Err(missing(path, "no such folder".to_owned()));
    }
    let holds = |part, family| Shelf::new(path, family).holds(part);
    let flux = holds(Part::Flux, Family::Flux)?;
    match (flux, holds(Part::Mmdit, Family::Sd35)?) {
        (Some(_), None) => Ok(Family::Flux),
        (None, Some(_)) => Ok(Family::Sd35),
        (Some(flux), Some(sd3)) => {
            let what = format!(
                "is FLUX's in {} and Stable Diffusion 3.5's in {}: set family = \"flux\" or \"sd3\" in the \
                 model's section, or path to the file to use",
                flux.display(),
                sd3.display()
            );
            let file = path.display().to_string();
            Err(Fault::configuration(file, "transformer", what))
        }
        (None, None) => Err(no_transformer(path)),
    }
}

/// Why there is no transformer: what came near, else the names that are looked for.
fn no_transformer(path: &Path) -> Fault {
    let names = format!("{TRANSFORMER}, {SD35}, {MODEL_INDEX} nor another file with a transformer");
    let shelf = Shelf::new(path, Family::Flux);
    shelf
        .near_transformer()
        .unwrap_or_else(|| missing(path, format!("neither {names} is in this folder")))
}

/// Opens the files of a FLUX model. `path` is its folder, or its transformer's file in it.
///
/// # Errors
/// [`Fault::WeightsMissing`], [`Fault::WeightsCorrupt`], [`Fault::Configuration`], each naming its file.
pub fn flux(path: &Path) -> Result<FluxFiles, Fault> {
    let (shelf, folder) = (Shelf::new(path, Family::Flux), shelf::folder_of(path));
    let described = configuration::of_folder(&folder)?;
    schedule::check(&folder, Family::Flux)?;
    let sizes = &described.sizes;
    let transformer = shelf.part(Part::Flux, &shapes::flux(&sizes.transformer))?;
    shelf::refuse_strays(&transformer)?;
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
