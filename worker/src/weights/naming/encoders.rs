//! llama.cpp's names of T5, and what transformers has called its CLIP in turn.

use super::{Place, indexed, look_up, split_end};

const T5_BLOCK: [(&str, &str); 10] = [
    ("attn_q", "0.SelfAttention.q"),
    ("attn_k", "0.SelfAttention.k"),
    ("attn_v", "0.SelfAttention.v"),
    ("attn_o", "0.SelfAttention.o"),
    ("attn_rel_b", "0.SelfAttention.relative_attention_bias"),
    ("attn_norm", "0.layer_norm"),
    ("ffn_gate", "1.DenseReluDense.wi_0"),
    ("ffn_up", "1.DenseReluDense.wi_1"),
    ("ffn_down", "1.DenseReluDense.wo"),
    ("ffn_norm", "1.layer_norm"),
];

/// `has_shared` says whether the embedding is there under its own name.
pub(super) fn t5(name: &str, has_shared: bool) -> Option<Place> {
    if let Some((block, rest)) = indexed(name, "enc.blk.") {
        let (layer, end) = split_end(rest)?;
        let layer = look_up(&T5_BLOCK, layer)?;
        return Some(Place::whole(format!(
            "encoder.block.{block}.layer.{layer}.{end}"
        )));
    }
    let to = match name {
        "token_embd.weight" => "shared.weight",
        "enc.output_norm.weight" => "encoder.final_layer_norm.weight",
        "encoder.embed_tokens.weight" if !has_shared => "shared.weight",
        _ => return None,
    };
    Some(Place::whole(to.to_owned()))
}

/// Newer versions of transformers leave `text_model` out.
pub(super) fn clip(name: &str) -> Option<Place> {
    let bare = ["embeddings.", "encoder.", "final_layer_norm."];
    let bare = bare.iter().any(|start| name.starts_with(start));
    bare.then(|| Place::whole(format!("text_model.{name}")))
}
