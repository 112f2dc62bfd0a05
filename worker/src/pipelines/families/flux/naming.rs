//! Tensor names of diffusers' `FluxTransformer2DModel`, converted to those of black-forest-labs/flux.

use crate::weights::{
    HasTensor, ModelPart, NameCounts, OtherModel, Role, TensorTarget, indexed, joint_qkv, look_up,
    split_end,
};

/// The transformer.
pub static TRANSFORMER: ModelPart = ModelPart {
    noun: "FLUX transformer",
    role: Role::Transformer,
    prefixes: &["model.diffusion_model."],
    marks: &["double_blocks.0.img_attn.qkv.weight"],
    diffusers_marks: &["transformer_blocks.0.attn.to_q.weight", "x_embedder.weight"],
    components: &["transformer"],
    target,
    other_model,
    fits: ModelPart::always_fits,
};

/// Detects FLUX.1 dev, Kontext and Fill, which have an embedder for the guidance.
fn other_model(has: HasTensor<'_>) -> Option<OtherModel> {
    let dev = [
        "guidance_in.in_layer.weight",
        "time_text_embed.guidance_embedder.linear_1.weight",
    ];
    let what = "is of FLUX.1 dev (or Kontext, or Fill), which is not supported; use FLUX.1 schnell";
    dev.into_iter()
        .find(|name| has(name))
        .map(|name| (name, what))
}

const OUTSIDE: [(&str, &str); 8] = [
    ("x_embedder", "img_in"),
    ("context_embedder", "txt_in"),
    (
        "time_text_embed.timestep_embedder.linear_1",
        "time_in.in_layer",
    ),
    (
        "time_text_embed.timestep_embedder.linear_2",
        "time_in.out_layer",
    ),
    (
        "time_text_embed.text_embedder.linear_1",
        "vector_in.in_layer",
    ),
    (
        "time_text_embed.text_embedder.linear_2",
        "vector_in.out_layer",
    ),
    (
        "time_text_embed.guidance_embedder.linear_1",
        "guidance_in.in_layer",
    ),
    (
        "time_text_embed.guidance_embedder.linear_2",
        "guidance_in.out_layer",
    ),
];

const DOUBLE: [(&str, &str); 8] = [
    ("norm1.linear", "img_mod.lin"),
    ("norm1_context.linear", "txt_mod.lin"),
    ("attn.to_out.0", "img_attn.proj"),
    ("attn.to_add_out", "txt_attn.proj"),
    ("ff.net.0.proj", "img_mlp.0"),
    ("ff.net.2", "img_mlp.2"),
    ("ff_context.net.0.proj", "txt_mlp.0"),
    ("ff_context.net.2", "txt_mlp.2"),
];

/// Norms of heads: called `weight` in diffusers, and `scale` in the original.
const DOUBLE_NORMS: [(&str, &str); 4] = [
    ("attn.norm_q", "img_attn.norm.query_norm"),
    ("attn.norm_k", "img_attn.norm.key_norm"),
    ("attn.norm_added_q", "txt_attn.norm.query_norm"),
    ("attn.norm_added_k", "txt_attn.norm.key_norm"),
];

/// The layers of `linear1`, in the order of its rows.
const SINGLE_ROWS: [&str; 4] = ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"];

fn target(name: &str, _: &NameCounts) -> Option<TensorTarget> {
    if let Some((block, rest)) = indexed(name, "transformer_blocks.") {
        return double(block, rest);
    }
    if let Some((block, rest)) = indexed(name, "single_transformer_blocks.") {
        return single(block, rest);
    }
    let (layer, end) = split_end(name)?;
    match layer {
        "norm_out.linear" => Some(TensorTarget::swapped(format!(
            "final_layer.adaLN_modulation.1.{end}"
        ))),
        "proj_out" => Some(TensorTarget::whole(format!("final_layer.linear.{end}"))),
        _ => Some(TensorTarget::whole(format!(
            "{}.{end}",
            look_up(&OUTSIDE, layer)?
        ))),
    }
}

fn double(block: usize, rest: &str) -> Option<TensorTarget> {
    let (layer, end) = split_end(rest)?;
    let full = |name: &str| format!("double_blocks.{block}.{name}");
    if let Some((attention, slot)) = joint_qkv(layer, ["img_attn", "txt_attn"]) {
        return Some(TensorTarget::piece(
            full(&format!("{attention}.qkv.{end}")),
            slot,
            3,
        ));
    }
    if let Some(norm) = look_up(&DOUBLE_NORMS, layer) {
        return Some(TensorTarget::whole(full(&format!("{norm}.scale"))));
    }
    let layer = look_up(&DOUBLE, layer)?;
    Some(TensorTarget::whole(full(&format!("{layer}.{end}"))))
}

fn single(block: usize, rest: &str) -> Option<TensorTarget> {
    let (layer, end) = split_end(rest)?;
    let full = |name: String| format!("single_blocks.{block}.{name}");
    if let Some(slot) = SINGLE_ROWS.iter().position(|row| *row == layer) {
        return Some(TensorTarget::piece(full(format!("linear1.{end}")), slot, 4));
    }
    let name = match layer {
        "norm.linear" => format!("modulation.lin.{end}"),
        "proj_out" => format!("linear2.{end}"),
        "attn.norm_q" => "norm.query_norm.scale".to_owned(),
        "attn.norm_k" => "norm.key_norm.scale".to_owned(),
        _ => return None,
    };
    Some(TensorTarget::whole(full(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::targets;

    #[test]
    fn separate_queries_keys_and_values_are_joined_in_that_order() {
        let found = targets(
            &TRANSFORMER,
            &[
                "transformer_blocks.7.attn.add_v_proj.bias",
                "single_transformer_blocks.12.proj_mlp.weight",
            ],
        );
        let text = "double_blocks.7.txt_attn.qkv.bias".to_owned();
        assert_eq!(found[0], TensorTarget::piece(text, 2, 3));
        let linear1 = "single_blocks.12.linear1.weight".to_owned();
        assert_eq!(found[1], TensorTarget::piece(linear1, 3, 4));
    }

    #[test]
    fn original_and_unknown_names_are_kept() {
        for name in ["double_blocks.0.img_mod.lin.weight", "lora.0.down", "x"] {
            assert_eq!(
                targets(&TRANSFORMER, &[name])[0],
                TensorTarget::whole(name.to_owned())
            );
        }
    }
}
