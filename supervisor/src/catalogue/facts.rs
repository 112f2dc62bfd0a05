//! The properties of a model's files, known before a worker loads them.

use ipc_protocol::about::{Group, GuidanceRange, ModelRights};
use ipc_protocol::family::Family;
use ipc_protocol::latents::LatentShape;
use ipc_protocol::mark::Mark;
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::{Activation, SizeRule};

use super::placement::CudaPlacement;

/// The properties of a folder of weights, as the worker program reports them.
#[derive(Debug, Clone, PartialEq)]
pub struct FolderFacts {
    /// Family: selects the code that runs the model.
    pub family: Family,
    /// Default picture size.
    pub default_size: PictureSize,
    /// Valid picture sizes.
    pub sizes: SizeRule,
    /// Default and largest number of steps.
    pub steps: (u32, u32),
    /// Memory of the loaded weights and the worker process.
    pub residency: Mebibytes,
    /// Additional memory while drawing.
    pub activation: Activation,
    /// The ways of placing it on a CUDA device, the preferred one first; empty if it runs on a CPU only.
    pub on_cuda: Vec<CudaPlacement>,
    /// Additional memory while drawing for each thread beyond the second.
    pub per_thread: Mebibytes,
    /// Shape of the latents.
    pub latents: LatentShape,
    /// Valid guidance; `None` if the model does not support guidance.
    pub guidance: Option<GuidanceRange>,
    /// Name of the sampler and its sigmas, for receipts.
    pub sampler: String,
    /// Digest of the weights; empty if computing it would have taken minutes.
    pub digest: String,
    /// Things the model can draw, by group; empty if its files do not list them.
    pub draws: Vec<Group>,
    /// Licence and attribution, if its files state them.
    pub rights: ModelRights,
    /// Stamp of the files when they were inspected; empty for models without files.
    pub stamp: String,
    /// The files and folders that the stamp covers.
    pub marks: Vec<Mark>,
}

impl FolderFacts {
    /// Whether the files are unchanged, judging by their metadata.
    pub fn are_current(&self) -> bool {
        !self.marks.is_empty() && self.marks.iter().all(Mark::is_current)
    }
}

/// The result of looking for a model's files.
#[derive(Debug, Clone, PartialEq)]
pub enum Look {
    /// The files are usable.
    Seen {
        /// The folder, absolute and without links.
        folder: String,
        /// Properties of the files.
        found: Box<FolderFacts>,
    },
    /// The files were not inspected yet.
    Unread,
    /// The files are unusable, for this reason.
    Broken(String),
}
