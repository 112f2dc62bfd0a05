//! The table of families, and what each does with its files.

pub mod flux;
pub mod sd3;
pub mod synthetic;

use crate::device;
use crate::fault::WorkerFault;
use crate::pipelines::architecture::Architecture;
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
use ipc_protocol::family::{self, Family};
use ipc_protocol::ids::Device;
use ipc_protocol::latents::LatentShape;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// Every family with files, in the order of `ipc_protocol::family`. A new family adds one line.
pub static TABLE: &[&dyn ModelFamily] = &[
    &FamilyRow::<flux::Flux>::with(&flux::POCKET),
    &FamilyRow::<sd3::Sd3>::with(&sd3::POCKET),
];

/// A family of models: how its folders are recognised, opened and counted.
pub trait ModelFamily: Sync {
    /// How people keep its files.
    fn layout(&self) -> &'static FolderLayout;

    /// Opens the files of a model; `all` are the layouts of all families.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsMissing`], [`WorkerFault::WeightsCorrupt`], [`WorkerFault::Configuration`], each naming its file.
    fn open(
        &self,
        path: &Path,
        all: &[&'static FolderLayout],
    ) -> Result<Box<dyn FamilyFiles>, WorkerFault>;

    /// Its model inside this program, where there is one.
    fn embedded(&self) -> Option<&'static EmbeddedModel> {
        None
    }

    /// Opens the files of its embedded model.
    ///
    /// # Errors
    /// As those of a folder; this program was built from damaged files then.
    fn open_embedded(&self, model: &EmbeddedModel) -> Result<Box<dyn FamilyFiles>, WorkerFault> {
        let what = "its family has no embedded model";
        Err(WorkerFault::configuration(model.key, "key", what))
    }

    /// The published model without its files, where there is one.
    ///
    /// # Errors
    /// None that can be met: its sizes are known to fit.
    fn published(&self) -> Result<Option<(Description, NeedBasis)>, WorkerFault> {
        Ok(None)
    }
}

/// The opened files of one model of a family.
pub trait FamilyFiles {
    /// The weight files, in the order in which a digest runs over them.
    fn weights(&self) -> Vec<&Weights>;

    /// Refuses files that would be refused while they load, without reading their values.
    ///
    /// # Errors
    /// As [`FamilyFiles::load`].
    fn check(&self) -> Result<(), WorkerFault>;

    /// What the model draws, and what its files say of it.
    fn describe(&self) -> Description;

    /// What it takes of memory; `embedded` bytes of its weight files are the program's own pages.
    fn need(&self, embedded: u64, settings: ComputeSettings) -> MemoryNeed;

    /// Its tokenizers, where it has T5 and CLIPs.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsCorrupt`] for a damaged one.
    fn tokenizers(&self) -> Result<Option<PromptTokenizers>, WorkerFault> {
        Ok(None)
    }

    /// Loads the model.
    ///
    /// # Errors
    /// [`WorkerFault::Configuration`] for a tensor that is absent, left over or of another shape; the device's faults.
    fn load(
        self: Box<Self>,
        device: &candle_core::Device,
        settings: ComputeSettings,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Box<dyn Pipeline>, WorkerFault>;
}

/// What a model draws, and what its files say of it. Sides in pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// The family that draws it.
    pub family: Family,
    /// Side where a request names no size.
    pub default_side: u32,
    /// Shortest side.
    pub min_side: u32,
    /// Longest side.
    pub max_side: u32,
    /// Both sides are multiples of it.
    pub size_multiple: u32,
    /// Steps where a request names none.
    pub default_steps: u32,
    /// Most steps.
    pub max_steps: u32,
    /// Shape of its latents.
    pub latents: LatentShape,
    /// Guidance that it can follow, where it was trained with any.
    pub guidance: Option<GuidanceRange>,
    /// How its noise levels are chosen, for receipts.
    pub sampler: &'static str,
    /// What it can draw, by group, where its files say so.
    pub draws: Vec<Group>,
    /// Terms and thanks, where its files say so.
    pub rights: ModelRights,
}

/// The row of a family with a transformer, text encoders and a decoder.
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

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelOrigin {
    /// Inside this program.
    Embedded(&'static EmbeddedModel),
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

/// The models inside this program.
pub fn embedded() -> impl Iterator<Item = &'static EmbeddedModel> {
    TABLE.iter().filter_map(|family| family.embedded())
}

/// The model inside this program with a registry key.
pub fn embedded_with_key(key: &str) -> Option<&'static EmbeddedModel> {
    embedded().find(|model| model.key == key)
}

/// The family with that word.
///
/// # Errors
/// [`WorkerFault::Configuration`] for a word that is not in the table.
pub fn named(word: &str) -> Result<Family, WorkerFault> {
    let known = || format!("is not one of {}", family::WORDS.join(", "));
    Family::named(word).ok_or_else(|| WorkerFault::configuration(word, "family", known()))
}

/// The layouts of all families of a table.
fn layouts(table: &[&dyn ModelFamily]) -> Vec<&'static FolderLayout> {
    table.iter().map(|family| family.layout()).collect()
}

/// The files of a model of one architecture, for checks of its parts.
///
/// # Errors
/// As [`ModelFiles::open`].
pub fn files<A: Architecture>(path: &Path) -> Result<ModelFiles<A>, WorkerFault> {
    ModelFiles::open(path, &layouts(TABLE))
}

/// Looks for the parts of one family's model in a folder.
pub fn search(path: &Path, layout: &'static FolderLayout) -> FolderSearch {
    FolderSearch::new(path, layout, &layouts(TABLE))
}

/// Opens a folder, or the transformer's file in it, as a model of the named family, else of the family whose
/// transformer is there.
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

/// Loads a model with the default settings. `progress` hears fractions from 0 to 1.
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

/// Loads a model. `progress` hears fractions from 0 to 1.
///
/// # Errors
/// Missing or corrupt files, a configuration that disagrees with the tensors, exhausted memory.
pub fn load_with(
    source: &ModelOrigin,
    device: Device,
    settings: ComputeSettings,
    progress: &mut dyn FnMut(f32),
) -> Result<Box<dyn Pipeline>, WorkerFault> {
    load_known(source, "", device, settings, progress)
}

/// Loads a model whose files were looked at before, when they were `known` (empty: not looked at).
///
/// # Errors
/// As [`load_with`], and [`WorkerFault::WeightsCorrupt`] for files that have changed since or change meanwhile.
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

/// Opens the files of a model inside this program.
///
/// # Errors
/// As [`ModelFamily::open_embedded`].
pub fn open_embedded(model: &EmbeddedModel) -> Result<Box<dyn FamilyFiles>, WorkerFault> {
    let families = TABLE.iter();
    let mut owner = families.filter(|family| family.layout().family == model.family);
    let unknown = || WorkerFault::configuration(model.key, "key", "no family draws it");
    owner.next().ok_or_else(unknown)?.open_embedded(model)
}

/// The family of a folder, or of the transformer's file in it: the one that was named, else that of the
/// transformer that is there.
///
/// # Errors
/// [`WorkerFault::WeightsMissing`] when there is none, [`WorkerFault::Configuration`] when there are two of different
/// families or the named one has no files, and the faults of looking into files for one.
pub fn recognised<'t>(
    table: &[&'t dyn ModelFamily],
    path: &Path,
    named: Option<Family>,
) -> Result<&'t dyn ModelFamily, WorkerFault> {
    if let Some(named) = named {
        let found = table.iter().find(|family| family.layout().family == named);
        return found.copied().ok_or_else(|| {
            let what = "has no weights, so a folder cannot hold one";
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

/// Why there is no transformer: what came near, else the names that are looked for.
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
    fn the_table_has_the_families_of_the_protocol_that_have_files() {
        let ours = TABLE.iter().map(|family| family.layout().family);
        let theirs = Family::all().filter(|family| *family != Family::SYNTHETIC);
        assert!(ours.eq(theirs));
    }

    #[test]
    fn the_embedded_weights_are_those_of_the_lists() {
        for model in embedded() {
            assert_eq!(model.verify().expect("good files").len(), 4);
        }
    }
}
