//! Tensor names of diffusers' `AutoencoderKL`, converted to LDM's. Only the decoder is needed.

use super::{TensorTarget, indexed, look_up, split_end};

const OUTSIDE: [(&str, &str); 5] = [
    ("conv_norm_out", "norm_out"),
    ("mid_block.resnets.0", "mid.block_1"),
    ("mid_block.resnets.1", "mid.block_2"),
    ("conv_in", "conv_in"),
    ("conv_out", "conv_out"),
];

/// Layers of the attention; the names of older files are last.
const ATTENTION: [(&str, &str); 9] = [
    ("group_norm", "norm"),
    ("to_q", "q"),
    ("to_k", "k"),
    ("to_v", "v"),
    ("to_out.0", "proj_out"),
    ("query", "q"),
    ("key", "k"),
    ("value", "v"),
    ("proj_attn", "proj_out"),
];

/// Converts a name. `levels` is the number of `up_blocks`, which diffusers counts from the coarsest.
pub(super) fn target(name: &str, levels: usize) -> Option<TensorTarget> {
    let (layer, end) = split_end(name.strip_prefix("decoder.")?)?;
    if let Some(layer) = layer.strip_prefix("mid_block.attentions.0.") {
        let to = look_up(&ATTENTION, layer)?;
        return Some(TensorTarget {
            square: end == "weight" && to != "norm",
            ..TensorTarget::whole(format!("decoder.mid.attn_1.{to}.{end}"))
        });
    }
    let to = match indexed(layer, "up_blocks.") {
        Some((block, rest)) => {
            let level = levels.checked_sub(block + 1)?;
            format!("up.{level}.{}", of_level(rest)?)
        }
        None => outside(layer)?,
    };
    Some(TensorTarget::whole(format!("decoder.{to}.{end}")))
}

fn of_level(rest: &str) -> Option<String> {
    if rest == "upsamplers.0.conv" {
        return Some("upsample.conv".to_owned());
    }
    let (block, layer) = indexed(rest, "resnets.")?;
    Some(format!("block.{block}.{}", residual(layer)))
}

fn outside(layer: &str) -> Option<String> {
    if let Some(to) = look_up(&OUTSIDE, layer) {
        return Some(to.to_owned());
    }
    let (block, inner) = layer.rsplit_once('.')?;
    Some(format!("{}.{}", look_up(&OUTSIDE, block)?, residual(inner)))
}

fn residual(layer: &str) -> &str {
    if layer == "conv_shortcut" {
        "nin_shortcut"
    } else {
        layer
    }
}
