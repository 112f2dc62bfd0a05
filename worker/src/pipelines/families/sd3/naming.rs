//! Tensor names of diffusers' `SD3Transformer2DModel`, converted to those of Stability-AI/sd3.5.

use crate::weights::{
    HasTensor, ModelPart, NameCounts, OtherModel, Role, TensorTarget, indexed, joint_qkv, look_up,
    split_end,
};

/// The transformer.
pub static TRANSFORMER: ModelPart = ModelPart {
    noun: "SD3 transformer",
    role: Role::Transformer,
    prefixes: &["model.diffusion_model."],
    marks: &["joint_blocks.0.x_block.attn.qkv.weight"],
    diffusers_marks: &[
        "transformer_blocks.0.attn.to_q.weight",
        "pos_embed.proj.weight",
    ],
    components: &["transformer"],
    target,
    other_model,
    fits: ModelPart::always_fits,
};

/// Detects Stable Diffusion 3.5 Medium by its second attentions, and 3 Medium by its missing norms of queries.
fn other_model(has: HasTensor<'_>) -> Option<OtherModel> {
    const DRAWN: &str =
        "is of Stable Diffusion 3.5 Medium, which is not supported; use 3.5 Large or Large Turbo";
    let medium = [
        "joint_blocks.0.x_block.attn2.qkv.weight",
        "transformer_blocks.0.attn2.to_q.weight",
    ];
    if let Some(tensor) = medium.into_iter().find(|name| has(name)) {
        return Some((tensor, DRAWN));
    }
    let normed = [
        "joint_blocks.0.x_block.attn.ln_q.weight",
        "transformer_blocks.0.attn.norm_q.weight",
    ];
    if normed.into_iter().any(has) {
        return None;
    }
    let what = "comes without norms of its queries, so this is Stable Diffusion 3 Medium, which is \
                not drawn; 3.5 Large and Large Turbo are";
    let first = [
        "joint_blocks.0.x_block.attn.qkv.weight",
        "transformer_blocks.0.attn.to_q.weight",
    ];
    first
        .into_iter()
        .find(|name| has(name))
        .map(|name| (name, what))
}

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

/// Converts a name. In diffusers, the last block's context norm has scale before shift; in the original, shift is
/// first.
fn target(name: &str, counts: &NameCounts) -> Option<TensorTarget> {
    if let Some((number, rest)) = indexed(name, "transformer_blocks.") {
        return block(number, rest, counts.last_block == Some(number));
    }
    if name == "pos_embed.pos_embed" {
        return Some(TensorTarget::whole("pos_embed".to_owned()));
    }
    let (layer, end) = split_end(name)?;
    if layer == "norm_out.linear" {
        let modulation = format!("final_layer.adaLN_modulation.1.{end}");
        return Some(TensorTarget::swapped(modulation));
    }
    Some(TensorTarget::whole(format!(
        "{}.{end}",
        look_up(&OUTSIDE, layer)?
    )))
}

fn block(number: usize, rest: &str, is_last: bool) -> Option<TensorTarget> {
    let (layer, end) = split_end(rest)?;
    let full = |name: &str| format!("joint_blocks.{number}.{name}.{end}");
    if let Some((stream, slot)) = joint_qkv(layer, ["x_block", "context_block"]) {
        return Some(TensorTarget::piece(
            full(&format!("{stream}.attn.qkv")),
            slot,
            3,
        ));
    }
    if layer == "norm1_context.linear" {
        let name = full("context_block.adaLN_modulation.1");
        return Some(if is_last {
            TensorTarget::swapped(name)
        } else {
            TensorTarget::whole(name)
        });
    }
    Some(TensorTarget::whole(full(look_up(&BLOCK, layer)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::targets;

    #[test]
    fn only_the_last_blocks_context_norm_has_its_halves_swapped() {
        let names = [
            "transformer_blocks.0.norm1_context.linear.weight",
            "transformer_blocks.1.norm1_context.linear.weight",
            "norm_out.linear.bias",
        ];
        let turned: Vec<bool> = targets(&TRANSFORMER, &names)
            .iter()
            .map(|p| p.swapped)
            .collect();
        assert_eq!(turned, [false, true, true]);
    }
}
