//! Parses the manifests of models that the worker program prints.

use std::collections::BTreeMap;

use ipc_protocol::about::{Group, GuidanceRange, ModelRights};
use ipc_protocol::arithmetic::Arithmetic;
use ipc_protocol::family::Family;
use ipc_protocol::latents::LatentShape;
use ipc_protocol::mark::Mark;
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::{Activation, CudaNeed, SizeRule};
use serde::Deserialize;

use super::facts::FolderFacts;
use super::placement::CudaPlacement;

/// A manifest as `worker --manifest` and `worker --inspect` print it.
#[derive(Debug, Deserialize)]
struct PrintedManifest {
    key: String,
    family: Family,
    digest: String,
    default_size: [u32; 2],
    min_size: u32,
    max_size: u32,
    size_multiple: u32,
    default_steps: u32,
    max_steps: u32,
    residency_mb: u64,
    activation: Terms,
    on_cuda: Vec<PrintedPlacement>,
    per_thread_mb: u64,
    latents: LatentShape,
    guidance: Option<GuidanceRange>,
    sampler: String,
    draws: Vec<Group>,
    rights: ModelRights,
    #[serde(default)]
    stamp: String,
    #[serde(default)]
    marks: Vec<Mark>,
}

/// A way of placing the model on a CUDA device.
#[derive(Debug, Deserialize)]
struct PrintedPlacement {
    encoders: String,
    decoding: String,
    device_mb: u64,
    host_mb: u64,
    activation: Terms,
}

impl PrintedPlacement {
    fn placement(self) -> Result<CudaPlacement, String> {
        Ok(CudaPlacement {
            encoders: self.encoders.parse()?,
            decoding: self.decoding.parse()?,
            need: CudaNeed {
                host: Mebibytes(self.host_mb),
                device: Mebibytes(self.device_mb),
                activation: self.activation.activation(),
            },
        })
    }
}

#[derive(Debug, Deserialize)]
struct Terms {
    base_mb: u64,
    per_megapixel_mb: u64,
    per_megapixel_squared_mb: u64,
    least_mb: u64,
}

impl Terms {
    fn activation(&self) -> Activation {
        Activation {
            base: Mebibytes(self.base_mb),
            per_megapixel: Mebibytes(self.per_megapixel_mb),
            per_megapixel_squared: Mebibytes(self.per_megapixel_squared_mb),
            least: Mebibytes(self.least_mb),
        }
    }
}

/// Parses the manifest of one folder.
///
/// # Errors
/// The message: the text is not a manifest, or names an unknown family.
pub fn read_manifest(text: &str) -> Result<FolderFacts, String> {
    let manifest: PrintedManifest = serde_json::from_str(text)
        .map_err(|error| format!("invalid manifest from the worker program: {error}"))?;
    facts(manifest)
}

/// The output of `worker --manifest`, stored so that no process has to be started. A test compares the two.
pub const BUILT_IN: &str = include_str!("built-in.json");

/// The models inside the worker program, by key.
///
/// # Errors
/// As [`read_manifest`].
pub fn built_in() -> Result<BTreeMap<String, FolderFacts>, String> {
    let manifests: Vec<PrintedManifest> = serde_json::from_str(BUILT_IN)
        .map_err(|error| format!("invalid stored manifests: {error}"))?;
    manifests
        .into_iter()
        .map(|manifest| Ok((manifest.key.clone(), facts(manifest)?)))
        .collect()
}

/// A published model in one arithmetic, as `worker --published` prints it.
#[derive(Debug, Deserialize)]
struct PublishedManifest {
    dtype: String,
    encoders: String,
    #[serde(flatten)]
    manifest: PrintedManifest,
}

/// The output of `worker --published`, stored for models whose files are missing. A test compares the two.
pub const PUBLISHED: &str = include_str!("published.json");

/// Returns the properties of a family's published model in this arithmetic, without its files.
///
/// # Errors
/// The message: this build has no such model.
pub fn published(family: Family, arithmetic: Arithmetic) -> Result<FolderFacts, String> {
    let all: Vec<PublishedManifest> = serde_json::from_str(PUBLISHED)
        .map_err(|error| format!("invalid stored manifests: {error}"))?;
    let wanted = |one: &PublishedManifest| {
        one.manifest.family == family
            && one.dtype == arithmetic.dtype.word()
            && one.encoders == arithmetic.encoders.word()
    };
    let found = all.into_iter().find(wanted);
    facts(
        found
            .ok_or_else(|| format!("no published model of family {:?}", family.word()))?
            .manifest,
    )
}

fn facts(manifest: PrintedManifest) -> Result<FolderFacts, String> {
    let [width, height] = manifest.default_size;
    let placements = manifest.on_cuda.into_iter();
    let placements = placements.map(PrintedPlacement::placement);
    Ok(FolderFacts {
        family: manifest.family,
        default_size: PictureSize { width, height },
        sizes: SizeRule {
            multiple: manifest.size_multiple,
            min: manifest.min_size,
            max: manifest.max_size,
        },
        steps: (manifest.default_steps, manifest.max_steps),
        residency: Mebibytes(manifest.residency_mb),
        activation: manifest.activation.activation(),
        on_cuda: placements.collect::<Result<_, _>>()?,
        per_thread: Mebibytes(manifest.per_thread_mb),
        latents: manifest.latents,
        guidance: manifest.guidance,
        sampler: manifest.sampler,
        digest: manifest.digest,
        draws: manifest.draws,
        rights: manifest.rights,
        stamp: manifest.stamp,
        marks: manifest.marks,
    })
}

#[cfg(test)]
mod tests {
    use ipc_protocol::arithmetic::{Dtype, Encoders};
    use ipc_protocol::segment::Geometry;

    use super::*;

    /// As `plan` printed it of sparse files of the real sizes when a decoder needed 6144 MB for a megapixel, the worker's
    /// segment included; less the MB of CLIP-L's projection, which is in Stable Diffusion's folder but is not loaded; less
    /// what a megapixel needs no more: now 2560 MB for the decoder, or 3102 for Stable Diffusion's transformer; and less
    /// the largest matrix in f32 (236 and 136 MB), of which a product has a slab of 4 MB now.
    #[test]
    fn published_models_need_the_memory_that_files_of_their_sizes_need() {
        let arithmetic = Arithmetic {
            dtype: Dtype::Bf16,
            encoders: Encoders::Keep,
        };
        let need = |family, side| {
            let facts = published(family, arithmetic).expect("a model of the table");
            let size = PictureSize {
                width: side,
                height: side,
            };
            let largest = PictureSize {
                width: facts.sizes.max,
                height: facts.sizes.max,
            };
            let segment = Geometry::for_pictures_up_to(largest, facts.latents).total_bytes();
            (facts.residency + facts.activation.at(size) + Mebibytes::holding(segment)).0
        };
        assert_eq!(need(Family::new("flux"), 1024), 41_799 - 3_584 - 232);
        assert_eq!(need(Family::new("flux"), 2048), 106_311 - 4 * 3_584 - 232);
        assert_eq!(need(Family::new("sd3"), 1024), 42_603 - 1 - 3_042 - 132);
        assert_eq!(need(Family::new("sd3"), 1536), 89_803 - 1 - 6_844 - 132);
        assert!(published(Family::SYNTHETIC, arithmetic).is_err());
    }

    #[test]
    fn published_models_are_stored_in_every_arithmetic() {
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16, Dtype::Auto] {
            for encoders in [Encoders::Keep, Encoders::Drop, Encoders::Cpu] {
                for family in [Family::new("flux"), Family::new("sd3")] {
                    let found = published(family, Arithmetic { dtype, encoders });
                    assert_eq!(found.map(|facts| facts.family), Ok(family));
                }
            }
        }
    }
}
