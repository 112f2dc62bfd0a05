//! diffusers' `SD3Transformer2DModel` in the names of Stability-AI/sd3.5.

use super::{Place, indexed, look_up, split_end};

const OUTSIDE: [(&str, &str); 7] = [
    ("pos_embed.proj", "x_embedder.proj"),
    ("context_embedder", "context_embedder"),
    (
        "time_text_embed.timestep_embedder.linear_1",
        "t_embedder.mlp.0",
    ),
    (
        "time_text_embed.timestep_embedder.linear_2",
        "t_embedder.mlp.2",
    ),
    ("time_text_embed.text_embedder.linear_1", "y_embedder.mlp.0"),
    ("time_text_embed.text_embedder.linear_2", "y_embedder.mlp.2"),
    ("proj_out", "final_layer.linear"),
];

const BLOCK: [(&str, &str); 11] = [
    ("norm1.linear", "x_block.adaLN_modulation.1"),
    ("attn.norm_q", "x_block.attn.ln_q"),
    ("attn.norm_k", "x_block.attn.ln_k"),
    ("attn.norm_added_q", "context_block.attn.ln_q"),
    ("attn.norm_added_k", "context_block.attn.ln_k"),
    ("attn.to_out.0", "x_block.attn.proj"),
    ("attn.to_add_out", "context_block.attn.proj"),
    ("ff.net.0.proj", "x_block.mlp.fc1"),
    ("ff.net.2", "x_block.mlp.fc2"),
    ("ff_context.net.0.proj", "context_block.mlp.fc1"),
    ("ff_context.net.2", "context_block.mlp.fc2"),
];

/// In the order of the rows of `qkv`.
const IMAGE_HEADS: [&str; 3] = ["attn.to_q", "attn.to_k", "attn.to_v"];
const TEXT_HEADS: [&str; 3] = ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"];

/// `last` is the last block: its context norm has scale before shift, the original shift before scale.
pub(super) fn place(name: &str, last: Option<usize>) -> Option<Place> {
    if let Some((number, rest)) = indexed(name, "transformer_blocks.") {
        return block(number, rest, last == Some(number));
    }
    if name == "pos_embed.pos_embed" {
        return Some(Place::whole("pos_embed".to_owned()));
    }
    let (layer, end) = split_end(name)?;
    if layer == "norm_out.linear" {
        let modulation = format!("final_layer.adaLN_modulation.1.{end}");
        return Some(Place::swapped(modulation));
    }
    Some(Place::whole(format!("{}.{end}", look_up(&OUTSIDE, layer)?)))
}

fn block(number: usize, rest: &str, is_last: bool) -> Option<Place> {
    let (layer, end) = split_end(rest)?;
    let full = |name: &str| format!("joint_blocks.{number}.{name}.{end}");
    for (heads, stream) in [(IMAGE_HEADS, "x_block"), (TEXT_HEADS, "context_block")] {
        if let Some(slot) = heads.iter().position(|head| *head == layer) {
            return Some(Place::piece(full(&format!("{stream}.attn.qkv")), slot, 3));
        }
    }
    if layer == "norm1_context.linear" {
        let name = full("context_block.adaLN_modulation.1");
        return Some(if is_last {
            Place::swapped(name)
        } else {
            Place::whole(name)
        });
    }
    Some(Place::whole(full(look_up(&BLOCK, layer)?)))
}
