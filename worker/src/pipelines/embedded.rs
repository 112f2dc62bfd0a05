//! The small models embedded in this program, from `worker/assets/`.

use crate::fault::WorkerFault;
use crate::pipelines::folder::search;
use crate::pipelines::parts::tokens::TokenizerFile;
use crate::weights::{ModelPart, WeightFile, Weights, digest};
use ipc_protocol::family::Family;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Ending of the names of weight files.
const WEIGHTS: &str = ".safetensors";

/// A model embedded in this program.
#[derive(Debug)]
pub struct EmbeddedModel {
    /// Registry key of the model, and name of its folder.
    pub key: &'static str,
    /// Family of the model.
    pub family: Family,
    /// Files of the model by name.
    pub files: &'static [(&'static str, &'static [u8])],
    /// Name of the file of each part.
    pub parts: &'static [(&'static ModelPart, &'static str)],
}

impl PartialEq for EmbeddedModel {
    fn eq(&self, other: &EmbeddedModel) -> bool {
        self.key == other.key
    }
}

impl Eq for EmbeddedModel {}

/// Embeds files of a folder of `worker/assets/`, by name. To be used in a file in a family's folder.
#[macro_export]
macro_rules! embedded_files {
    ($folder:literal: $($name:literal),+ $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../../assets/", $folder, "/", $name)) as &[u8])),+]
    };
}

impl EmbeddedModel {
    /// Compares the weights with their published digests. Returns the names of the compared files.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsCorrupt`] with the file: this program is damaged, or was built from damaged files.
    pub fn verify(&self) -> Result<Vec<String>, WorkerFault> {
        let sums = String::from_utf8_lossy(self.bytes("SHA256SUMS")?);
        let compare = |(name, bytes): &(&'static str, &'static [u8])| {
            let mut lines = sums.lines();
            let promised = lines.find_map(|line| line.strip_suffix(name)?.strip_suffix("  "));
            let named = self.file_name(name);
            let promised = promised.unwrap_or("in SHA256SUMS");
            digest::expect(&named, &digest::of_bytes(bytes), promised)?;
            Ok(named)
        };
        self.weights().map(compare).collect()
    }

    /// Number of bytes of the embedded weights.
    pub fn weight_bytes(&self) -> u64 {
        self.weights().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    fn weights(&self) -> impl Iterator<Item = &(&'static str, &'static [u8])> {
        let files = self.files.iter();
        files.filter(|(name, _)| name.ends_with(WEIGHTS))
    }

    /// Name of a file, for messages.
    pub fn file_name(&self, file: &str) -> String {
        format!("{}/{file}", self.key)
    }

    /// Bytes of a file.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsMissing`] if it is not embedded.
    pub fn bytes(&self, name: &str) -> Result<&'static [u8], WorkerFault> {
        let found = self.files.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, bytes)| *bytes)
            .ok_or_else(|| WorkerFault::WeightsMissing {
                file: self.file_name(name),
                what: "is not embedded in this program".to_owned(),
            })
    }

    /// Reads a tokenizer.
    ///
    /// # Errors
    /// As [`EmbeddedModel::bytes`].
    pub fn tokenizer(&self, name: &str) -> Result<TokenizerFile, WorkerFault> {
        Ok(TokenizerFile {
            file: self.file_name(name),
            bytes: Cow::Borrowed(self.bytes(name)?),
            pad_token: None,
        })
    }

    /// Opens the weight files, each once.
    pub(super) fn open(&self) -> OpenedModel<'_> {
        OpenedModel {
            model: self,
            files: BTreeMap::new(),
        }
    }
}

/// The opened weight files of an embedded model.
pub(super) struct OpenedModel<'m> {
    model: &'m EmbeddedModel,
    files: BTreeMap<&'static str, Arc<WeightFile>>,
}

impl OpenedModel<'_> {
    /// Finds the tensors of a part.
    ///
    /// # Errors
    /// As those of a folder; this program was built from damaged files then.
    pub(super) fn part(&mut self, part: &'static ModelPart) -> Result<Weights, WorkerFault> {
        let mut parts = self.model.parts.iter();
        let name = parts
            .find(|(known, _)| *known == part)
            .map(|(_, name)| *name);
        let name = name.unwrap_or(part.noun);
        let file = match self.files.get(name) {
            Some(file) => Arc::clone(file),
            None => {
                let bytes = self.model.bytes(name)?;
                let file = WeightFile::embedded(&self.model.file_name(name), bytes)?;
                Arc::clone(self.files.entry(name).or_insert(Arc::new(file)))
            }
        };
        search::part_in(part, file)
    }
}
