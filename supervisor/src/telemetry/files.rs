//! Log lines about model files: inspected, fetched, digested.

use std::fmt::Display;
use std::path::Path;

use ipc_protocol::ids::ModelKey;
use tracing::{debug, error, info, warn};

/// SIGHUP: the files of this many models are inspected again.
pub fn looking_again(models: usize) {
    info!(
        models,
        "Inspecting the files of all models again; changed settings need a restart"
    );
}

/// A worker could not load a model whose files had passed the inspection.
pub fn not_loaded(model: &ModelKey, reason: &str) {
    warn!(%model, reason, "Model cannot be loaded: inspecting its files");
}

/// The files of a model cannot be used.
pub fn unusable(model: &ModelKey, reason: &str) {
    warn!(%model, reason, "Model cannot be used");
}

/// No thread could be started to inspect or fetch files.
pub fn cannot_look(model: &ModelKey, error: &dyn Display) {
    error!(%model, %error, "Cannot start to inspect the files of a model");
}

/// The fetch program is missing; models with files on this machine are still served.
pub fn no_fetch_program(error: &dyn Display) {
    info!(%error, "Models cannot be fetched");
}

/// A fetch starts because a request needs the model.
pub fn fetching(model: &ModelKey, licence: &str) {
    info!(%model, licence, "Fetching the files of a requested model");
}

/// An inspection or a fetch failed; the requests that wait for it are refused.
pub fn not_fetched(model: &ModelKey, error: &str) {
    warn!(%model, error, "Files not fetched");
}

/// The digest of a model could not be computed: no thread, or unreadable files.
pub fn not_digested(model: &ModelKey, error: &dyn Display) {
    warn!(%model, %error, "Digest not computed");
}

/// The cache of inspected folders is kept in memory only.
pub fn not_kept(file: &Path, error: &dyn Display) {
    debug!(file = %file.display(), %error, "Cannot write the cache of inspected folders");
}
