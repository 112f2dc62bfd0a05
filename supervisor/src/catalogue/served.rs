//! What the pool and the hands know of a model, from what is known of its files.

use std::collections::BTreeMap;

use ipc_protocol::about::{Group, GuidanceRange, Rights};
use ipc_protocol::arithmetic::Arithmetic;
use ipc_protocol::ids::{DeviceWish, ModelKey};
use ipc_protocol::latents::LatentShape;
use ipc_protocol::messages::worker::ModelSource;
use ipc_protocol::segment::Geometry;
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::{Activation, Files, GuidanceRule, ModelSpec, Need};

use super::facts::FolderFacts;
use crate::config::names::aliases;

/// What only the hands need to know of a model: how a worker of it is started.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    /// What a worker loads.
    pub source: ModelSource,
    /// What its segment holds.
    pub geometry: Geometry,
    /// Shape of its latents.
    pub latents: LatentShape,
    /// Threads of its arithmetic.
    pub threads: u32,
    /// Digest of its weights.
    pub digest: String,
    /// What its files were when they were looked at.
    pub stamp: String,
    /// What it can draw, by group.
    pub draws: Vec<Group>,
    /// Terms and thanks, where its files say so.
    pub rights: Rights,
    /// How its sigmas are chosen.
    pub sampler: String,
    /// What its section wants of its arithmetic; what a worker computes in, it says when it is ready.
    pub arithmetic: Arithmetic,
}

impl Served {
    /// What the files in its folder were when they were looked at; empty where it has no folder.
    pub fn folder_stamp(&self) -> &str {
        match self.source {
            ModelSource::Folder { .. } => &self.stamp,
            ModelSource::Embedded { .. } | ModelSource::Synthetic { .. } => "",
        }
    }
}

/// Every model by key, as the hands know them.
pub type Catalogue = BTreeMap<ModelKey, Served>;

pub(super) fn from_facts(
    key: ModelKey,
    source: ModelSource,
    facts: FolderFacts,
    threads: u32,
    arithmetic: Arithmetic,
) -> (ModelSpec, Served) {
    let geometry = Geometry::for_pictures_up_to(square(facts.sizes.max), facts.latents);
    let segment = Mebibytes::holding(geometry.total_bytes());
    let digest = identity(&source, &facts.digest);
    // What has no files is what its digest says.
    let stamp = match facts.stamp.is_empty() {
        true => facts.digest.clone(),
        false => facts.stamp,
    };
    let for_threads = Mebibytes(facts.per_thread.0 * u64::from(threads.saturating_sub(2)));
    let spec = ModelSpec {
        aliases: aliases(key.as_str()),
        key,
        family: facts.family,
        need: Need {
            on_cpu: Some(facts.residency + segment),
            on_cuda: None,
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
        device: DeviceWish::Auto,
        // A worker that computes otherwise is another worker.
        params: format!("{} {}", arithmetic.dtype, arithmetic.encoders),
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
        draws: facts.draws,
        rights: facts.rights,
        sampler: facts.sampler,
        arithmetic,
    };
    (spec, served)
}

/// A model whose files are not here, are no use, or were not looked at yet. It keeps its place in the
/// registry, with the reason; its sizes and its need are those of the published model of its family.
pub(super) fn absent(
    key: ModelKey,
    published: FolderFacts,
    threads: u32,
    arithmetic: Arithmetic,
    files: Files,
) -> (ModelSpec, Served) {
    let source = ModelSource::Folder {
        path: String::new(),
        family: Some(published.family.word().to_owned()),
    };
    let (spec, served) = from_facts(key, source, published, threads, arithmetic);
    let spec = ModelSpec { files, ..spec };
    (spec, served)
}

/// What tells a model's requests from those of another one: the digest of its weights, else the folder
/// that they are in. It stays in the pool; a receipt says nothing where no digest is known.
fn identity(source: &ModelSource, digest: &str) -> String {
    match source {
        ModelSource::Folder { path, .. } if digest.is_empty() => format!("folder {path}"),
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
