//! Checks the licence and attribution of a model, from its `config.json`.

use crate::fault::WorkerFault;
use ipc_protocol::about::ModelRights;

/// Refuses texts that contain control characters.
///
/// # Errors
/// [`WorkerFault::Configuration`].
pub fn check(rights: &ModelRights, file: &str) -> Result<(), WorkerFault> {
    let works = rights.attribution.iter();
    let said = works.flat_map(|work| [&work.title, &work.author, &work.licence, &work.home]);
    refuse_control(file, "attribution", said.chain(&rights.licence))
}

/// Refuses texts with control characters.
///
/// # Errors
/// [`WorkerFault::Configuration`] with `file` and `key`.
pub fn refuse_control<'a>(
    file: &str,
    key: &str,
    mut said: impl Iterator<Item = &'a String>,
) -> Result<(), WorkerFault> {
    match said.find(|text| text.chars().any(char::is_control)) {
        Some(text) => {
            let what = format!("{text:?} has control characters");
            Err(WorkerFault::configuration(file, key, what))
        }
        None => Ok(()),
    }
}
