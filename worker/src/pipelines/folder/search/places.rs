//! The names, folders and prefixes under which people keep each part.

use crate::pipelines::family::Family;
use crate::weights::{Part, WeightFile};
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

/// The prefix under which files hold a part together.
pub(super) fn prefix_of(part: Part, files: &[Arc<WeightFile>]) -> Option<&'static str> {
    let prefixes = [""].into_iter().chain(part.prefixes().iter().copied());
    prefixes.into_iter().find(|prefix| {
        let has = |name: &str| {
            let full = format!("{prefix}{name}");
            files.iter().any(|file| file.has(&full))
        };
        part.is_in(has)
    })
}

/// Two encoders have the same names: a bare one is CLIP-G when its width is, or its file's name says so.
pub(super) fn fits(part: Part, files: &[Arc<WeightFile>], prefix: &str) -> bool {
    const CLIP_G_WIDTH: usize = 1280;
    let wanted = match part {
        Part::ClipL => false,
        Part::ClipG => true,
        Part::Flux | Part::Mmdit | Part::Autoencoder | Part::T5 => return true,
    };
    if !prefix.is_empty() {
        return true;
    }
    let norms = [
        "text_model.final_layer_norm.weight",
        "final_layer_norm.weight",
    ];
    let shapes = norms
        .iter()
        .flat_map(|name| files.iter().map(|file| file.shape(name)));
    let width = shapes.flatten().next().and_then(|shape| shape.first());
    let named = files.iter().any(|file| {
        file.name()
            .rsplit('/')
            .next()
            .is_some_and(|name| name.contains("clip_g"))
    });
    (named || width == Some(&CLIP_G_WIDTH)) == wanted
}

/// A family's own file names of a part below the model's folder, the first that is there wins.
pub(super) fn published(part: Part, family: Family) -> &'static [&'static str] {
    match (part, family) {
        (Part::Flux, _) => &["flux1-schnell.safetensors"],
        (Part::Mmdit, _) => &["sd3.5_large_turbo.safetensors"],
        (Part::Autoencoder, Family::Sd35) => &["sd3.5_vae.safetensors", "sd3_vae.safetensors"],
        (Part::Autoencoder, Family::Flux | Family::Synthetic) => &["ae.safetensors"],
        (Part::T5, _) => &[
            "t5xxl.safetensors",
            "t5xxl_fp16.safetensors",
            "text_encoders/t5xxl_fp16.safetensors",
            "t5.safetensors",
        ],
        (Part::ClipL, Family::Sd35) => &["text_encoders/clip_l.safetensors", "clip_l.safetensors"],
        (Part::ClipL, Family::Flux | Family::Synthetic) => &[
            "clip_l_flux.safetensors",
            "clip_l.safetensors",
            "text_encoders/clip_l.safetensors",
        ],
        (Part::ClipG, _) => &["text_encoders/clip_g.safetensors", "clip_g.safetensors"],
    }
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
    /// A name that speaks for the other family.
    Foreign,
}

/// The rank of a file; `path` is below the model's folder.
pub(super) fn rank(part: Part, family: Family, path: &Path) -> Rank {
    let names = published(part, family);
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
    let (flux, sd3) = (name.contains("flux"), name.contains("sd3"));
    let stem = name.split('.').next().unwrap_or_default();
    let (speaks, foreign) = match (part, family) {
        (Part::Flux, _) => (name.contains("schnell"), false),
        (Part::Mmdit, _) => (name.contains("turbo"), false),
        // The published FLUX autoencoder is called so, and has the shapes of the other family's.
        (Part::Autoencoder, Family::Sd35) => (sd3, flux || stem == "ae"),
        (_, Family::Sd35) => (sd3, flux),
        (_, Family::Flux | Family::Synthetic) => (flux, sd3),
    };
    match (speaks, foreign) {
        (true, _) => Rank::Speaking,
        (false, true) => Rank::Foreign,
        (false, false) => Rank::Neutral,
    }
}

/// Folders of a diffusers pipeline that may hold a part; SD3 has T5 third, FLUX second.
pub(super) fn components(part: Part) -> &'static [&'static str] {
    match part {
        Part::Flux | Part::Mmdit => &["transformer"],
        Part::Autoencoder => &["vae"],
        Part::T5 => &["text_encoder_3", "text_encoder_2"],
        Part::ClipL => &["text_encoder"],
        Part::ClipG => &["text_encoder_2"],
    }
}

pub(super) fn noun(part: Part) -> &'static str {
    match part {
        Part::Flux => "FLUX transformer",
        Part::Mmdit => "SD3 transformer",
        Part::Autoencoder => "autoencoder",
        Part::T5 => "T5 encoder",
        Part::ClipL => "CLIP-L encoder",
        Part::ClipG => "CLIP-G encoder",
    }
}
