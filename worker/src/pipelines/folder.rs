//! Finding a model's files in a folder, by looking.

use crate::fault::Fault;
use crate::pipelines::Family;
use crate::pipelines::configuration::{self, Described};
use crate::weights::Weights;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

const TRANSFORMER: &str = "flux1-schnell.safetensors";
const SD35: &str = "sd3.5_large_turbo.safetensors";
const AUTOENCODER: [&str; 1] = ["ae.safetensors"];
const CLIP: [&str; 3] = [
    "clip_l_flux.safetensors",
    "clip_l.safetensors",
    "text_encoders/clip_l.safetensors",
];
const T5: [&str; 1] = ["t5.safetensors"];
const T5_START: &str = "t5xxl"; // t5xxl_fp16.safetensors, t5xxl_fp8_e4m3fn.safetensors …

/// A small file that is read whole, with its name for messages.
pub struct Text {
    /// Name in messages.
    pub file: String,
    /// Contents.
    pub bytes: Cow<'static, [u8]>,
}

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
    pub t5_tokenizer: Text,
    /// CLIP's `tokenizer.json`.
    pub clip_tokenizer: Text,
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
/// [`Fault::WeightsMissing`] when there is none.
pub fn family(folder: &Path, named: Option<Family>) -> Result<Family, Fault> {
    if let Some(family) = named {
        return Ok(family);
    }
    for (file, family) in [(TRANSFORMER, Family::Flux), (SD35, Family::Sd35)] {
        if folder.join(file).is_file() {
            return Ok(family);
        }
    }
    Err(missing(
        folder,
        format!("neither {TRANSFORMER} nor {SD35} is in this folder"),
    ))
}

/// Opens the files of a FLUX model.
///
/// # Errors
/// [`Fault::WeightsMissing`], [`Fault::WeightsCorrupt`], [`Fault::Configuration`], each naming its file.
pub fn flux(folder: &Path) -> Result<FluxFiles, Fault> {
    let described = configuration::of_folder(folder)?;
    Ok(FluxFiles {
        transformer: Weights::open(&first(folder, "transformer", &[TRANSFORMER])?)?,
        autoencoder: Weights::open(&first(folder, "autoencoder", &AUTOENCODER)?)?,
        t5: Weights::open(&t5(folder)?)?,
        clip: Weights::open(&first(folder, "CLIP-L encoder", &CLIP)?)?,
        t5_tokenizer: tokenizer(folder, "t5")?,
        clip_tokenizer: tokenizer(folder, "clip")?,
        described,
    })
}

fn missing(folder: &Path, what: String) -> Fault {
    Fault::WeightsMissing {
        file: folder.display().to_string(),
        what,
    }
}

fn first(folder: &Path, what: &str, names: &[&str]) -> Result<PathBuf, Fault> {
    let mut paths = names.iter().map(|name| folder.join(name));
    let found = paths.find(|path| path.is_file());
    found.ok_or_else(|| {
        missing(
            folder,
            format!("no {what} ({}) in this folder", names.join(", ")),
        )
    })
}

/// `t5xxl*.safetensors`, the first by name, else `t5.safetensors`.
fn t5(folder: &Path) -> Result<PathBuf, Fault> {
    let entries = std::fs::read_dir(folder).map_err(|error| Fault::reading(folder, &error))?;
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let wanted = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(T5_START) && name.ends_with(".safetensors")
    };
    match paths.filter(wanted).min() {
        Some(path) => Ok(path),
        None => first(folder, "T5 encoder: t5xxl*.safetensors", &T5),
    }
}

fn tokenizer(folder: &Path, name: &str) -> Result<Text, Fault> {
    let (flat, nested) = (
        format!("{name}_tokenizer.json"),
        format!("tokenizers/{name}/tokenizer.json"),
    );
    let path = first(folder, "tokenizer", &[&flat, &nested])?;
    let bytes = std::fs::read(&path).map_err(|error| Fault::reading(&path, &error))?;
    Ok(Text {
        file: path.display().to_string(),
        bytes: Cow::Owned(bytes),
    })
}
