//! Converts the tensor names of a file to the original names, which the pipelines use.
//!
//! Original names are those of the first published file. The table of a family's transformer is in the family's
//! folder. A name that no table contains is kept; the tensor is then refused by that name.
//!
//! Source of the tables: `scripts/convert_flux_to_diffusers.py` and `convert_sd3_to_diffusers.py` in
//! huggingface/diffusers, reversed; `gguf-py/gguf/tensor_mapping.py` in ggml-org/llama.cpp for T5.

mod autoencoder;
mod encoders;

use super::file::WeightFile;
use std::sync::Arc;

/// A part of a model, with the tensors that identify it in a file and the names that other projects use.
///
/// Parts are compared by address; each is a separate static.
#[derive(Debug)]
pub struct ModelPart {
    /// Name of the part in messages.
    pub noun: &'static str,
    /// Role of the part in a model.
    pub role: Role,
    /// Prefixes that the part may have in a file, besides no prefix.
    pub prefixes: &'static [&'static str],
    /// Names of tensors, each of which identifies the part.
    pub marks: &'static [&'static str],
    /// Names in diffusers that together identify the part; empty if `marks` contains them.
    pub diffusers_marks: &'static [&'static str],
    /// Folders of a diffusers pipeline that may contain it.
    pub components: &'static [&'static str],
    /// Finds the original tensor that a stored one belongs to; `None` for an unknown name.
    pub target: fn(&str, &NameCounts) -> Option<TensorTarget>,
    /// Detects another model of the same family: returns the tensor that identifies it, and a sentence about it.
    pub other_model: fn(HasTensor<'_>) -> Option<OtherModel>,
    /// Tells whether files without a prefix contain this part, and not another with the same names.
    pub fits: fn(&[Arc<WeightFile>]) -> bool,
}

/// Tells whether a part has a tensor of this name.
pub type HasTensor<'a> = &'a dyn Fn(&str) -> bool;

/// A tensor that identifies another model, and a sentence about that model.
pub type OtherModel = (&'static str, &'static str);

/// The role of a part in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It predicts velocities. The settings' `path` may name its file.
    Transformer,
    /// It decodes latents to pixels.
    Autoencoder,
    /// It encodes the prompt.
    TextEncoder,
}

impl PartialEq for ModelPart {
    fn eq(&self, other: &ModelPart) -> bool {
        std::ptr::eq(self, other)
    }
}

impl ModelPart {
    /// Tells whether the tensors below a prefix, looked up with `has`, are this part.
    pub fn is_in(&self, has: impl Fn(&str) -> bool) -> bool {
        let together = !self.diffusers_marks.is_empty();
        self.marks.iter().any(|mark| has(mark))
            || together && self.diffusers_marks.iter().all(|mark| has(mark))
    }

    /// Tells whether the settings' `path` may name its file.
    pub fn is_transformer(&self) -> bool {
        self.role == Role::Transformer
    }

    /// A [`ModelPart::other_model`] for a part that is the same in all models.
    pub fn no_other_model(_: HasTensor<'_>) -> Option<OtherModel> {
        None
    }

    /// A [`ModelPart::fits`] for a part with unique names.
    pub fn always_fits(_: &[Arc<WeightFile>]) -> bool {
        true
    }
}

/// The autoencoder's decoder.
pub static AUTOENCODER: ModelPart = ModelPart {
    noun: "autoencoder",
    role: Role::Autoencoder,
    prefixes: &["first_stage_model.", "vae."],
    marks: &["decoder.conv_in.weight"],
    diffusers_marks: &[],
    components: &["vae"],
    target: |name, counts| autoencoder::target(name, counts.levels),
    other_model: ModelPart::no_other_model,
    fits: ModelPart::always_fits,
};

/// The T5 encoder.
pub static T5: ModelPart = ModelPart {
    noun: "T5 encoder",
    role: Role::TextEncoder,
    prefixes: &["text_encoders.t5xxl.transformer.", "text_encoders.t5xxl."],
    marks: &[
        "encoder.block.0.layer.0.SelfAttention.q.weight",
        "enc.blk.0.attn_q.weight",
    ],
    diffusers_marks: &[],
    // The third encoder of a pipeline with two CLIPs, the second of one with a single CLIP.
    components: &["text_encoder_3", "text_encoder_2"],
    target: |name, counts| encoders::t5(name, counts.embeds),
    other_model: ModelPart::no_other_model,
    fits: ModelPart::always_fits,
};

const CLIP_MARKS: [&str; 2] = [
    "text_model.encoder.layers.0.self_attn.q_proj.weight",
    "encoder.layers.0.self_attn.q_proj.weight",
];

/// CLIP-L's text encoder.
pub static CLIP_L: ModelPart = ModelPart {
    noun: "CLIP-L encoder",
    role: Role::TextEncoder,
    prefixes: &["text_encoders.clip_l.transformer.", "text_encoders.clip_l."],
    marks: &CLIP_MARKS,
    diffusers_marks: &[],
    components: &["text_encoder"],
    target: |name, _| encoders::clip(name),
    other_model: ModelPart::no_other_model,
    fits: |files| !encoders::are_clip_g(files),
};

/// CLIP-G's text encoder.
pub static CLIP_G: ModelPart = ModelPart {
    noun: "CLIP-G encoder",
    role: Role::TextEncoder,
    prefixes: &["text_encoders.clip_g.transformer.", "text_encoders.clip_g."],
    marks: &CLIP_MARKS,
    diffusers_marks: &[],
    components: &["text_encoder_2"],
    target: |name, _| encoders::clip(name),
    other_model: ModelPart::no_other_model,
    fits: encoders::are_clip_g,
};

/// The original tensor that a stored tensor belongs to, and how they are related.
#[derive(Debug, PartialEq)]
pub struct TensorTarget {
    /// Name in the original file.
    pub name: String,
    /// Index among the pieces that are joined along the first axis.
    pub slot: usize,
    /// Number of those pieces.
    pub of: usize,
    /// True if its halves are in the opposite order.
    pub swapped: bool,
    /// True for a matrix that is a 1x1 convolution in the original.
    pub square: bool,
}

impl TensorTarget {
    /// A whole tensor of that name.
    pub fn whole(name: String) -> TensorTarget {
        TensorTarget {
            name,
            slot: 0,
            of: 1,
            swapped: false,
            square: false,
        }
    }

    /// Piece `slot` of `of`, which are joined along the first axis.
    pub fn piece(name: String, slot: usize, of: usize) -> TensorTarget {
        TensorTarget {
            slot,
            of,
            ..TensorTarget::whole(name)
        }
    }

    /// A whole tensor with its halves along the first axis in the opposite order.
    pub fn swapped(name: String) -> TensorTarget {
        TensorTarget {
            swapped: true,
            ..TensorTarget::whole(name)
        }
    }
}

/// Counts from all names of a part, which some tables need.
#[derive(Debug)]
pub struct NameCounts {
    /// The last of `transformer_blocks`.
    pub last_block: Option<usize>,
    /// Number of `decoder.up_blocks`.
    pub levels: usize,
    /// True if T5's embedding is called `shared`.
    pub embeds: bool,
}

/// The table of one part, with the counts that it needs.
pub(super) struct Renaming {
    part: &'static ModelPart,
    counts: NameCounts,
}

impl Renaming {
    /// Reads the counts from all names of a part.
    pub(super) fn new(part: &'static ModelPart, names: &[&str]) -> Renaming {
        let largest = |start: &str| {
            let numbers = names.iter().filter_map(|name| indexed(name, start));
            numbers.map(|(number, _)| number).max()
        };
        let counts = NameCounts {
            last_block: largest("transformer_blocks."),
            levels: largest("decoder.up_blocks.").map_or(0, |last| last + 1),
            embeds: names.contains(&"shared.weight"),
        };
        Renaming { part, counts }
    }

    /// The target of a stored tensor; unknown names are kept.
    pub(super) fn target(&self, name: &str) -> TensorTarget {
        let found = (self.part.target)(name, &self.counts);
        found.unwrap_or_else(|| TensorTarget::whole(name.to_owned()))
    }
}

/// Splits a name of the form `start` N `.` rest into (N, rest).
pub fn indexed<'n>(name: &'n str, start: &str) -> Option<(usize, &'n str)> {
    let (number, rest) = name.strip_prefix(start)?.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

/// Splits a name into its layer and its ending, `weight` or `bias`.
pub fn split_end(name: &str) -> Option<(&str, &str)> {
    let (layer, end) = name.rsplit_once('.')?;
    matches!(end, "weight" | "bias").then_some((layer, end))
}

/// Finds a layer's name in a table.
pub fn look_up<'t>(table: &[(&str, &'t str)], layer: &str) -> Option<&'t str> {
    let found = table.iter().find(|(from, _)| *from == layer);
    found.map(|(_, to)| *to)
}

/// The rows of `qkv` that a layer of diffusers' joint attention becomes: which of `streams`, the original names of
/// the image's and the text's, and the slot among queries, keys and values.
pub fn joint_qkv<'s>(layer: &str, streams: [&'s str; 2]) -> Option<(&'s str, usize)> {
    const LAYERS: [[&str; 3]; 2] = [
        ["attn.to_q", "attn.to_k", "attn.to_v"],
        ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"],
    ];
    let slots = LAYERS.map(|layers| layers.iter().position(|known| *known == layer));
    streams
        .into_iter()
        .zip(slots)
        .find_map(|(stream, slot)| Some((stream, slot?)))
}

/// The targets of all tensors of a part, unknown names included.
#[cfg(test)]
pub fn targets(part: &'static ModelPart, names: &[&str]) -> Vec<TensorTarget> {
    let renaming = Renaming::new(part, names);
    names.iter().map(|name| renaming.target(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_the_decoder_are_counted_from_the_other_end() {
        let names = [
            "decoder.up_blocks.0.resnets.2.conv_shortcut.weight",
            "decoder.up_blocks.3.resnets.0.norm1.bias",
            "decoder.mid_block.attentions.0.to_out.0.weight",
        ];
        let found = targets(&AUTOENCODER, &names);
        assert_eq!(found[0].name, "decoder.up.3.block.2.nin_shortcut.weight");
        assert_eq!(found[1].name, "decoder.up.0.block.0.norm1.bias");
        assert_eq!(found[2].name, "decoder.mid.attn_1.proj_out.weight");
        assert!(found[2].square);
    }
}
