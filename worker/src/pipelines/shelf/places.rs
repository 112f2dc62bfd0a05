//! The names and prefixes under which people keep each part.

use super::file_name;
use crate::weights::{Part, WeightFile};
use std::path::Path;

/// The prefix under which a file holds a part.
pub(super) fn prefix_of(part: Part, file: &WeightFile) -> Option<&'static str> {
    let prefixes = [""].into_iter().chain(part.prefixes().iter().copied());
    prefixes
        .into_iter()
        .find(|prefix| part.is_in(|name| file.has(&format!("{prefix}{name}"))))
}

/// Two encoders have the same names: a bare one is CLIP-G when its width is, or its file's name says so.
pub(super) fn fits(part: Part, file: &WeightFile, prefix: &str) -> bool {
    const CLIP_G_WIDTH: usize = 1280;
    let wanted = match part {
        Part::ClipL => false,
        Part::ClipG => true,
        _ => return true,
    };
    if !prefix.is_empty() {
        return true;
    }
    let norms = [
        "text_model.final_layer_norm.weight",
        "final_layer_norm.weight",
    ];
    let width = norms
        .iter()
        .find_map(|name| file.shape(name)?.first().copied());
    let named = file_name(Path::new(file.name())).contains("clip_g");
    (named || width == Some(CLIP_G_WIDTH)) == wanted
}

/// File names that are looked for first, below the model's folder.
pub(super) fn published(part: Part) -> &'static [&'static str] {
    match part {
        Part::Flux => &["flux1-schnell.safetensors"],
        Part::Mmdit => &["sd3.5_large_turbo.safetensors"],
        Part::Autoencoder => &["ae.safetensors"],
        Part::T5 => &[
            "t5xxl*",
            "text_encoders/t5xxl_fp16.safetensors",
            "t5.safetensors",
        ],
        Part::ClipL => &[
            "clip_l_flux.safetensors",
            "clip_l.safetensors",
            "text_encoders/clip_l.safetensors",
        ],
        Part::ClipG => &["text_encoders/clip_g.safetensors", "clip_g.safetensors"],
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
