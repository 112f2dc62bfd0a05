//! The usual file names, folders and prefixes of each part.

use super::FolderSearch;
use crate::weights::{ModelPart, Role, WeightFile};
use ipc_protocol::family::Family;
use std::path::Path;
use std::sync::Arc;

/// The subfolders that are searched besides the folder itself.
pub(super) const FOLDERS: [&str; 6] = [
    "text_encoders",
    "clip",
    "vae",
    "unet",
    "diffusion_models",
    "checkpoints",
];

/// File names of T5, which all families share.
pub const T5_FILES: &[&str] = &[
    "t5xxl.safetensors",
    "t5xxl_fp16.safetensors",
    "text_encoders/t5xxl_fp16.safetensors",
    "t5.safetensors",
];

/// The file names of a family, and its notes for error messages.
#[derive(Debug)]
pub struct FolderLayout {
    /// The family.
    pub family: Family,
    /// Name of the family in messages.
    pub title: &'static str,
    /// Name of the model in messages about the schedule.
    pub model: &'static str,
    /// The part that is its transformer.
    pub transformer: &'static ModelPart,
    /// Words in a file name that suggest its transformer.
    pub transformer_words: &'static [&'static str],
    /// File names of each part, relative to the model's folder; the first existing one is used.
    pub names: &'static [(&'static ModelPart, &'static [&'static str])],
    /// Stem of its published autoencoder's file name, if another family's autoencoder has the same shapes.
    pub autoencoder_stem: Option<&'static str>,
    /// Additions to the message for a missing part.
    pub notes: &'static [(&'static ModelPart, &'static str)],
    /// Shift of the noise levels in its diffusers pipeline.
    pub schedule_shift: f64,
}

/// Finds the prefix under which the files together contain a part.
pub(super) fn prefix_of(part: &ModelPart, files: &[Arc<WeightFile>]) -> Option<&'static str> {
    let prefixes = [""].into_iter().chain(part.prefixes.iter().copied());
    prefixes.into_iter().find(|prefix| {
        let has = |name: &str| {
            let full = format!("{prefix}{name}");
            files.iter().any(|file| file.has(&full))
        };
        part.is_in(has)
    })
}

/// Tells whether files with the part's names below `prefix` contain this part, and not another with the same names.
pub(super) fn fits(part: &ModelPart, files: &[Arc<WeightFile>], prefix: &str) -> bool {
    !prefix.is_empty() || (part.fits)(files)
}

/// The fit of a path to a part, by its name only; lower ranks are preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// The file that the settings name.
    Chosen,
    /// The family's own name, with its index in the list.
    Published(usize),
    /// The same name in one of the searched subfolders.
    PublishedElsewhere,
    /// A component of a diffusers folder.
    Component,
    /// Another name that suggests this family.
    Speaking,
    /// A name that suggests no family.
    Neutral,
    /// A name that suggests another family.
    Foreign,
}

impl FolderLayout {
    /// File names of the transformer.
    pub fn transformer_names(&self) -> &'static [&'static str] {
        self.own_names(self.transformer)
    }

    /// File names of a part.
    fn own_names(&self, part: &ModelPart) -> &'static [&'static str] {
        let found = self.names.iter().find(|(known, _)| *known == part);
        found.map_or(&[], |(_, names)| names)
    }
}

impl FolderSearch {
    /// File names of a part: the family's own, or another family's for the transformer of that family.
    pub(super) fn published(&self, part: &ModelPart) -> &'static [&'static str] {
        self.layout_of(part).own_names(part)
    }

    /// The layout with a part's names: for a transformer that of its family, else the searched one.
    fn layout_of(&self, part: &ModelPart) -> &'static FolderLayout {
        let mut all = [self.layout].into_iter().chain(self.others());
        let owner = all.find(|layout| layout.transformer == part);
        owner.unwrap_or(self.layout)
    }

    /// The layouts of the other families.
    pub(super) fn others(&self) -> impl Iterator<Item = &'static FolderLayout> {
        let own = self.layout.family;
        let all = self.all.iter().copied();
        all.filter(move |layout| layout.family != own)
    }

    /// The rank of a file; `path` is relative to the model's folder.
    pub(super) fn rank(&self, part: &ModelPart, path: &Path) -> Rank {
        let names = self.published(part);
        if let Some(place) = names.iter().position(|name| Path::new(name) == path) {
            return Rank::Published(place);
        }
        let name = super::file_name(path);
        if names
            .iter()
            .any(|own| own.rsplit('/').next() == Some(&name))
        {
            return Rank::PublishedElsewhere;
        }
        let name = name.to_lowercase();
        if part.is_transformer() {
            let mut words = self.layout_of(part).transformer_words.iter();
            return match words.any(|word| name.contains(word)) {
                true => Rank::Speaking,
                false => Rank::Neutral,
            };
        }
        let is_for = |layout: &FolderLayout| name.contains(layout.family.word());
        if is_for(self.layout) {
            return Rank::Speaking;
        }
        // The autoencoders of two families have the same shapes, and one is recognised only by its stem.
        let stem = name.split('.').next();
        let has_stem = |layout: &FolderLayout| {
            part.role == Role::Autoencoder
                && layout.autoencoder_stem.is_some()
                && layout.autoencoder_stem == stem
        };
        let is_foreign = |layout: &FolderLayout| is_for(layout) || has_stem(layout);
        match self.others().any(is_foreign) {
            true => Rank::Foreign,
            false => Rank::Neutral,
        }
    }
}
