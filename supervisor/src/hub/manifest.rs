//! What is known of model files before a worker loads them. The worker program looks, because only it
//! knows files; this reads what it says.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ipc_protocol::about::{Group, Rights};
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::{Activation, Family, SizeRule};
use serde::Deserialize;

use crate::facts::{FolderFacts, Mark};

/// A manifest as `worker --manifest` and `worker --inspect` print it.
#[derive(Debug, Deserialize)]
struct Manifest {
    key: String,
    family: String,
    digest: String,
    default_size: [u32; 2],
    min_size: u32,
    max_size: u32,
    size_multiple: u32,
    default_steps: u32,
    max_steps: u32,
    residency_mb: u64,
    activation: Terms,
    per_thread_mb: u64,
    draws: Vec<Group>,
    rights: Rights,
    #[serde(default)]
    stamp: String,
    #[serde(default)]
    marks: Vec<MarkFacts>,
}

#[derive(Debug, Deserialize)]
struct MarkFacts {
    path: PathBuf,
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: i64,
    changed_ns: i64,
}

#[derive(Debug, Deserialize)]
struct Terms {
    base_mb: u64,
    per_megapixel_mb: u64,
    per_megapixel_squared_mb: u64,
    least_mb: u64,
}

/// Reads the manifest of one folder.
///
/// # Errors
/// A sentence: the text is no manifest, or of a family this program does not know.
pub fn read_manifest(text: &str) -> Result<FolderFacts, String> {
    let manifest: Manifest =
        serde_json::from_str(text).map_err(|error| format!("no manifest: {error}"))?;
    facts(manifest)
}

/// What `worker --manifest` prints, kept here so that a daemon need not ask; a test compares the two.
pub const BUILT_IN: &str = include_str!("built-in.json");

/// The models inside the worker program, by key.
///
/// # Errors
/// As [`read_manifest`].
pub fn built_in() -> Result<BTreeMap<String, FolderFacts>, String> {
    let manifests: Vec<Manifest> =
        serde_json::from_str(BUILT_IN).map_err(|error| format!("no manifests: {error}"))?;
    manifests
        .into_iter()
        .map(|manifest| Ok((manifest.key.clone(), facts(manifest)?)))
        .collect()
}

fn facts(manifest: Manifest) -> Result<FolderFacts, String> {
    let [width, height] = manifest.default_size;
    Ok(FolderFacts {
        family: match manifest.family.as_str() {
            "flux" => Family::Flux,
            "sd3" => Family::Sd3,
            "synthetic" => Family::Synthetic,
            other => return Err(format!("no family {other:?}")),
        },
        default_size: PictureSize { width, height },
        sizes: SizeRule {
            multiple: manifest.size_multiple,
            min: manifest.min_size,
            max: manifest.max_size,
        },
        steps: (manifest.default_steps, manifest.max_steps),
        residency: Mebibytes(manifest.residency_mb),
        activation: Activation {
            base: Mebibytes(manifest.activation.base_mb),
            per_megapixel: Mebibytes(manifest.activation.per_megapixel_mb),
            per_megapixel_squared: Mebibytes(manifest.activation.per_megapixel_squared_mb),
            least: Mebibytes(manifest.activation.least_mb),
        },
        per_thread: Mebibytes(manifest.per_thread_mb),
        digest: manifest.digest,
        draws: manifest.draws,
        rights: manifest.rights,
        stamp: manifest.stamp,
        marks: manifest
            .marks
            .into_iter()
            .map(|mark| Mark {
                path: mark.path,
                device: mark.device,
                inode: mark.inode,
                bytes: mark.bytes,
                modified_ns: mark.modified_ns,
                changed_ns: mark.changed_ns,
            })
            .collect(),
    })
}
