//! The opened files of a model, from a folder or embedded in this program.

use crate::fault::WorkerFault;
use crate::pipelines::architecture::Architecture;
use crate::pipelines::embedded::EmbeddedModel;
use crate::pipelines::folder::configuration::{self, Described};
use crate::pipelines::folder::search::{self, FolderLayout, FolderSearch};
use crate::pipelines::folder::vocabulary::{CLIP_EMBEDDING, T5_EMBEDDING, Vocabulary, rows};
use crate::pipelines::folder::{schedule, shapes};
use crate::pipelines::text::{EncoderWeights, TokenizerFiles};
use crate::weights::{self, Weights};
use std::path::Path;

/// The files of a model, and its description.
pub struct ModelFiles<A: Architecture> {
    /// The transformer, with the tensor names of its first published file.
    pub transformer: Weights,
    /// The autoencoder: `decoder.*`.
    pub autoencoder: Weights,
    /// The text encoders.
    pub encoders: EncoderWeights,
    /// The tokenizers of the text encoders.
    pub tokenizers: TokenizerFiles,
    /// Sizes and other facts from the folder.
    pub described: Described<A::Sizes>,
}

impl TokenizerFiles {
    /// Opens the tokenizers of a folder, for encoders with these numbers of embeddings: T5, CLIP-L and, if the
    /// family has one, CLIP-G.
    ///
    /// # Errors
    /// As [`Vocabulary::for_encoder`].
    pub fn open(
        folder: &Path,
        [t5, clip_l]: [usize; 2],
        clip_g: Option<usize>,
    ) -> Result<TokenizerFiles, WorkerFault> {
        // A diffusers pipeline numbers its encoders; T5 is the last.
        let of_t5 = match clip_g {
            Some(_) => "tokenizer_3",
            None => "tokenizer_2",
        };
        let for_clip_g = |rows| Vocabulary::ClipG.for_encoder(folder, "tokenizer_2", rows);
        Ok(TokenizerFiles {
            t5: Vocabulary::T5.for_encoder(folder, of_t5, t5)?,
            clip_l: Vocabulary::ClipL.for_encoder(folder, "tokenizer", clip_l)?,
            clip_g: clip_g.map(for_clip_g).transpose()?,
        })
    }
}

impl<A: Architecture> ModelFiles<A> {
    /// Opens the files of a model. `path` is its folder, or the transformer's file in it. `all` are the layouts of
    /// all families.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsMissing`], [`WorkerFault::WeightsCorrupt`] or [`WorkerFault::Configuration`] with the file.
    pub fn open(path: &Path, all: &[&'static FolderLayout]) -> Result<ModelFiles<A>, WorkerFault> {
        let folder = search::folder_of(path);
        let search = FolderSearch::new(path, A::LAYOUT, all);
        let described = configuration::of_folder(&folder, A::published())?;
        schedule::check(&folder, A::LAYOUT.model, A::LAYOUT.schedule_shift)?;
        let sizes = &described.sizes;
        let transformer = A::shapes(&sizes.transformer);
        let transformer = search.part(A::LAYOUT.transformer, &transformer)?;
        search::refuse_strays(&transformer)?;
        let near = |part, shapes| search.part_near(part, Some(&transformer), &shapes);
        let t5 = near(&weights::T5, shapes::t5(&sizes.encoders.t5))?;
        let clip_l = near(&weights::CLIP_L, shapes::clip(&sizes.encoders.clip_l))?;
        let clip_g = sizes.encoders.clip_g.as_ref();
        let clip_g = clip_g.map(|sizes| near(&weights::CLIP_G, shapes::clip(sizes)));
        let clip_g = clip_g.transpose()?;
        let embeddings = [rows(&t5, T5_EMBEDDING), rows(&clip_l, CLIP_EMBEDDING)];
        let of_clip_g = clip_g.as_ref().map(|clip| rows(clip, CLIP_EMBEDDING));
        Ok(ModelFiles {
            autoencoder: near(&weights::AUTOENCODER, shapes::decoder(&sizes.decoder))?,
            tokenizers: TokenizerFiles::open(&folder, embeddings, of_clip_g)?,
            encoders: EncoderWeights { t5, clip_l, clip_g },
            transformer,
            described,
        })
    }

    /// Opens the files of an embedded model, with the same checks as for a folder.
    ///
    /// # Errors
    /// As for a folder, if this program was built from damaged files.
    pub fn embedded(model: &EmbeddedModel) -> Result<ModelFiles<A>, WorkerFault> {
        let config = model.bytes("config.json")?;
        let name = model.file_name("config.json");
        let described = configuration::from_config(&name, config, A::published())?;
        let mut opened = model.open();
        let has_clip_g = described.sizes.encoders.clip_g.is_some();
        let clip = || model.tokenizer("clip_tokenizer.json");
        Ok(ModelFiles {
            transformer: opened.part(A::LAYOUT.transformer)?,
            autoencoder: opened.part(&weights::AUTOENCODER)?,
            encoders: EncoderWeights {
                t5: opened.part(&weights::T5)?,
                clip_l: opened.part(&weights::CLIP_L)?,
                clip_g: has_clip_g
                    .then(|| opened.part(&weights::CLIP_G))
                    .transpose()?,
            },
            tokenizers: TokenizerFiles {
                t5: model.tokenizer("t5_tokenizer.json")?,
                clip_l: clip()?,
                clip_g: has_clip_g.then(clip).transpose()?,
            },
            described,
        })
    }

    /// The weights of all parts, in the order of the digest.
    pub fn weights(&self) -> Vec<&Weights> {
        let encoders = &self.encoders;
        let mut parts = vec![
            &self.transformer,
            &self.autoencoder,
            &encoders.t5,
            &encoders.clip_l,
        ];
        parts.extend(&encoders.clip_g);
        parts
    }
}
