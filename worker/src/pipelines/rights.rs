//! Under which terms a model may be used and whom it owes thanks, as its `config.json` says.

use crate::fault::Fault;
use serde::{Deserialize, Serialize};

/// Terms and thanks; empty where the files do not say, as those of the published models.
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
    /// Whose it is.
    pub author: String,
    /// Its own licence.
    pub licence: String,
    /// Where it is at home.
    pub home: String,
}

impl Rights {
    /// Refuses words that would do something to a terminal.
    ///
    /// # Errors
    /// [`Fault::Configuration`].
    pub fn check(&self, file: &str) -> Result<(), Fault> {
        let works = self.attribution.iter();
        let said = works.flat_map(|work| [&work.title, &work.author, &work.licence, &work.home]);
        refuse_control(file, "attribution", said.chain(&self.licence))
    }
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
