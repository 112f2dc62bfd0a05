//! Facts about a model's files, which the worker program prints and the supervisor reads.

use serde::{Deserialize, Serialize};

/// A group of things that a model can draw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Name of the group.
    pub name: String,
    /// The words for them in a prompt, the most important first.
    pub things: Vec<String>,
}

/// The classifier-free guidance scales that a model supports: from 0 to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GuidanceRange {
    /// Used if a request gives none.
    pub default: f32,
    /// The largest supported scale.
    pub max: f32,
}

/// Licence and attribution of a model; empty if its files do not state them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRights {
    /// Licence of the weights, as an SPDX identifier.
    #[serde(default)]
    pub licence: Option<String>,
    /// Training works whose licences require a notice.
    #[serde(default)]
    pub attribution: Vec<Work>,
}

/// A work that needs attribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Title of the work.
    pub title: String,
    /// Author of the work.
    pub author: String,
    /// Licence of the work.
    pub licence: String,
    /// Address where the work is published.
    pub home: String,
}
