//! The names, folders and prefixes under which people keep each part.

use super::FolderSearch;
use crate::weights::{ModelPart, Role, WeightFile};
use ipc_protocol::family::Family;
use std::path::Path;
use std::sync::Arc;

/// Folders beside the top one that are looked through.
pub(super) const FOLDERS: [&str; 6] = [
    "text_encoders",
    "clip",
    "vae",
    "unet",
    "diffusion_models",
    "checkpoints",
];

/// How a family names its files, and what it says when one is not there.
#[derive(Debug)]
pub struct FolderLayout {
    /// The family.
    pub family: Family,
    /// What messages call the family.
    pub title: &'static str,
    /// The model that its schedule is that of.
    pub model: &'static str,
    /// Its transformer.
    pub transformer: &'static ModelPart,
    /// Words in a file's name that speak for its transformer.
    pub transformer_words: &'static [&'static str],
    /// Its own file names of a part below the model's folder; the first that is there wins.
    pub names: &'static [(&'static ModelPart, &'static [&'static str])],
    /// Stem of its published autoencoder's name, where another family's has the same shapes.
    pub autoencoder_stem: Option<&'static str>,
    /// What else to say where a part is missing.
    pub notes: &'static [(&'static ModelPart, &'static str)],
    /// Shift of the noise levels in a diffusers pipeline of it.
    pub schedule_shift: f64,
}

/// The prefix under which files hold a part together.
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

/// Whether files that have the part's names below `prefix` hold this part and not one with the same names.
pub(super) fn fits(part: &ModelPart, files: &[Arc<WeightFile>], prefix: &str) -> bool {
    !prefix.is_empty() || (part.fits)(files)
}

/// How well a path fits a part by its name alone; files of a lower rank are taken first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// The file that the settings name, or the one that holds the transformer.
    Chosen,
    /// The family's own name, by its place in the list.
    Published(usize),
    /// The same name in one of the folders that are looked through.
    PublishedElsewhere,
    /// A component of a diffusers folder.
    Component,
    /// Another name that speaks for this family.
    Speaking,
    /// A name that says nothing.
    Neutral,
    /// A name that speaks for another family.
    Foreign,
}

impl FolderLayout {
    /// Its own names of the transformer's file.
    pub fn transformer_names(&self) -> &'static [&'static str] {
        self.own_names(self.transformer)
    }

    /// Its own names of a part.
    fn own_names(&self, part: &ModelPart) -> &'static [&'static str] {
        let found = self.names.iter().find(|(known, _)| *known == part);
        found.map_or(&[], |(_, names)| names)
    }
}

impl FolderSearch {
    /// The file names of a part: the family's own, and for another family's transformer that family's.
    pub(super) fn published(&self, part: &ModelPart) -> &'static [&'static str] {
        self.layout_of(part).own_names(part)
    }

    /// The family whose names a part goes by: that of a transformer, else the one that is looked for.
    fn layout_of(&self, part: &ModelPart) -> &'static FolderLayout {
        let mut all = [self.layout].into_iter().chain(self.others());
        let owner = all.find(|layout| layout.transformer == part);
        owner.unwrap_or(self.layout)
    }

    /// The other families' layouts.
    pub(super) fn others(&self) -> impl Iterator<Item = &'static FolderLayout> {
        let own = self.layout.family;
        let all = self.all.iter().copied();
        all.filter(move |layout| layout.family != own)
    }

    /// The rank of a file; `path` is below the model's folder.
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
        // Two families' autoencoders have the same shapes, and one is known by its stem alone.
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
