//! Manifests: the facts about models that the supervisor needs, as JSON.

use crate::fault::WorkerFault;
use crate::pipelines::ComputeSettings;
use crate::pipelines::cuda_need::CudaAlternative;
use crate::pipelines::embedded::EmbeddedModel;
use crate::pipelines::families::{self, Description, synthetic};
use crate::pipelines::folder::search;
use crate::pipelines::folder::stamp::Stamp;
use crate::pipelines::need::{ActivationMemory, MemoryNeed};
use crate::weights::{Mark, WeightFile, Weights, digest};
use ipc_protocol::about::{Group, GuidanceRange, ModelRights};
use ipc_protocol::arithmetic::{Arithmetic, Dtype, Encoders};
use ipc_protocol::family::Family;
use ipc_protocol::ids::Device;
use ipc_protocol::latents::LatentShape;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;

/// The facts of one model. Sizes are in pixels, memory is in whole MiB, rounded up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelManifest {
    /// Registry key; empty for a folder, which gets its key from the settings.
    pub key: String,
    /// Family of the model.
    pub family: Family,
    /// Digest of the model; empty if computing it would take minutes.
    pub digest: String,
    /// Default width and height.
    pub default_size: [u32; 2],
    /// Shortest side.
    pub min_size: u32,
    /// Longest side.
    pub max_size: u32,
    /// Both sides must be multiples of this.
    pub size_multiple: u32,
    /// Default number of steps.
    pub default_steps: u32,
    /// Largest number of steps.
    pub max_steps: u32,
    /// Memory of a worker with the loaded model and without a job.
    pub residency_mb: u64,
    /// Memory that a job adds, by picture size.
    pub activation: ActivationMemory,
    /// Memory that a job adds at the default size.
    pub activation_mb: u64,
    /// The need on a CUDA device for each way of placing the model, the preferred one first.
    pub on_cuda: Vec<CudaAlternative>,
    /// Memory that each thread after the second adds to a job: tiles of a convolution, heap.
    pub per_thread_mb: u64,
    /// Shape of the latents.
    pub latents: LatentShape,
    /// The supported guidance, if any.
    pub guidance: Option<GuidanceRange>,
    /// The choice of sigmas, for receipts.
    pub sampler: &'static str,
    /// Groups of things that it can draw, if its files list them.
    pub draws: Vec<Group>,
    /// Licence and attribution, if its files state them.
    pub rights: ModelRights,
    /// Stamp of the folder's files during the inspection.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stamp: String,
    /// Marks of the files and folders in the stamp.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
}

/// The effort for the digest of large files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digested {
    /// Compute it only if that takes seconds.
    Quickly,
    /// Always compute it.
    Always,
}

/// Returns the manifests of all embedded models as a JSON array.
///
/// # Errors
/// Faults of the embedded files.
pub fn all_as_json() -> Result<String, WorkerFault> {
    let mut all = families::embedded()
        .map(embedded)
        .collect::<Result<Vec<_>, WorkerFault>>()?;
    all.push(synthetic());
    serde_json::to_string_pretty(&all).map_err(|error| WorkerFault::Compute(error.to_string()))
}

/// Returns the manifest of a folder as JSON, for a model with the `wished` arithmetic.
///
/// # Errors
/// As [`of_folder`].
pub fn folder_as_json(
    path: &Path,
    family: Option<&str>,
    wished: Arithmetic,
    digested: Digested,
) -> Result<String, WorkerFault> {
    let family = family.map(families::named).transpose()?;
    let manifest = of_folder_digested(path, family, wished, digested)?;
    serde_json::to_string(&manifest).map_err(|error| WorkerFault::Compute(error.to_string()))
}

/// The facts of a published model without its files, for one combination of settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PublishedManifest {
    /// Dtype: f32, bf16, f16 or auto.
    pub dtype: &'static str,
    /// Placement of the text encoders: keep, drop or cpu.
    pub encoders: &'static str,
    /// The manifest of a folder with its files, for these settings.
    #[serde(flatten)]
    pub manifest: ModelManifest,
}

/// Lists the published models, each with every possible combination of settings.
///
/// # Errors
/// Never, because their sizes are valid.
pub fn all_published() -> Result<Vec<PublishedManifest>, WorkerFault> {
    let published = families::TABLE.iter().map(|family| family.published());
    let published: Vec<_> = published.collect::<Result<Vec<_>, WorkerFault>>()?;
    let mut all = Vec::new();
    for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16, Dtype::Auto] {
        for encoders in [Encoders::Keep, Encoders::Drop, Encoders::Cpu] {
            let wished = Arithmetic { dtype, encoders };
            let settings = ComputeSettings::on(Device::Host, wished);
            let models = published.iter().flatten();
            all.extend(models.map(|(description, basis)| {
                let needs = (basis.need(0, settings), basis.on_cuda(0, wished));
                PublishedManifest {
                    dtype: dtype.word(),
                    encoders: encoders.word(),
                    manifest: of_model(description.clone(), String::new(), needs),
                }
            }));
        }
    }
    Ok(all)
}

/// Returns [`all_published`] as a JSON array with one entry per line.
///
/// # Errors
/// As [`all_published`].
pub fn published_as_json() -> Result<String, WorkerFault> {
    let lines = all_published()?.into_iter().map(|one| {
        let line = serde_json::to_string(&one);
        line.map_err(|error| WorkerFault::Compute(error.to_string()))
    });
    let lines: Vec<String> = lines.collect::<Result<_, _>>()?;
    Ok(format!("[\n{}\n]", lines.join(",\n")))
}

/// Makes the manifest of an embedded model.
///
/// # Errors
/// Faults of the embedded files.
pub fn embedded(model: &EmbeddedModel) -> Result<ModelManifest, WorkerFault> {
    let files = families::open_embedded(model)?;
    let embedded = model.weight_bytes();
    let on_host = files.need(embedded, ComputeSettings::default());
    let largest = Arithmetic {
        dtype: Dtype::F32,
        ..Arithmetic::default()
    };
    let on_cuda = files.on_cuda(embedded, largest);
    let digest = digest_of(&files.weights(), Digested::Always);
    Ok(ModelManifest {
        key: model.key.to_owned(),
        ..of_model(files.describe(), digest, (on_host, on_cuda))
    })
}

/// Makes the manifest of a folder, for a model with the `wished` arithmetic. Fails for everything that would fail on loading.
/// Computes the digest of weights below 1 GiB.
///
/// # Errors
/// As opening a model; [`WorkerFault::Configuration`] for a family that is not built yet.
pub fn of_folder(
    path: &Path,
    family: Option<Family>,
    wished: Arithmetic,
) -> Result<ModelManifest, WorkerFault> {
    of_folder_digested(path, family, wished, Digested::Quickly)
}

/// Like [`of_folder`], with the digest as `digested` says.
///
/// # Errors
/// As [`of_folder`]; [`WorkerFault::WeightsCorrupt`] for files that change during the call.
pub fn of_folder_digested(
    path: &Path,
    family: Option<Family>,
    wished: Arithmetic,
    digested: Digested,
) -> Result<ModelManifest, WorkerFault> {
    let files = families::open(families::TABLE, path, family)?;
    files.check()?;
    let stamp = Stamp::of_folder(&search::folder_of(path), &files.weights());
    let on_host = files.need(0, ComputeSettings::on(Device::Host, wished));
    let on_cuda = files.on_cuda(0, wished);
    let digest = digest_of(&files.weights(), digested);
    let manifest = of_model(files.describe(), digest, (on_host, on_cuda));
    // If bytes changed while they were read, the digest is not that of any file.
    stamp.expect_unchanged()?;
    Ok(ModelManifest {
        stamp: stamp.text(),
        marks: stamp.marks.into_iter().collect(),
        ..manifest
    })
}

/// The manifest of the family without weights, for `weights_mb` 0.
pub fn synthetic() -> ModelManifest {
    let activation = ActivationMemory {
        base_mb: 2,
        per_megapixel_mb: 16,
        per_megapixel_squared_mb: 0,
        least_mb: 0,
    };
    ModelManifest {
        key: Family::SYNTHETIC.word().to_owned(),
        family: Family::SYNTHETIC,
        digest: Family::SYNTHETIC.word().to_owned(),
        default_size: [256, 256],
        min_size: 64,
        max_size: 1024,
        size_multiple: synthetic::SIZE_MULTIPLE,
        default_steps: 4,
        max_steps: 1000,
        residency_mb: 12,
        activation,
        activation_mb: activation.at(256, 256),
        on_cuda: Vec::new(),
        per_thread_mb: 0,
        latents: synthetic::LATENTS,
        guidance: None,
        sampler: Family::SYNTHETIC.word(),
        draws: Vec::new(),
        rights: ModelRights::default(),
        stamp: String::new(),
        marks: Vec::new(),
    }
}

fn of_model(
    of: Description,
    digest: String,
    (need, on_cuda): (MemoryNeed, Vec<CudaAlternative>),
) -> ModelManifest {
    let side = of.default_side;
    ModelManifest {
        key: String::new(),
        family: of.family,
        digest,
        default_size: [side, side],
        min_size: of.min_side,
        max_size: of.max_side,
        size_multiple: of.size_multiple,
        default_steps: of.default_steps,
        max_steps: of.max_steps,
        residency_mb: need.residency_mb,
        activation: need.activation,
        activation_mb: need.activation.at(side, side),
        on_cuda,
        per_thread_mb: need.per_thread_mb,
        latents: of.latents,
        guidance: of.guidance,
        sampler: of.sampler,
        draws: of.draws,
        rights: of.rights,
        stamp: String::new(),
        marks: Vec::new(),
    }
}

/// Computes the digest of the files; empty if they are so large that it would take minutes.
fn digest_of(files: &[&Weights], digested: Digested) -> String {
    const DIGESTED_BYTES_MAX: usize = 1 << 30;
    let mut parts: Vec<&Arc<WeightFile>> = Vec::new();
    for file in files.iter().flat_map(|part| part.files()) {
        // A file with several parts counts once.
        if !parts.iter().any(|known| Arc::ptr_eq(known, file)) {
            parts.push(file);
        }
    }
    let bytes: usize = parts.iter().map(|file| file.bytes().len()).sum();
    if digested == Digested::Quickly && bytes >= DIGESTED_BYTES_MAX {
        return String::new();
    }
    let digests = parts.iter().map(|file| digest::of_bytes(file.bytes()));
    digest::of_model(digests.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipelines::families::flux;

    #[test]
    fn the_pocket_model_has_the_documented_facts() {
        let found = embedded(&flux::POCKET).expect("the embedded files");
        assert_eq!(
            (found.default_size, found.min_size, found.max_size),
            ([128, 128], 64, 256)
        );
        assert_eq!(
            (found.size_multiple, found.default_steps, found.max_steps),
            (16, 4, 64)
        );
        assert_eq!(found.digest.len(), 64);
        assert!(found.residency_mb > 0 && found.activation_mb > 0);
    }

    #[test]
    fn a_copy_of_the_embedded_folder_has_the_same_digest() {
        let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        for model in families::embedded() {
            let folder = assets.join(model.key);
            let copy = of_folder(&folder, None, Arithmetic::default());
            let copy = copy.expect("the asset folder is a model");
            let embedded = embedded(model).expect("the embedded files");
            let residency_mb = copy.residency_mb; // differs, because the embedded weights are pages of the program
            let key = String::new();
            let on_cuda = copy.on_cuda.clone(); // likewise
            let (stamp, marks) = (copy.stamp.clone(), copy.marks.clone());
            assert!(!stamp.is_empty() && !marks.is_empty());
            let alike = ModelManifest {
                key,
                residency_mb,
                on_cuda,
                stamp,
                marks,
                ..embedded
            };
            assert_eq!(alike, copy);
        }
    }
}
