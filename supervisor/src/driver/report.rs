//! A report of everything, shared by all who asked for it in one turn.

use std::sync::OnceLock;

use ipc_protocol::frame::{self, FrameError};
use ipc_protocol::messages::client::FromPool;
use ipc_protocol::status::StatusReport;

/// Everything at one moment.
#[derive(Debug)]
pub struct StatusAnswer {
    /// The report.
    pub status: StatusReport,
    frames: OnceLock<Vec<u8>>,
}

impl StatusAnswer {
    pub(super) fn new(status: StatusReport) -> Self {
        Self {
            status,
            frames: OnceLock::new(),
        }
    }

    /// The frames in which clients get it, one after the other. They are encoded once, by whoever is first: at a
    /// long queue that takes longer than to send them.
    ///
    /// # Errors
    /// A part that fits no frame.
    pub fn frames(&self) -> Result<&[u8], FrameError> {
        if let Some(frames) = self.frames.get() {
            return Ok(frames);
        }
        let mut frames = Vec::new();
        for part in self.status.clone().into_parts() {
            frames.extend(frame::encode(&FromPool::Status(part))?);
        }
        Ok(self.frames.get_or_init(|| frames))
    }
}
