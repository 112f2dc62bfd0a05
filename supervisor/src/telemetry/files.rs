//! The lines about model files: looked at, fetched, digested.

use std::fmt::Display;
use std::path::Path;

use ipc_protocol::ids::ModelKey;
use tracing::{debug, error, info, warn};

/// SIGHUP: the files of this many models are looked at again.
pub fn looking_again(models: usize) {
    info!(
        models,
        "Looking again at the files of all models; changed settings need a restart"
    );
}

/// A worker could not load a model whose files looked good.
pub fn not_loaded(model: &ModelKey, reason: &str) {
    warn!(%model, reason, "Model cannot be loaded, looking at its files");
}

/// The files of a model cannot be used.
pub fn unusable(model: &ModelKey, reason: &str) {
    warn!(%model, reason, "Model cannot be used");
}

/// No thread to look at files or to fetch them.
pub fn cannot_look(model: &ModelKey, error: &dyn Display) {
    error!(%model, %error, "Cannot start to look at the files of a model");
}

/// The fetch program is missing; models whose files are here are served.
pub fn no_fetch_program(error: &dyn Display) {
    info!(%error, "Models cannot be fetched");
}

/// Fetching begins, because a request needs the model.
pub fn fetching(model: &ModelKey, licence: &str) {
    info!(%model, licence, "Fetching the files of a requested model");
}

/// A look or a fetch failed; the requests that wait for it are refused.
pub fn not_fetched(model: &ModelKey, error: &str) {
    warn!(%model, error, "Files not fetched");
}

/// No digest of a model: no thread, or its files cannot be read.
pub fn not_digested(model: &ModelKey, error: &dyn Display) {
    warn!(%model, %error, "Digest not taken");
}

/// What was found in folders is kept in memory only.
pub fn not_kept(file: &Path, error: &dyn Display) {
    debug!(file = %file.display(), %error, "Cannot write down what was found in folders of weights");
}
