//! What is known of a model's files before a worker loads them.

use std::path::Path;

use ipc_protocol::about::{Group, GuidanceRange, Rights};
use ipc_protocol::family::Family;
use ipc_protocol::latents::LatentShape;
use ipc_protocol::mark::Mark;
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::{Activation, SizeRule};

/// What a folder of weights turned out to hold; the worker program looks, because only it knows files.
#[derive(Debug, Clone, PartialEq)]
pub struct FolderFacts {
    /// The code that runs it.
    pub family: Family,
    /// Size where a request says nothing.
    pub default_size: PictureSize,
    /// Sizes it can draw.
    pub sizes: SizeRule,
    /// Steps where a request says nothing, and most.
    pub steps: (u32, u32),
    /// Weights as held and the process around them.
    pub residency: Mebibytes,
    /// What drawing takes beside them.
    pub activation: Activation,
    /// What drawing takes for each thread beyond the second.
    pub per_thread: Mebibytes,
    /// Shape of its latents.
    pub latents: LatentShape,
    /// Guidance that it can follow, where it was trained with any.
    pub guidance: Option<GuidanceRange>,
    /// How its sigmas are chosen, for receipts.
    pub sampler: String,
    /// Digest of the weights; empty where taking it would have taken minutes.
    pub digest: String,
    /// What it can draw, by group; empty where its files do not say.
    pub draws: Vec<Group>,
    /// Terms and thanks, where its files say so.
    pub rights: Rights,
    /// What its files were when they were looked at; empty for models without files.
    pub stamp: String,
    /// The files and folders that the stamp is of.
    pub marks: Vec<Mark>,
}

impl FolderFacts {
    /// Whether the files are still what they were, as far as the kernel tells without reading them.
    pub fn are_current(&self) -> bool {
        !self.marks.is_empty()
            && self
                .marks
                .iter()
                .all(|mark| Mark::of(Path::new(&mark.path)).as_ref() == Some(mark))
    }
}

/// What came of looking for a model's files.
#[derive(Debug, Clone, PartialEq)]
pub enum Look {
    /// They are here.
    Seen {
        /// The folder, absolute and without links.
        folder: String,
        /// What is in it.
        found: Box<FolderFacts>,
    },
    /// They were not looked at yet.
    Unread,
    /// They cannot be used, for this reason.
    Broken(String),
}
