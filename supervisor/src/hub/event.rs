//! What a fetch tells while it runs: one JSON object a line on its stdout.

use ipc_protocol::untrusted::Untrusted;
use serde::{Deserialize, Serialize};

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Another process fetches this model; its end is waited for.
    Waiting,
    /// It is known what has to be transferred.
    Planned {
        /// The commit that names the folder.
        commit: String,
        /// In the order of their transfer.
        files: Vec<PlannedFile>,
    },
    /// Some bytes of a file are here.
    Progress {
        /// Its place among the planned.
        file: usize,
        /// How many, those of earlier tries included.
        bytes: u64,
    },
    /// A transfer broke off and is taken up again.
    Retried {
        /// Its place among the planned.
        file: usize,
        /// What happened.
        why: String,
    },
    /// A file is whole and is what the hub states.
    Checked {
        /// Its place among the planned.
        file: usize,
    },
    /// The model is there.
    Done {
        /// Its folder.
        folder: String,
        /// Its commit.
        commit: String,
        /// Bytes that came over the network.
        transferred_bytes: u64,
    },
    /// The model is not there.
    Failed {
        /// A word for programs.
        kind: String,
        /// What happened, whose fault it is, what to do.
        message: String,
    },
}

impl Event {
    /// As a line, without its end.
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("words and numbers are always JSON")
    }

    /// Nothing follows.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Failed { .. })
    }

    /// Reads a line.
    ///
    /// # Errors
    /// A sentence: it is none of ours.
    pub fn read(line: &str) -> Result<Self, String> {
        serde_json::from_str(line)
            .map_err(|error| format!("the fetcher said {:?}: {error}", Untrusted::new(line)))
    }
}

/// A file of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFile {
    /// Its name in our folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}
