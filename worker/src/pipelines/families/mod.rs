//! The table of families, and loading models of any family.

pub mod flux;
pub mod sd3;
pub mod synthetic;

use crate::device;
use crate::fault::WorkerFault;
use crate::pipelines::architecture::Architecture;
use crate::pipelines::cuda_need::CudaAlternative;
use crate::pipelines::drawing;
use crate::pipelines::embedded::EmbeddedModel;
use crate::pipelines::files::ModelFiles;
use crate::pipelines::folder::configuration::Described;
use crate::pipelines::folder::search::{self, FolderLayout, FolderSearch, MODEL_INDEX};
use crate::pipelines::folder::stamp::Stamp;
use crate::pipelines::model::{LoadedModel, check_files};
use crate::pipelines::need::{MemoryNeed, NeedBasis};
use crate::pipelines::pipeline::{ComputeSettings, Pipeline};
use crate::pipelines::text::PromptTokenizers;
use crate::weights::Weights;
use ipc_protocol::about::{Group, GuidanceRange, ModelRights};
use ipc_protocol::arithmetic::Arithmetic;
use ipc_protocol::family::{self, Family};
use ipc_protocol::ids::Device;
use ipc_protocol::latents::LatentShape;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// All families with files, in the order of `ipc_protocol::family`. A new family adds one line.
pub static TABLE: &[&dyn ModelFamily] = &[
    &FamilyRow::<flux::Flux>::with(&flux::POCKET),
    &FamilyRow::<sd3::Sd3>::with(&sd3::POCKET),
];

/// A family of models: recognises and opens its folders, and loads its models.
pub trait ModelFamily: Sync {
    /// The names of its files.
    fn layout(&self) -> &'static FolderLayout;

    /// Opens the files of a model. `all` are the layouts of all families.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsMissing`], [`WorkerFault::WeightsCorrupt`] or [`WorkerFault::Configuration`] with the file.
    fn open(
        &self,
        path: &Path,
        all: &[&'static FolderLayout],
    ) -> Result<Box<dyn FamilyFiles>, WorkerFault>;

    /// The embedded model, if there is one.
    fn embedded(&self) -> Option<&'static EmbeddedModel> {
        None
    }

    /// Opens the files of the embedded model.
    ///
    /// # Errors
    /// As for a folder, if this program was built from damaged files.
    fn open_embedded(&self, model: &EmbeddedModel) -> Result<Box<dyn FamilyFiles>, WorkerFault> {
        let what = "its family has no embedded model";
        Err(WorkerFault::configuration(model.key, "key", what))
    }

    /// The facts of the published model without its files, if there is one.
    ///
    /// # Errors
    /// Never, because its sizes are valid.
    fn published(&self) -> Result<Option<(Description, NeedBasis)>, WorkerFault> {
        Ok(None)
    }
}

/// The opened files of one model of any family.
pub trait FamilyFiles {
    /// The weights of all parts, in the order of the digest.
    fn weights(&self) -> Vec<&Weights>;

    /// Finds the faults that loading the files would find, without reading their values.
    ///
    /// # Errors
    /// As [`FamilyFiles::load`].
    fn check(&self) -> Result<(), WorkerFault>;

    /// The description of the model.
    fn describe(&self) -> Description;

    /// The memory need. `embedded` is the number of bytes of weight files in the program itself.
    fn need(&self, embedded: u64, settings: ComputeSettings) -> MemoryNeed;

    /// The memory need on a CUDA device for each way of placing the model, the preferred one first; empty if the
    /// family runs on a CPU only.
    fn on_cuda(&self, _embedded: u64, _wished: Arithmetic) -> Vec<CudaAlternative> {
        Vec::new()
    }

    /// The tokenizers, if the family has T5 and CLIPs.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsCorrupt`] for a damaged tokenizer.
    fn tokenizers(&self) -> Result<Option<PromptTokenizers>, WorkerFault> {
        Ok(None)
    }

    /// Loads the model.
    ///
    /// # Errors
    /// [`WorkerFault::Configuration`] for a tensor that is missing, unread or of another shape; faults of the device.
    fn load(
        self: Box<Self>,
        device: &candle_core::Device,
        settings: ComputeSettings,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Box<dyn Pipeline>, WorkerFault>;
}

/// The description of a model: limits, latents, and facts from its files. Sides are in pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Family of the model.
    pub family: Family,
    /// Default side.
    pub default_side: u32,
    /// Shortest side.
    pub min_side: u32,
    /// Longest side.
    pub max_side: u32,
    /// Both sides must be multiples of this.
    pub size_multiple: u32,
    /// Default number of steps.
    pub default_steps: u32,
    /// Largest number of steps.
    pub max_steps: u32,
    /// Shape of the latents.
    pub latents: LatentShape,
    /// The supported guidance, if any.
    pub guidance: Option<GuidanceRange>,
    /// The choice of noise levels, for receipts.
    pub sampler: &'static str,
    /// Groups of things that it can draw, if its files list them.
    pub draws: Vec<Group>,
    /// Licence and attribution, if its files state them.
    pub rights: ModelRights,
}

/// The table row of a family that implements [`Architecture`].
struct FamilyRow<A> {
    pocket: &'static EmbeddedModel,
    architecture: PhantomData<fn() -> A>,
}

impl<A> FamilyRow<A> {
    const fn with(pocket: &'static EmbeddedModel) -> FamilyRow<A> {
        FamilyRow {
            pocket,
            architecture: PhantomData,
        }
    }
}

impl<A: Architecture> ModelFamily for FamilyRow<A> {
    fn layout(&self) -> &'static FolderLayout {
        A::LAYOUT
    }

    fn open(
        &self,
        path: &Path,
        all: &[&'static FolderLayout],
    ) -> Result<Box<dyn FamilyFiles>, WorkerFault> {
        Ok(Box::new(ModelFiles::<A>::open(path, all)?))
    }

    fn embedded(&self) -> Option<&'static EmbeddedModel> {
        Some(self.pocket)
    }

    fn open_embedded(&self, model: &EmbeddedModel) -> Result<Box<dyn FamilyFiles>, WorkerFault> {
        Ok(Box::new(ModelFiles::<A>::embedded(model)?))
    }

    fn published(&self) -> Result<Option<(Description, NeedBasis)>, WorkerFault> {
        let published = A::published();
        let basis = NeedBasis::of_sizes::<A>(&published.sizes)?;
        Ok(Some((describe::<A>(&published), basis)))
    }
}

fn describe<A: Architecture>(described: &Described<A::Sizes>) -> Description {
    let limits = A::limits(described);
    let latents = described.sizes.decoder.latent_shape();
    Description {
        family: A::LAYOUT.family,
        default_side: limits.default_side,
        min_side: limits.min_side,
        max_side: limits.max_side,
        size_multiple: drawing::size_multiple(latents),
        default_steps: described.steps,
        max_steps: limits.max_steps,
        latents,
        guidance: A::GUIDANCE,
        sampler: A::SAMPLER,
        draws: described.lexicon.groups.clone(),
        rights: described.rights.clone(),
    }
}

impl<A: Architecture> FamilyFiles for ModelFiles<A> {
    fn weights(&self) -> Vec<&Weights> {
        self.weights()
    }

    fn check(&self) -> Result<(), WorkerFault> {
        check_files(self)
    }

    fn describe(&self) -> Description {
        describe::<A>(&self.described)
    }

    fn need(&self, embedded: u64, settings: ComputeSettings) -> MemoryNeed {
        NeedBasis::of_files(self).need(embedded, settings)
    }

    fn on_cuda(&self, embedded: u64, wished: Arithmetic) -> Vec<CudaAlternative> {
        NeedBasis::of_files(self).on_cuda(embedded, wished)
    }

    fn tokenizers(&self) -> Result<Option<PromptTokenizers>, WorkerFault> {
        PromptTokenizers::load(&self.tokenizers, &self.described.sizes.encoders).map(Some)
    }

    fn load(
        self: Box<Self>,
        device: &candle_core::Device,
        settings: ComputeSettings,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Box<dyn Pipeline>, WorkerFault> {
        Ok(Box::new(LoadedModel::load(
            *self, device, settings, progress,
        )?))
    }
}

/// The origin of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelOrigin {
    /// Embedded in this program.
    Embedded(&'static EmbeddedModel),
    /// A folder of weight files.
    Folder {
        /// Path of the folder, or of the transformer's file in it.
        path: PathBuf,
        /// The family, if the settings name one.
        family: Option<Family>,
    },
    /// No weights, for tests and measurements.
    Synthetic {
        /// Milliseconds of a step.
        step_ms: u32,
        /// Milliseconds of loading.
        load_ms: u32,
        /// MiB of memory to allocate and write to.
        weights_mb: u32,
    },
}

/// The embedded models.
pub fn embedded() -> impl Iterator<Item = &'static EmbeddedModel> {
    TABLE.iter().filter_map(|family| family.embedded())
}

/// Finds an embedded model by its registry key.
pub fn embedded_with_key(key: &str) -> Option<&'static EmbeddedModel> {
    embedded().find(|model| model.key == key)
}

/// Finds a family by its name.
///
/// # Errors
/// [`WorkerFault::Configuration`] for a name that is not in the table.
pub fn named(word: &str) -> Result<Family, WorkerFault> {
    let known = || format!("is not one of {}", family::WORDS.join(", "));
    Family::named(word).ok_or_else(|| WorkerFault::configuration(word, "family", known()))
}

/// The layouts of all families of a table.
fn layouts(table: &[&dyn ModelFamily]) -> Vec<&'static FolderLayout> {
    table.iter().map(|family| family.layout()).collect()
}

/// Opens the files of a model of one architecture, for tests of its parts.
///
/// # Errors
/// As [`ModelFiles::open`].
pub fn files<A: Architecture>(path: &Path) -> Result<ModelFiles<A>, WorkerFault> {
    ModelFiles::open(path, &layouts(TABLE))
}

/// Makes a search for the parts of one family's model in a folder.
pub fn search(path: &Path, layout: &'static FolderLayout) -> FolderSearch {
    FolderSearch::new(path, layout, &layouts(TABLE))
}

/// Opens a folder, or the transformer's file in it, as a model of the named family, else of the family whose
/// transformer it contains.
///
/// # Errors
/// As [`recognised`] and [`ModelFamily::open`].
pub fn open(
    table: &[&dyn ModelFamily],
    path: &Path,
    named: Option<Family>,
) -> Result<Box<dyn FamilyFiles>, WorkerFault> {
    let family = recognised(table, path, named)?;
    family.open(path, &layouts(table))
}

/// Loads a model with the default settings. `progress` is called with fractions from 0 to 1.
///
/// # Errors
/// As [`load_with`].
pub fn load(
    source: &ModelOrigin,
    device: Device,
    progress: &mut dyn FnMut(f32),
) -> Result<Box<dyn Pipeline>, WorkerFault> {
    load_with(source, device, ComputeSettings::default(), progress)
}

/// Loads a model. `progress` is called with fractions from 0 to 1.
///
/// # Errors
/// Missing or corrupt files, a configuration that does not match the tensors, exhausted memory.
pub fn load_with(
    source: &ModelOrigin,
    device: Device,
    settings: ComputeSettings,
    progress: &mut dyn FnMut(f32),
) -> Result<Box<dyn Pipeline>, WorkerFault> {
    load_known(source, "", device, settings, progress)
}

/// Loads a model if its files still have the stamp `known` of an earlier inspection (empty if there was none).
///
/// # Errors
/// As [`load_with`]; [`WorkerFault::WeightsCorrupt`] for files that have changed since or change during the load.
pub fn load_known(
    source: &ModelOrigin,
    known: &str,
    device: Device,
    settings: ComputeSettings,
    progress: &mut dyn FnMut(f32),
) -> Result<Box<dyn Pipeline>, WorkerFault> {
    let loaded: Box<dyn Pipeline> = match source {
        ModelOrigin::Embedded(model) => {
            model.verify()?;
            load_files(open_embedded(model)?, device, settings, progress)?
        }
        ModelOrigin::Folder { path, family } => {
            let files = open(TABLE, path, *family)?;
            let stamp = Stamp::of_folder(&search::folder_of(path), &files.weights());
            stamp.expect(path, known)?;
            let loaded = load_files(files, device, settings, progress)?;
            stamp.expect_unchanged()?;
            loaded
        }
        ModelOrigin::Synthetic {
            step_ms,
            load_ms,
            weights_mb,
        } => Box::new(synthetic::SyntheticModel::load(
            *step_ms,
            *load_ms,
            *weights_mb,
            progress,
        )),
    };
    progress(1.0);
    Ok(loaded)
}

fn load_files(
    files: Box<dyn FamilyFiles>,
    device: Device,
    settings: ComputeSettings,
    progress: &mut dyn FnMut(f32),
) -> Result<Box<dyn Pipeline>, WorkerFault> {
    let device = device::open(device)?;
    let loaded = files.load(&device, settings, progress);
    loaded.map_err(WorkerFault::while_loading)
}

/// Opens the files of an embedded model.
///
/// # Errors
/// As [`ModelFamily::open_embedded`].
pub fn open_embedded(model: &EmbeddedModel) -> Result<Box<dyn FamilyFiles>, WorkerFault> {
    let families = TABLE.iter();
    let mut owner = families.filter(|family| family.layout().family == model.family);
    let unknown = || WorkerFault::configuration(model.key, "key", "no family draws it");
    owner.next().ok_or_else(unknown)?.open_embedded(model)
}

/// Recognises the family of a folder, or of the transformer's file in it: the named one, else that of the
/// transformer it contains.
///
/// # Errors
/// [`WorkerFault::WeightsMissing`] if there is no transformer; [`WorkerFault::Configuration`] if there are two of
/// different families, or if the named family has no files; faults of opening files.
pub fn recognised<'t>(
    table: &[&'t dyn ModelFamily],
    path: &Path,
    named: Option<Family>,
) -> Result<&'t dyn ModelFamily, WorkerFault> {
    if let Some(named) = named {
        let found = table.iter().find(|family| family.layout().family == named);
        return found.copied().ok_or_else(|| {
            let what = "has no weights, so a folder cannot contain a model of it";
            WorkerFault::configuration(path.display().to_string(), named.word(), what)
        });
    }
    let published = |family: &&&dyn ModelFamily| {
        let mut names = family.layout().transformer_names().iter();
        names.any(|name| path.join(name).is_file())
    };
    if let Some(family) = table.iter().find(published) {
        return Ok(*family);
    }
    if !path.exists() {
        return Err(missing(path, "no such folder".to_owned()));
    }
    let all = layouts(table);
    let mut found: Vec<(&dyn ModelFamily, PathBuf)> = Vec::new();
    for family in table {
        let layout = family.layout();
        let search = FolderSearch::new(path, layout, &all);
        let holder = search.holds(layout.transformer)?;
        found.extend(holder.map(|holder| (*family, holder)));
    }
    match found.as_slice() {
        [] => Err(no_transformer(path, &all)),
        [(family, _)] => Ok(*family),
        several => Err(of_several(path, several)),
    }
}

fn of_several(path: &Path, found: &[(&dyn ModelFamily, PathBuf)]) -> WorkerFault {
    let place = |(family, holder): &(&dyn ModelFamily, PathBuf)| {
        format!("{}'s in {}", family.layout().title, holder.display())
    };
    let places: Vec<String> = found.iter().map(place).collect();
    let word =
        |(family, _): &(&dyn ModelFamily, PathBuf)| format!("\"{}\"", family.layout().family);
    let words: Vec<String> = found.iter().map(word).collect();
    let what = format!(
        "is {}: set family = {} in the model's section, or path to the file to use",
        places.join(" and "),
        words.join(" or ")
    );
    WorkerFault::configuration(path.display().to_string(), "transformer", what)
}

/// The fault for a missing transformer: that of an unreadable file, else the expected names.
fn no_transformer(path: &Path, all: &[&'static FolderLayout]) -> WorkerFault {
    let names = all.iter().flat_map(|layout| layout.transformer_names());
    let names: Vec<&str> = names.copied().collect();
    let names = names.join(", ");
    let absent = || {
        let what = format!(
            "neither {names}, {MODEL_INDEX} nor another file with a transformer is in this folder"
        );
        missing(path, what)
    };
    let Some(first) = all.first() else {
        return absent();
    };
    let near = FolderSearch::new(path, first, all).near_transformer();
    near.unwrap_or_else(absent)
}

fn missing(folder: &Path, what: String) -> WorkerFault {
    WorkerFault::WeightsMissing {
        file: folder.display().to_string(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_all_families_of_the_protocol_with_files() {
        let ours = TABLE.iter().map(|family| family.layout().family);
        let theirs = Family::all().filter(|family| *family != Family::SYNTHETIC);
        assert!(ours.eq(theirs));
    }

    #[test]
    fn the_embedded_weights_match_their_digests() {
        for model in embedded() {
            assert_eq!(model.verify().expect("good files").len(), 4);
        }
    }
}
