//! The sizes of a Stable Diffusion 3.5 folder, from `config.json` or `meta.json` beside the weights.

use super::sizes::{MmditSizes, Sd3ModelSizes};
use crate::fault::Fault;
use crate::pipelines::folder::configuration::{parse, read_text};
use crate::pipelines::folder::diffusers;
use crate::pipelines::folder::lexicon::Lexicon;
use crate::pipelines::folder::preset::Preset;
use crate::pipelines::folder::rights;
use crate::pipelines::folder::search::MODEL_INDEX;
use crate::pipelines::parts::sizes::{ClipSizes, DecoderSizes, LatentSizes, T5Sizes};
use crate::pipelines::preview::{self, Colours};
use ipc_protocol::about::Rights;
use serde::Deserialize;
use std::path::Path;

/// `config.json`; a part that is absent keeps the published sizes.
#[derive(Deserialize)]
struct Config {
    image_size: Option<u32>,
    steps: Option<u32>,
    latent: Option<LatentSizes>,
    transformer: Option<MmditSizes>,
    autoencoder: Option<DecoderSizes>,
    t5: Option<T5Sizes>,
    #[serde(alias = "clip")]
    clip_l: Option<ClipSizes>,
    clip_g: Option<ClipSizes>,
    preview: Option<Colours>,
    #[serde(default)]
    vocabulary: Lexicon,
    #[serde(flatten)]
    rights: Rights,
}

/// `meta.json` as the reference script writes it.
#[derive(Deserialize)]
struct Meta {
    config: Option<Preset>,
}

/// What a folder says about itself.
pub struct Sd3Described {
    /// Sizes of all parts.
    pub sizes: Sd3ModelSizes,
    /// Side of the picture that is drawn when no size is asked for, in pixels.
    pub image_size: u32,
    /// Steps that are taken when none are asked for.
    pub steps: u32,
    /// What latents look like, where that is known.
    pub colours: Option<Colours>,
    /// What it was taught, where that is known.
    pub lexicon: Lexicon,
    /// Terms and thanks, where that is known.
    pub rights: Rights,
}

/// The published model.
pub fn published() -> Sd3Described {
    Sd3Described {
        sizes: Sd3ModelSizes::large_turbo(),
        image_size: 1024,
        steps: 4,
        colours: Some(preview::SD3),
        lexicon: Lexicon::default(),
        rights: Rights::default(),
    }
}

/// Reads a `config.json`.
///
/// # Errors
/// [`Fault::Configuration`] for text that is no such file and for sizes that no model can have.
pub fn from_config(file: &str, text: &[u8]) -> Result<Sd3Described, Fault> {
    let config: Config = parse(file, text)?;
    let (mut found, sizes) = (published(), Sd3ModelSizes::large_turbo());
    found.sizes = Sd3ModelSizes {
        transformer: config.transformer.unwrap_or(sizes.transformer),
        t5: config.t5.unwrap_or(sizes.t5),
        clip_l: config.clip_l.unwrap_or(sizes.clip_l),
        clip_g: config.clip_g.unwrap_or(sizes.clip_g),
        decoder: config.autoencoder.unwrap_or(sizes.decoder),
        latent: config.latent.unwrap_or(sizes.latent),
    };
    found.image_size = config.image_size.unwrap_or(found.image_size);
    found.steps = config.steps.unwrap_or(found.steps);
    found.colours = config.preview;
    found.lexicon = config.vocabulary;
    found.lexicon.check(file)?;
    found.rights = config.rights;
    rights::check(&found.rights, file)?;
    found.sizes.check(file)?;
    Ok(found)
}

fn from_meta(file: &str, text: &[u8]) -> Result<Sd3Described, Fault> {
    let meta: Meta = parse(file, text)?;
    let mut found = published();
    let Some(preset) = meta.config else {
        return Ok(found);
    };
    let sizes = &mut found.sizes;
    let (Some(mmdit), Some(clip_g)) = (preset.mmdit(), preset.clip_g()) else {
        let what = "describes no model of this family";
        return Err(Fault::configuration(file, "config.mmdit", what));
    };
    sizes.transformer = MmditSizes {
        depth: mmdit.depth,
        head_size: mmdit.head,
        pos_embed_max_size: mmdit.pos,
        context_in_dim: preset.t5().d_model,
        ..sizes.transformer.clone()
    };
    sizes.t5 = preset.t5();
    (sizes.clip_l, sizes.clip_g) = (preset.clip_l(), clip_g);
    sizes.decoder = preset.decoder();
    sizes.check(file)?;
    Ok(found)
}

/// What the folder's `config.json` says, else its `meta.json`, else its components', else the published
/// model.
///
/// # Errors
/// [`Fault::Configuration`] for text that is no such file and for sizes that no model can have;
/// [`Fault::WeightsCorrupt`] for a file that cannot be read.
pub fn of_folder(folder: &Path) -> Result<Sd3Described, Fault> {
    type Reader = fn(&str, &[u8]) -> Result<Sd3Described, Fault>;
    let readers: [(&str, Reader); 2] = [("config.json", from_config), ("meta.json", from_meta)];
    for (name, read) in readers {
        let path = folder.join(name);
        if path.is_file() {
            let text = read_text(&path)?;
            let file = path.display().to_string();
            return read(&file, &text);
        }
    }
    let mut found = published();
    if folder.join(MODEL_INDEX).is_file() {
        diffusers::apply_sd3(folder, &mut found.sizes)?;
    }
    Ok(found)
}
