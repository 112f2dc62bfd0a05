//! The families: how each finds, describes and loads its models.

pub mod flux;
pub mod pocket;
pub mod sd3;
pub mod synthetic;

use crate::device;
use crate::fault::Fault;
use crate::pipelines::family::Family;
use crate::pipelines::folder::search::{self, MODEL_INDEX, Shelf};
use crate::pipelines::folder::stamp::Stamp;
use crate::pipelines::pipeline::{Pipeline, Settings};
use crate::weights::Part;
use ipc_protocol::ids::Device;
use pocket::Pocket;
use sd3::files::Sd3Files;
use std::path::{Path, PathBuf};

const TRANSFORMER: &str = "flux1-schnell.safetensors";
const SD35: &str = "sd3.5_large_turbo.safetensors";

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// Inside this program.
    Embedded(Pocket),
    /// A folder of weight files, told apart by looking.
    Folder {
        /// The folder.
        path: PathBuf,
        /// The family, where the setting names one.
        family: Option<Family>,
    },
    /// No weights: times and memory as told.
    Synthetic {
        /// Milliseconds of a step.
        step_ms: u32,
        /// Milliseconds of loading.
        load_ms: u32,
        /// MiB of memory really touched.
        weights_mb: u32,
    },
}

/// Loads a model with the default settings. `progress` hears fractions from 0 to 1.
///
/// # Errors
/// As [`load_with`].
pub fn load(
    source: &ModelSource,
    device: Device,
    progress: &mut dyn FnMut(f32),
) -> Result<Box<dyn Pipeline>, Fault> {
    load_with(source, device, Settings::default(), progress)
}

/// Loads a model. `progress` hears fractions from 0 to 1.
///
/// # Errors
/// Missing or corrupt files, a configuration that disagrees with the tensors, exhausted memory.
pub fn load_with(
    source: &ModelSource,
    device: Device,
    settings: Settings,
    progress: &mut dyn FnMut(f32),
) -> Result<Box<dyn Pipeline>, Fault> {
    load_known(source, "", device, settings, progress)
}

/// Loads a model whose files were looked at before, when they were `known` (empty: not looked at).
///
/// # Errors
/// As [`load_with`], and [`Fault::WeightsCorrupt`] for files that have changed since or change meanwhile.
pub fn load_known(
    source: &ModelSource,
    known: &str,
    device: Device,
    settings: Settings,
    progress: &mut dyn FnMut(f32),
) -> Result<Box<dyn Pipeline>, Fault> {
    let loaded: Box<dyn Pipeline> = match source {
        ModelSource::Embedded(model) => {
            model.verify()?;
            match model {
                Pocket::Flux => flux_model(pocket::flux()?, device, settings, progress)?,
                Pocket::Sd3 => sd3_model(pocket::sd3()?, device, settings, progress)?,
            }
        }
        ModelSource::Folder { path, family } => {
            let (loaded, stamp) = match recognised(path, *family)? {
                Family::Flux => {
                    let files = flux::files::FluxFiles::open(path)?;
                    let stamp = Stamp::of_folder(&search::folder_of(path), &files.weights());
                    stamp.expect(path, known)?;
                    (flux_model(files, device, settings, progress)?, stamp)
                }
                Family::Sd35 => {
                    let files = Sd3Files::open(path)?;
                    let stamp = Stamp::of_folder(&search::folder_of(path), &files.weights());
                    stamp.expect(path, known)?;
                    (sd3_model(files, device, settings, progress)?, stamp)
                }
                Family::Synthetic => {
                    let file = path.display().to_string();
                    let what = "has no weights, so a folder cannot hold one";
                    return Err(Fault::configuration(file, "synthetic", what));
                }
            };
            stamp.expect_unchanged()?;
            loaded
        }
        ModelSource::Synthetic {
            step_ms,
            load_ms,
            weights_mb,
        } => Box::new(synthetic::Synthetic::load(
            *step_ms,
            *load_ms,
            *weights_mb,
            progress,
        )),
    };
    progress(1.0);
    Ok(loaded)
}

fn flux_model(
    files: flux::files::FluxFiles,
    device: Device,
    settings: Settings,
    progress: &mut dyn FnMut(f32),
) -> Result<Box<dyn Pipeline>, Fault> {
    let device = device::open(device)?;
    let flux = flux::Flux::load(files, &device, settings, progress);
    Ok(Box::new(flux.map_err(Fault::while_loading)?))
}

fn sd3_model(
    files: Sd3Files,
    device: Device,
    settings: Settings,
    progress: &mut dyn FnMut(f32),
) -> Result<Box<dyn Pipeline>, Fault> {
    let device = device::open(device)?;
    let sd3 = sd3::Sd3::load(files, &device, settings, progress);
    Ok(Box::new(sd3.map_err(Fault::while_loading)?))
}

/// The family of a folder, or of the transformer's file in it: the one that was named, else that of the
/// transformer that is there.
///
/// # Errors
/// [`Fault::WeightsMissing`] when there is none, [`Fault::Configuration`] when there are two of different
/// families, and the faults of looking into files for one.
pub fn recognised(path: &Path, named: Option<Family>) -> Result<Family, Fault> {
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

fn missing(folder: &Path, what: String) -> Fault {
    Fault::WeightsMissing {
        file: folder.display().to_string(),
        what,
    }
}
