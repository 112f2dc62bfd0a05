//! The state that all routes share.

use std::sync::Arc;

use super::encoder::FileEncoder;
use super::forms::JobForms;
use super::picture_files::PictureFiles;
use super::policy::SharedPolicy;
use crate::api::jobs::store::JobStore;
use crate::clock::Clock;
use crate::driver::handle::Handle;

/// The state that all routes share.
#[derive(Debug)]
pub(super) struct HttpContext {
    /// The way to the loop.
    pub handle: Handle,
    /// The daemon's clock.
    pub clock: Clock,
    /// The rights of requests, the names that they may use, and other settings that a reload replaces.
    pub policy: SharedPolicy,
    /// The jobs of all clients.
    pub jobs: JobStore,
    /// Encodes files.
    pub encoder: FileEncoder,
    /// The forms of detached jobs' files.
    pub forms: JobForms,
    /// Pictures under addresses that cannot be guessed.
    pub files: PictureFiles,
}

/// The state of the router.
pub(super) type Shared = Arc<HttpContext>;

impl HttpContext {
    /// The model's name for a request that names `asked`: an alias, or nothing, means the default model.
    pub fn model_name(&self, asked: Option<&str>) -> String {
        self.policy.now().model_name(asked)
    }
}
