//! Facts about a model's files, which the worker program prints and the supervisor reads.

use serde::{Deserialize, Serialize};

/// Things that a model can draw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The name of the group.
    pub name: String,
    /// As a prompt names them, the most wanted first.
    pub things: Vec<String>,
}

/// Classifier-free guidance that a model can follow: from 0 to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GuidanceRange {
    /// Where a request names none.
    pub default: f32,
    /// Most.
    pub max: f32,
}

/// Under which terms a model may be used and whom it owes thanks; empty where its files do not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// Of the weights, as SPDX spells it.
    #[serde(default)]
    pub licence: Option<String>,
    /// Works it learned from whose licences ask for a notice.
    #[serde(default)]
    pub attribution: Vec<Work>,
}

/// Somebody's work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Its name.
    pub title: String,
    /// Its author.
    pub author: String,
    /// Its own licence.
    pub licence: String,
    /// Where it is at home.
    pub home: String,
}
