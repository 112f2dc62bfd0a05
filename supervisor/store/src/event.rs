//! Events of a fetch: the fetch program prints one JSON object a line on its stdout.

use ipc_protocol::untrusted::Untrusted;
use serde::{Deserialize, Serialize};

/// An event of a fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum FetchEvent {
    /// Another process fetches this model; this one waits for it.
    Waiting,
    /// The list of files is known.
    Planned {
        /// Commit, which names the folder.
        commit: String,
        /// Files in the order of their transfer.
        files: Vec<PlannedFile>,
    },
    /// More bytes of a file arrived.
    Progress {
        /// Index into the planned files.
        file: usize,
        /// Bytes on this machine, those of earlier tries included.
        bytes: u64,
    },
    /// A transfer broke off and resumes.
    Retried {
        /// Index into the planned files.
        file: usize,
        /// Reason.
        why: String,
    },
    /// A file is complete and has the stated digest.
    Checked {
        /// Index into the planned files.
        file: usize,
    },
    /// The model is on this machine.
    Done {
        /// Folder of the model.
        folder: String,
        /// Commit.
        commit: String,
        /// Bytes that came over the network.
        transferred_bytes: u64,
    },
    /// The fetch failed.
    Failed {
        /// A word for programs.
        kind: String,
        /// The cause, whose fault it is, and the remedy.
        message: String,
    },
}

impl FetchEvent {
    /// The event as one line of JSON, without a line end.
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("words and numbers are always JSON")
    }

    /// Whether no event follows.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Failed { .. })
    }

    /// Parses a line.
    ///
    /// # Errors
    /// A sentence that quotes the line: it is not an event.
    pub fn read(line: &str) -> Result<Self, String> {
        serde_json::from_str(line).map_err(|error| {
            format!(
                "the fetch program printed {:?}: {error}",
                Untrusted::new(line)
            )
        })
    }
}

/// A file of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFile {
    /// Name in the folder of the model.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
}
