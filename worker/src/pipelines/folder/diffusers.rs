//! The `config.json` of each component of a diffusers folder, as sizes.
//!
//! Keys are those of diffusers' and transformers' own classes. A component without a file keeps the
//! published sizes.

use crate::fault::Fault;
use crate::pipelines::families::sd3::sizes::{MmditSizes, Sd3ModelSizes};
use crate::pipelines::folder::configuration::read_json;
use crate::pipelines::parts::sizes::{
    ClipActivation, ClipSizes, DecoderSizes, FluxModelSizes, FluxSizes, LatentSizes, T5Sizes,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::Path;

#[derive(Deserialize)]
struct FluxTransformer {
    in_channels: usize,
    num_layers: usize,
    num_single_layers: usize,
    attention_head_dim: usize,
    num_attention_heads: usize,
    joint_attention_dim: usize,
    pooled_projection_dim: usize,
    axes_dims_rope: Vec<usize>,
}

#[derive(Deserialize)]
struct Autoencoder {
    block_out_channels: Vec<usize>,
    layers_per_block: usize,
    latent_channels: usize,
    norm_num_groups: usize,
    scaling_factor: f64,
    shift_factor: f64,
}

#[derive(Deserialize)]
struct T5 {
    d_model: usize,
    d_kv: usize,
    d_ff: usize,
    num_layers: usize,
    num_heads: usize,
    vocab_size: usize,
}

#[derive(Deserialize)]
struct Clip {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    hidden_act: ClipActivation,
    vocab_size: u32,
}

fn read<T: DeserializeOwned>(folder: &Path, component: &str) -> Result<Option<T>, Fault> {
    let path = folder.join(component).join("config.json");
    if !path.is_file() {
        return Ok(None);
    }
    read_json(&path).map(Some)
}

/// Overrides the sizes of a FLUX model with what its components say.
///
/// # Errors
/// [`Fault::Configuration`] for a file that lacks a key, and for sizes that no model can have.
pub fn apply_flux(folder: &Path, sizes: &mut FluxModelSizes) -> Result<(), Fault> {
    if let Some(found) = read::<FluxTransformer>(folder, "transformer")? {
        sizes.transformer = FluxSizes {
            in_channels: found.in_channels,
            hidden_size: found.num_attention_heads * found.attention_head_dim,
            num_heads: found.num_attention_heads,
            depth: found.num_layers,
            depth_single_blocks: found.num_single_layers,
            axes_dim: found.axes_dims_rope,
            context_in_dim: found.joint_attention_dim,
            vec_in_dim: found.pooled_projection_dim,
            ..sizes.transformer.clone()
        };
    }
    (sizes.decoder, sizes.latent) = autoencoder(folder, "vae", &sizes.decoder, sizes.latent)?;
    sizes.t5 = t5(folder, "text_encoder_2", &sizes.t5)?;
    sizes.clip = clip(folder, "text_encoder", &sizes.clip)?;
    sizes.check(&folder.display().to_string())
}

#[derive(Deserialize)]
struct MmditTransformer {
    in_channels: usize,
    num_layers: usize,
    attention_head_dim: usize,
    joint_attention_dim: usize,
    pos_embed_max_size: usize,
}

/// Overrides the sizes of a Stable Diffusion 3.5 model with what its components say.
///
/// # Errors
/// As [`apply_flux`].
pub fn apply_sd3(folder: &Path, sizes: &mut Sd3ModelSizes) -> Result<(), Fault> {
    if let Some(found) = read::<MmditTransformer>(folder, "transformer")? {
        sizes.transformer = MmditSizes {
            depth: found.num_layers,
            head_size: found.attention_head_dim,
            pos_embed_max_size: found.pos_embed_max_size,
            in_channels: found.in_channels,
            context_in_dim: found.joint_attention_dim,
        };
    }
    (sizes.decoder, sizes.latent) = autoencoder(folder, "vae", &sizes.decoder, sizes.latent)?;
    sizes.t5 = t5(folder, "text_encoder_3", &sizes.t5)?;
    sizes.clip_l = clip(folder, "text_encoder", &sizes.clip_l)?;
    sizes.clip_g = clip(folder, "text_encoder_2", &sizes.clip_g)?;
    sizes.check(&folder.display().to_string())
}

/// Sizes of an autoencoder and of its latents.
///
/// # Errors
/// As [`apply_flux`].
pub fn autoencoder(
    folder: &Path,
    component: &str,
    decoder: &DecoderSizes,
    latent: LatentSizes,
) -> Result<(DecoderSizes, LatentSizes), Fault> {
    let Some(found) = read::<Autoencoder>(folder, component)? else {
        return Ok((decoder.clone(), latent));
    };
    let channels = found.block_out_channels;
    let first = channels.first().copied().unwrap_or(0);
    if first == 0 || !channels.iter().all(|width| width.is_multiple_of(first)) {
        let what = format!("{channels:?} are not multiples of the first");
        let file = folder.join(component).join("config.json");
        return Err(Fault::configuration(
            file.display().to_string(),
            "block_out_channels",
            what,
        ));
    }
    let decoder = DecoderSizes {
        ch: first,
        ch_mult: channels.iter().map(|width| width / first).collect(),
        num_res_blocks: found.layers_per_block,
        norm_groups: found.norm_num_groups,
        z_channels: found.latent_channels,
    };
    let latent = LatentSizes {
        scale_factor: found.scaling_factor,
        shift_factor: found.shift_factor,
    };
    Ok((decoder, latent))
}

/// Sizes of a T5 encoder.
///
/// # Errors
/// As [`apply_flux`].
pub fn t5(folder: &Path, component: &str, published: &T5Sizes) -> Result<T5Sizes, Fault> {
    let found = read::<T5>(folder, component)?;
    Ok(found.map_or(published.clone(), |found| T5Sizes {
        d_model: found.d_model,
        d_kv: found.d_kv,
        d_ff: found.d_ff,
        num_layers: found.num_layers,
        num_heads: found.num_heads,
        vocab_size: found.vocab_size,
        length: published.length,
    }))
}

/// Sizes of a CLIP encoder. Its end token is the last of the vocabulary: the key for it is wrong in
/// published files, which transformers knows and works around.
///
/// # Errors
/// As [`apply_flux`].
pub fn clip(folder: &Path, component: &str, published: &ClipSizes) -> Result<ClipSizes, Fault> {
    let Some(found) = read::<Clip>(folder, component)? else {
        return Ok(published.clone());
    };
    let end = found.vocab_size.saturating_sub(1);
    let pad = if published.pad == published.eos {
        end
    } else {
        published.pad
    };
    Ok(ClipSizes {
        hidden_size: found.hidden_size,
        intermediate_size: found.intermediate_size,
        num_hidden_layers: found.num_hidden_layers,
        num_attention_heads: found.num_attention_heads,
        max_position_embeddings: found.max_position_embeddings,
        hidden_act: found.hidden_act,
        eos: end,
        pad,
    })
}
