//! `config.json` and `meta.json` beside the weights: the sizes that tensor shapes cannot tell.

use crate::fault::Fault;
use crate::pipelines::folder::diffusers;
use crate::pipelines::folder::lexicon::Lexicon;
use crate::pipelines::folder::preset::Preset;
use crate::pipelines::folder::rights;
use crate::pipelines::folder::search::MODEL_INDEX;
use crate::pipelines::parts::sizes::{
    ClipSizes, DecoderSizes, FluxModelSizes, FluxSizes, LatentSizes, T5Sizes,
};
use crate::pipelines::preview::{self, Colours};
use crate::weights::{open_regular, stand_in};
use ipc_protocol::about::Rights;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io::Read;
use std::path::Path;

/// `config.json` as the pocket model has it. A part that is absent keeps the published sizes.
#[derive(Deserialize)]
struct Config {
    image_size: Option<u32>,
    steps: Option<u32>,
    latent: Option<LatentSizes>,
    transformer: Option<FluxSizes>,
    autoencoder: Option<DecoderSizes>,
    t5: Option<T5Sizes>,
    clip: Option<ClipSizes>,
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
pub struct Described {
    /// Sizes of all parts.
    pub sizes: FluxModelSizes,
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
pub fn published() -> Described {
    Described {
        sizes: FluxModelSizes::schnell(),
        image_size: 1024,
        steps: 4,
        colours: Some(preview::FLUX),
        lexicon: Lexicon::default(),
        rights: Rights::default(),
    }
}

/// Reads JSON.
///
/// # Errors
/// [`Fault::Configuration`] for text that is none or lacks a key.
pub(crate) fn parse<'a, T: Deserialize<'a>>(file: &str, text: &'a [u8]) -> Result<T, Fault> {
    serde_json::from_slice(text)
        .map_err(|error| Fault::configuration(file, "JSON", error.to_string()))
}

/// Reads a JSON file, which may begin with the mark that editors on Windows put there.
///
/// # Errors
/// [`Fault::WeightsMissing`] when it is not there; [`Fault::WeightsCorrupt`] when it is a git-lfs pointer
/// or a web page; [`Fault::Configuration`] for text that is none or lacks a key.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Fault> {
    let text = read_text(path)?;
    parse(&path.display().to_string(), &text)
}

/// Reads a text file as [`read_json`] does.
///
/// # Errors
/// As [`read_json`], but for what the text says.
pub(crate) fn read_text(path: &Path) -> Result<Vec<u8>, Fault> {
    let unread = |error| Fault::reading(path, &error);
    let mut text = Vec::new();
    let mut file = open_regular(path)?;
    file.read_to_end(&mut text).map_err(unread)?;
    if let Some(what) = stand_in(&text) {
        return Err(Fault::WeightsCorrupt {
            file: path.display().to_string(),
            what: what.to_owned(),
        });
    }
    Ok(text
        .strip_prefix(b"\xef\xbb\xbf")
        .map_or(text.clone(), <[u8]>::to_vec))
}

/// Reads a `config.json`.
///
/// # Errors
/// [`Fault::Configuration`] for text that is no such file and for sizes that no model can have.
pub fn from_config(file: &str, text: &[u8]) -> Result<Described, Fault> {
    let config: Config = parse(file, text)?;
    let mut found = published();
    let sizes = &mut found.sizes;
    config
        .latent
        .into_iter()
        .for_each(|part| sizes.latent = part);
    config
        .transformer
        .into_iter()
        .for_each(|part| sizes.transformer = part);
    config
        .autoencoder
        .into_iter()
        .for_each(|part| sizes.decoder = part);
    config.t5.into_iter().for_each(|part| sizes.t5 = part);
    config.clip.into_iter().for_each(|part| sizes.clip = part);
    found.image_size = config.image_size.unwrap_or(found.image_size);
    found.colours = config.preview;
    found.steps = config.steps.unwrap_or(found.steps);
    found.lexicon = config.vocabulary;
    found.lexicon.check(file)?;
    found.rights = config.rights;
    rights::check(&found.rights, file)?;
    found.sizes.check(file)?;
    Ok(found)
}

/// Reads a `meta.json`; one without sizes describes the published model.
///
/// # Errors
/// As [`from_config`].
pub fn from_meta(file: &str, text: &[u8]) -> Result<Described, Fault> {
    let meta: Meta = parse(file, text)?;
    let mut found = published();
    if let Some(preset) = meta.config {
        apply(&preset, &mut found.sizes);
        found.sizes.check(file)?;
    }
    Ok(found)
}

fn apply(preset: &Preset, sizes: &mut FluxModelSizes) {
    let Some(flux) = preset.flux() else {
        return; // the file describes another family; the shapes will tell
    };
    sizes.t5 = preset.t5();
    sizes.clip = preset.clip_l();
    sizes.decoder = preset.decoder();
    sizes.transformer = FluxSizes {
        hidden_size: flux.hidden,
        num_heads: flux.heads,
        depth: flux.depth,
        depth_single_blocks: flux.single,
        axes_dim: flux.axes.clone(),
        context_in_dim: sizes.t5.d_model,
        vec_in_dim: sizes.clip.hidden_size,
        ..sizes.transformer.clone()
    };
}

/// What the folder's `config.json` says, else its `meta.json`, else its components', else the published
/// model.
///
/// # Errors
/// As [`from_config`]; [`Fault::WeightsCorrupt`] for a file that cannot be read.
pub fn of_folder(folder: &Path) -> Result<Described, Fault> {
    type Reader = fn(&str, &[u8]) -> Result<Described, Fault>;
    let readers: [(&str, Reader); 2] = [("config.json", from_config), ("meta.json", from_meta)];
    for (name, read) in readers {
        let path = folder.join(name);
        if path.is_file() {
            let text = read_text(&path)?;
            return read(&path.display().to_string(), &text);
        }
    }
    let mut found = published();
    if folder.join(MODEL_INDEX).is_file() {
        diffusers::apply_flux(folder, &mut found.sizes)?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_protocol::exit_code::ExitCode;

    #[test]
    fn axes_that_do_not_fill_a_head_are_refused_by_key() {
        let text =
            br#"{"transformer": {"in_channels": 64, "hidden_size": 128, "num_heads": 4, "depth": 1,
            "depth_single_blocks": 1, "axes_dim": [8, 12, 8], "context_in_dim": 8, "vec_in_dim": 8,
            "mlp_ratio": 4, "theta": 10000}}"#;
        let fault = from_config("config.json", text)
            .err()
            .map(|f| (f.exit_code(), f.to_string()));
        let (code, said) = fault.expect("the axes add up to 28, the head is 32");
        assert!(
            code == Some(ExitCode::BadConfiguration) && said.contains("axes_dim"),
            "{said}"
        );
    }

    #[test]
    fn a_folder_that_says_nothing_holds_the_published_model() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let found = of_folder(folder.path()).expect("nothing to read");
        assert_eq!(
            (found.sizes.transformer.depth, found.image_size),
            (19, 1024)
        );
    }
}
