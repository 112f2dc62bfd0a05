//! From the names that a file uses to the names that the pipelines ask for.
//!
//! Original names are those of the first published file: black-forest-labs/flux for FLUX and the
//! autoencoder, Stability-AI/sd3.5 for the MMDiT, transformers for the encoders. Other projects' names are
//! told by looking at them; a name that no table knows stays as it is, and is refused in the end by
//! that name.
//!
//! Source of the tables: `scripts/convert_flux_to_diffusers.py` and `convert_sd3_to_diffusers.py` in
//! huggingface/diffusers, read backwards; `gguf-py/gguf/tensor_mapping.py` in ggml-org/llama.cpp for T5.

mod autoencoder;
mod encoders;
mod flux;
mod mmdit;

/// A part of a model, as far as its tensors' names go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The FLUX transformer.
    Flux,
    /// The transformer of Stable Diffusion 3.5.
    Mmdit,
    /// The autoencoder of both.
    Autoencoder,
    /// The T5 encoder of both.
    T5,
    /// CLIP-L of both.
    ClipL,
    /// CLIP-G of Stable Diffusion 3.5.
    ClipG,
}

impl Part {
    /// Prefixes under which a file may hold this part, beside none at all.
    pub fn prefixes(self) -> &'static [&'static str] {
        match self {
            Part::Flux | Part::Mmdit => &["model.diffusion_model."],
            Part::Autoencoder => &["first_stage_model.", "vae."],
            Part::T5 => &["text_encoders.t5xxl.transformer.", "text_encoders.t5xxl."],
            Part::ClipL => &["text_encoders.clip_l.transformer.", "text_encoders.clip_l."],
            Part::ClipG => &["text_encoders.clip_g.transformer.", "text_encoders.clip_g."],
        }
    }

    /// Whether tensors of these names, read by `has` below a prefix, are this part.
    pub fn is_in(self, has: impl Fn(&str) -> bool) -> bool {
        let marks: &[&str] = match self {
            Part::Flux => &["double_blocks.0.img_attn.qkv.weight"],
            Part::Mmdit => &["joint_blocks.0.x_block.attn.qkv.weight"],
            Part::Autoencoder => &["decoder.conv_in.weight"],
            Part::T5 => &[
                "encoder.block.0.layer.0.SelfAttention.q.weight",
                "enc.blk.0.attn_q.weight",
            ],
            Part::ClipL | Part::ClipG => &[
                "text_model.encoder.layers.0.self_attn.q_proj.weight",
                "encoder.layers.0.self_attn.q_proj.weight",
            ],
        };
        let diffusers = has("transformer_blocks.0.attn.to_q.weight");
        marks.iter().any(|mark| has(mark))
            || match self {
                Part::Flux => diffusers && has("x_embedder.weight"),
                Part::Mmdit => diffusers && has("pos_embed.proj.weight"),
                _ => false,
            }
    }
}

/// Where a stored tensor goes.
#[derive(Debug, PartialEq)]
pub(super) struct Place {
    /// Original name of what it is part of.
    pub(super) name: String,
    /// Its place among the pieces that are joined along the first axis.
    pub(super) slot: usize,
    /// Number of those pieces.
    pub(super) of: usize,
    /// Its halves are the other way round.
    pub(super) swapped: bool,
    /// A matrix here, a convolution of 1x1 in the original.
    pub(super) square: bool,
}

impl Place {
    fn whole(name: String) -> Place {
        Place {
            name,
            slot: 0,
            of: 1,
            swapped: false,
            square: false,
        }
    }

    fn piece(name: String, slot: usize, of: usize) -> Place {
        Place {
            slot,
            of,
            ..Place::whole(name)
        }
    }

    fn swapped(name: String) -> Place {
        Place {
            swapped: true,
            ..Place::whole(name)
        }
    }
}

/// The table for one part, with the counts that some names are turned around by.
pub(super) struct Renaming {
    part: Part,
    last_block: Option<usize>, // of `transformer_blocks`
    levels: usize,             // of `decoder.up_blocks`
    embeds: bool,              // T5's embedding under `shared`
}

impl Renaming {
    /// Looks at all names of a part.
    pub(super) fn new(part: Part, names: &[&str]) -> Renaming {
        let largest = |start: &str| {
            let numbers = names.iter().filter_map(|name| indexed(name, start));
            numbers.map(|(number, _)| number).max()
        };
        Renaming {
            part,
            last_block: largest("transformer_blocks."),
            levels: largest("decoder.up_blocks.").map_or(0, |last| last + 1),
            embeds: names.contains(&"shared.weight"),
        }
    }

    /// The place of a stored tensor; itself for a name that no table has.
    pub(super) fn place(&self, name: &str) -> Place {
        let found = match self.part {
            Part::Flux => flux::place(name),
            Part::Mmdit => mmdit::place(name, self.last_block),
            Part::Autoencoder => autoencoder::place(name, self.levels),
            Part::T5 => encoders::t5(name, self.embeds),
            Part::ClipL | Part::ClipG => encoders::clip(name),
        };
        found.unwrap_or_else(|| Place::whole(name.to_owned()))
    }
}

/// `start` N `.` rest, as (N, rest).
fn indexed<'n>(name: &'n str, start: &str) -> Option<(usize, &'n str)> {
    let (number, rest) = name.strip_prefix(start)?.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

/// The layer of a name without `weight` or `bias`, and that word.
fn split_end(name: &str) -> Option<(&str, &str)> {
    let (layer, end) = name.rsplit_once('.')?;
    matches!(end, "weight" | "bias").then_some((layer, end))
}

/// What a table says of a layer's name.
fn look_up<'t>(table: &[(&str, &'t str)], layer: &str) -> Option<&'t str> {
    let found = table.iter().find(|(from, _)| *from == layer);
    found.map(|(_, to)| *to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(part: Part, names: &[&str]) -> Vec<Place> {
        let renaming = Renaming::new(part, names);
        names.iter().map(|name| renaming.place(name)).collect()
    }

    #[test]
    fn queries_keys_and_values_that_lie_apart_are_joined_in_that_order() {
        let found = placed(
            Part::Flux,
            &[
                "transformer_blocks.7.attn.add_v_proj.bias",
                "single_transformer_blocks.12.proj_mlp.weight",
            ],
        );
        let text = "double_blocks.7.txt_attn.qkv.bias".to_owned();
        assert_eq!(found[0], Place::piece(text, 2, 3));
        let linear1 = "single_blocks.12.linear1.weight".to_owned();
        assert_eq!(found[1], Place::piece(linear1, 3, 4));
    }

    #[test]
    fn the_context_norm_has_its_halves_turned_in_the_last_block_alone() {
        let names = [
            "transformer_blocks.0.norm1_context.linear.weight",
            "transformer_blocks.1.norm1_context.linear.weight",
            "norm_out.linear.bias",
        ];
        let turned: Vec<bool> = placed(Part::Mmdit, &names)
            .iter()
            .map(|p| p.swapped)
            .collect();
        assert_eq!(turned, [false, true, true]);
    }

    #[test]
    fn the_decoders_levels_are_counted_from_the_other_end() {
        let names = [
            "decoder.up_blocks.0.resnets.2.conv_shortcut.weight",
            "decoder.up_blocks.3.resnets.0.norm1.bias",
            "decoder.mid_block.attentions.0.to_out.0.weight",
        ];
        let found = placed(Part::Autoencoder, &names);
        assert_eq!(found[0].name, "decoder.up.3.block.2.nin_shortcut.weight");
        assert_eq!(found[1].name, "decoder.up.0.block.0.norm1.bias");
        assert_eq!(found[2].name, "decoder.mid.attn_1.proj_out.weight");
        assert!(found[2].square);
    }

    #[test]
    fn original_names_and_unknown_ones_stay() {
        for name in ["double_blocks.0.img_mod.lin.weight", "lora.0.down", "x"] {
            assert_eq!(
                placed(Part::Flux, &[name])[0],
                Place::whole(name.to_owned())
            );
        }
    }
}
