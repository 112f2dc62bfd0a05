//! Reads `config.json` and `meta.json` beside the weights: sizes that are not visible in tensor shapes.

use crate::fault::WorkerFault;
use crate::pipelines::folder::diffusers;
use crate::pipelines::folder::lexicon::Lexicon;
use crate::pipelines::folder::preset::PresetFile;
use crate::pipelines::folder::rights;
use crate::pipelines::folder::search::MODEL_INDEX;
use crate::pipelines::folder::text_file::{parse, read_text};
use crate::pipelines::parts::sizes::{
    ClipSizes, DecoderSizes, EncoderSizes, LatentSizes, ModelSizes, T5Sizes, TransformerSizes,
};
use crate::pipelines::preview::Colours;
use ipc_protocol::about::ModelRights;
use serde::Deserialize;
use std::path::Path;

/// The `config.json` of embedded models. A missing part has the published sizes.
#[derive(Deserialize)]
struct ConfigFile<T> {
    image_size: Option<u32>,
    steps: Option<u32>,
    latent: Option<LatentSizes>,
    transformer: Option<T>,
    autoencoder: Option<DecoderSizes>,
    t5: Option<T5Sizes>,
    #[serde(alias = "clip")]
    clip_l: Option<ClipSizes>,
    clip_g: Option<ClipSizes>,
    preview: Option<Colours>,
    #[serde(default)]
    vocabulary: Lexicon,
    #[serde(flatten)]
    rights: ModelRights,
}

/// The `meta.json` that the reference script writes.
#[derive(Deserialize)]
struct MetaFile {
    config: Option<PresetFile>,
}

/// The description of a model in its folder.
#[derive(Debug, Clone)]
pub struct Described<T> {
    /// Sizes of all parts.
    pub sizes: ModelSizes<T>,
    /// Default side of the picture, in pixels.
    pub image_size: u32,
    /// Default number of steps.
    pub steps: u32,
    /// Map of latents to colours, if known.
    pub colours: Option<Colours>,
    /// Words that the model knows; empty if unknown.
    pub lexicon: Lexicon,
    /// Licence and attribution; empty if unknown.
    pub rights: ModelRights,
}

impl<T> Described<T> {
    /// The description of a published model: 1024 x 1024 pixels, 4 steps.
    pub fn published(sizes: ModelSizes<T>, colours: Colours) -> Described<T> {
        Described {
            sizes,
            image_size: 1024,
            steps: 4,
            colours: Some(colours),
            lexicon: Lexicon::default(),
            rights: ModelRights::default(),
        }
    }
}

/// Reads a `config.json`.
///
/// # Errors
/// [`WorkerFault::Configuration`] for an invalid file and for impossible sizes.
pub fn from_config<T: TransformerSizes>(
    file: &str,
    text: &[u8],
    published: Described<T>,
) -> Result<Described<T>, WorkerFault> {
    let config: ConfigFile<T> = parse(file, text)?;
    let sizes = published.sizes;
    let encoders = sizes.encoders;
    let sizes = ModelSizes {
        transformer: config.transformer.unwrap_or(sizes.transformer),
        encoders: EncoderSizes {
            t5: config.t5.unwrap_or(encoders.t5),
            clip_l: config.clip_l.unwrap_or(encoders.clip_l),
            clip_g: encoders.clip_g.map(|clip| config.clip_g.unwrap_or(clip)),
        },
        decoder: config.autoencoder.unwrap_or(sizes.decoder),
        latent: config.latent.unwrap_or(sizes.latent),
    };
    let found = Described {
        sizes,
        image_size: config.image_size.unwrap_or(published.image_size),
        steps: config.steps.unwrap_or(published.steps),
        colours: config.preview,
        lexicon: config.vocabulary,
        rights: config.rights,
    };
    found.lexicon.check(file)?;
    rights::check(&found.rights, file)?;
    T::check(&found.sizes, file)?;
    if let Some(colours) = &found.colours {
        colours.check(file, found.sizes.decoder.z_channels)?;
    }
    Ok(found)
}

/// Reads a `meta.json`. Without sizes it describes the published model.
///
/// # Errors
/// As [`from_config`].
pub fn from_meta<T: TransformerSizes>(
    file: &str,
    text: &[u8],
    published: Described<T>,
) -> Result<Described<T>, WorkerFault> {
    let meta: MetaFile = parse(file, text)?;
    let mut found = published;
    let Some(preset) = meta.config else {
        return Ok(found);
    };
    let sizes = &mut found.sizes;
    let transformer = preset.transformer::<T>(file)?;
    let encoders = preset.encoders(&sizes.encoders);
    let (Some(transformer), Some(encoders)) = (transformer, encoders) else {
        if !T::NEEDS_PRESET {
            return Ok(found);
        }
        let what = "is missing: the file does not describe a model of this family";
        let key = format!("config.{}", T::PRESET_KEY);
        return Err(WorkerFault::configuration(file, key, what));
    };
    sizes.transformer = T::from_preset(transformer, &encoders, &sizes.transformer);
    sizes.encoders = encoders;
    sizes.decoder = preset.decoder();
    T::check(sizes, file)?;
    Ok(found)
}

/// Reads the folder's `config.json`, else its `meta.json`, else the configurations of its components, else
/// returns the published model.
///
/// # Errors
/// As [`from_config`]; [`WorkerFault::WeightsCorrupt`] for a file that cannot be read.
pub fn of_folder<T: TransformerSizes>(
    folder: &Path,
    published: Described<T>,
) -> Result<Described<T>, WorkerFault> {
    type Reads<T> = fn(&str, &[u8], Described<T>) -> Result<Described<T>, WorkerFault>;
    let readers: [(&str, Reads<T>); 2] = [("config.json", from_config), ("meta.json", from_meta)];
    for (name, read) in readers {
        let path = folder.join(name);
        if path.is_file() {
            let text = read_text(&path)?;
            return read(&path.display().to_string(), &text, published);
        }
    }
    let mut found = published;
    if folder.join(MODEL_INDEX).is_file() {
        diffusers::apply(folder, &mut found.sizes)?;
    }
    Ok(found)
}
