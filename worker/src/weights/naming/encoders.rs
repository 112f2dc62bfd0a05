//! Tensor names of T5 in llama.cpp, and of CLIP in newer versions of transformers.

use super::super::file::WeightFile;
use super::{TensorTarget, indexed, look_up, split_end};

use std::sync::Arc;

/// Width of CLIP-G.
const CLIP_G_WIDTH: usize = 1280;

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

/// Converts a name of T5. `has_shared` tells whether the file contains `shared.weight`.
pub(super) fn t5(name: &str, has_shared: bool) -> Option<TensorTarget> {
    if let Some((block, rest)) = indexed(name, "enc.blk.") {
        let (layer, end) = split_end(rest)?;
        let layer = look_up(&T5_BLOCK, layer)?;
        return Some(TensorTarget::whole(format!(
            "encoder.block.{block}.layer.{layer}.{end}"
        )));
    }
    let to = match name {
        "token_embd.weight" => "shared.weight",
        "enc.output_norm.weight" => "encoder.final_layer_norm.weight",
        "encoder.embed_tokens.weight" if !has_shared => "shared.weight",
        _ => return None,
    };
    Some(TensorTarget::whole(to.to_owned()))
}

/// Converts a name of CLIP: newer versions of transformers omit `text_model`.
pub(super) fn clip(name: &str) -> Option<TensorTarget> {
    let bare = ["embeddings.", "encoder.", "final_layer_norm."];
    let bare = bare.iter().any(|start| name.starts_with(start));
    bare.then(|| TensorTarget::whole(format!("text_model.{name}")))
}

/// Tells whether files without a prefix are CLIP-G and not CLIP-L, which has the same tensor names: by the width, or
/// by the file's name.
pub(super) fn are_clip_g(files: &[Arc<WeightFile>]) -> bool {
    let norms = [
        "text_model.final_layer_norm.weight",
        "final_layer_norm.weight",
    ];
    let shapes = norms
        .iter()
        .flat_map(|name| files.iter().map(|file| file.shape(name)));
    let width = shapes.flatten().next().and_then(|shape| shape.first());
    let named = files.iter().any(|file| {
        let name = file.name().rsplit('/').next();
        name.is_some_and(|name| name.contains("clip_g"))
    });
    named || width == Some(&CLIP_G_WIDTH)
}
