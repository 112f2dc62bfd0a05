//! Under which terms a model may be used and whom it owes thanks, as its `config.json` says.

use crate::fault::Fault;
use ipc_protocol::about::Rights;

/// Refuses terms and thanks that would do something to a terminal.
///
/// # Errors
/// [`Fault::Configuration`].
pub fn check(rights: &Rights, file: &str) -> Result<(), Fault> {
    let works = rights.attribution.iter();
    let said = works.flat_map(|work| [&work.title, &work.author, &work.licence, &work.home]);
    refuse_control(file, "attribution", said.chain(&rights.licence))
}

/// Refuses words with control characters.
///
/// # Errors
/// [`Fault::Configuration`] naming the `key` of `file` that they are from.
pub fn refuse_control<'a>(
    file: &str,
    key: &str,
    mut said: impl Iterator<Item = &'a String>,
) -> Result<(), Fault> {
    match said.find(|text| text.chars().any(char::is_control)) {
        Some(text) => {
            let what = format!("{text:?} has control characters");
            Err(Fault::configuration(file, key, what))
        }
        None => Ok(()),
    }
}
