//! One model as the pool and the driver know it, built from the properties of its files.

use std::collections::BTreeMap;

use ipc_protocol::about::{Group, GuidanceRange, ModelRights};
use ipc_protocol::arithmetic::{Arithmetic, Decoding};
use ipc_protocol::ids::{Device, DeviceConstraint, ModelKey};
use ipc_protocol::latents::LatentShape;
use ipc_protocol::mark::Mark;
use ipc_protocol::messages::worker::ModelSource;
use ipc_protocol::segment::Geometry;
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::{Activation, CudaNeed, FOLDER_IDENTITY, Files, GuidanceRule, ModelSpec, Need};

use super::facts::FolderFacts;
use super::placement::{CudaDevices, CudaPlacement, chosen};
use crate::config::names::aliases;

/// The properties of a model that starting a worker needs; the pool does not need them.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    /// The weights that a worker loads.
    pub source: ModelSource,
    /// Layout of its shared-memory segment.
    pub geometry: Geometry,
    /// Shape of the latents.
    pub latents: LatentShape,
    /// Threads for a worker's arithmetic.
    pub threads: u32,
    /// Digest of the weights; empty if unknown.
    pub digest: String,
    /// Stamp of the files when they were inspected.
    pub stamp: String,
    /// The files and folders that the stamp covers.
    pub marks: Vec<Mark>,
    /// Things the model can draw, by group.
    pub draws: Vec<Group>,
    /// Licence and attribution, if its files state them.
    pub rights: ModelRights,
    /// Name of the sampler and its sigmas.
    pub sampler: String,
    /// Arithmetic from the settings. A ready worker reports the one it really uses.
    pub arithmetic: Arithmetic,
    /// The ways of placing it on a CUDA device, the preferred one first.
    pub on_cuda: Vec<CudaPlacement>,
    /// The way that is used on CUDA devices.
    pub cuda: Option<CudaPlacement>,
}

impl Served {
    /// Stamp of the files in its folder when they were inspected; empty if the model has no folder.
    pub fn folder_stamp(&self) -> &str {
        match self.source {
            ModelSource::Folder { .. } => &self.stamp,
            ModelSource::Embedded { .. } | ModelSource::Synthetic { .. } => "",
        }
    }

    /// Arithmetic and decoding of a worker on `device`.
    pub fn compute_on(&self, device: Device) -> (Arithmetic, Decoding) {
        match (device, self.cuda) {
            (Device::Cuda(_), Some(placement)) => {
                let encoders = placement.encoders;
                let dtype = self.arithmetic.dtype;
                (Arithmetic { dtype, encoders }, placement.decoding)
            }
            (Device::Cuda(_), None) | (Device::Host, _) => (self.arithmetic, Decoding::Whole),
        }
    }
}

/// All models by key.
pub type Catalogue = BTreeMap<ModelKey, Served>;

pub(super) fn from_facts(
    key: ModelKey,
    source: ModelSource,
    facts: FolderFacts,
    (threads, devices): (u32, CudaDevices),
    arithmetic: Arithmetic,
) -> (ModelSpec, Served) {
    let geometry = Geometry::for_pictures_up_to(square(facts.sizes.max), facts.latents);
    let segment = Mebibytes::holding(geometry.total_bytes());
    let digest = identity(&source, &facts.digest);
    // Without files the digest identifies the model.
    let stamp = match facts.stamp.is_empty() {
        true => facts.digest.clone(),
        false => facts.stamp,
    };
    let cuda = chosen(&facts.on_cuda, facts.default_size, devices);
    let for_threads = Mebibytes(facts.per_thread.0 * u64::from(threads.saturating_sub(2)));
    let spec = ModelSpec {
        aliases: aliases(key.as_str()),
        key,
        family: facts.family,
        need: Need {
            on_cpu: Some(facts.residency + segment),
            on_cuda: cuda.map(|placement| CudaNeed {
                host: placement.need.host + segment,
                ..placement.need
            }),
            activation: Activation {
                base: facts.activation.base + for_threads,
                least: facts.activation.least + for_threads,
                ..facts.activation
            },
        },
        default_size: facts.default_size,
        sizes: facts.sizes,
        default_steps: facts.steps.0,
        max_steps: facts.steps.1,
        guidance: match facts.guidance {
            None => GuidanceRule::None,
            Some(GuidanceRange { default, max }) => GuidanceRule::Scale { default, max },
        },
        empty_prompt: true,
        digest,
        pinned: false,
        min_workers: None,
        max_workers: None,
        device: DeviceConstraint::Auto,
        params: String::new(),
        files: Files::Here {
            stamp: stamp.clone(),
        },
    };
    let served = Served {
        source,
        geometry,
        latents: facts.latents,
        threads,
        digest: facts.digest,
        stamp,
        marks: facts.marks,
        draws: facts.draws,
        rights: facts.rights,
        sampler: facts.sampler,
        arithmetic,
        on_cuda: facts.on_cuda,
        cuda,
    };
    let spec = ModelSpec {
        params: told_to_workers(&served),
        ..spec
    };
    (spec, served)
}

/// Writes down the values of a worker's welcome beside the model's files: if they change, the workers are replaced. Every
/// field is named here, so that a new one needs a decision.
fn told_to_workers(served: &Served) -> String {
    let Served {
        source,
        threads,
        arithmetic: Arithmetic { dtype, encoders },
        cuda,
        // They follow from the files, whose stamp the pool compares; the geometry from the sizes.
        geometry: _,
        latents: _,
        digest: _,
        stamp: _,
        marks: _,
        // Workers are not told these.
        draws: _,
        rights: _,
        sampler: _,
        on_cuda: _,
    } = served;
    let placed = cuda.map(|way| format!(", on CUDA {} {}", way.encoders, way.decoding));
    let source = match source {
        ModelSource::Synthetic {
            step_ms,
            load_ms,
            weights_mb,
            device_mb,
        } => format!(
            ", step_ms {step_ms}, load_ms {load_ms}, weights_mb {weights_mb}, device_mb {device_mb}"
        ),
        // Its section chooses it.
        ModelSource::Folder { path: _, family: _ } | ModelSource::Embedded { key: _ } => {
            String::new()
        }
    };
    format!(
        "{dtype} {encoders}, {threads} threads{}{source}",
        placed.unwrap_or_default()
    )
}

/// Builds a model whose files are missing, unusable or not yet inspected. It stays in the registry with the
/// reason, and has the sizes and the memory need of its family's published model.
pub(super) fn absent(
    key: ModelKey,
    published: FolderFacts,
    (threads, devices): (u32, CudaDevices),
    arithmetic: Arithmetic,
    files: Files,
) -> (ModelSpec, Served) {
    let source = ModelSource::Folder {
        path: String::new(),
        family: Some(published.family.word().to_owned()),
    };
    let (spec, served) = from_facts(key, source, published, (threads, devices), arithmetic);
    let spec = ModelSpec { files, ..spec };
    (spec, served)
}

/// The identity of a model inside the pool: the digest of its weights, else its folder. Receipts do not contain
/// the folder.
fn identity(source: &ModelSource, digest: &str) -> String {
    match source {
        ModelSource::Folder { path, .. } if digest.is_empty() => format!("{FOLDER_IDENTITY}{path}"),
        ModelSource::Folder { .. }
        | ModelSource::Embedded { .. }
        | ModelSource::Synthetic { .. } => digest.to_owned(),
    }
}

pub(super) fn square(side: u32) -> PictureSize {
    PictureSize {
        width: side,
        height: side,
    }
}
