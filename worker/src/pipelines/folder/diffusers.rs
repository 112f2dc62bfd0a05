//! Reads sizes from the `config.json` of each component of a diffusers folder.
//!
//! Keys are those of the classes in diffusers and transformers. A component without the file has the published
//! sizes.

use crate::fault::WorkerFault;
use crate::pipelines::folder::text_file::read_json;
use crate::pipelines::parts::sizes::TransformerSizes;
use crate::pipelines::parts::sizes::{
    ClipActivation, ClipSizes, DecoderSizes, LatentSizes, ModelSizes, T5Sizes,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::Path;

#[derive(Deserialize)]
struct AutoencoderConfig {
    block_out_channels: Vec<usize>,
    layers_per_block: usize,
    latent_channels: usize,
    norm_num_groups: usize,
    scaling_factor: f64,
    shift_factor: f64,
}

#[derive(Deserialize)]
struct T5Config {
    d_model: usize,
    d_kv: usize,
    d_ff: usize,
    num_layers: usize,
    num_heads: usize,
    vocab_size: usize,
}

#[derive(Deserialize)]
struct ClipConfig {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    hidden_act: ClipActivation,
    vocab_size: u32,
}

fn read<T: DeserializeOwned>(folder: &Path, component: &str) -> Result<Option<T>, WorkerFault> {
    let path = folder.join(component).join("config.json");
    if !path.is_file() {
        return Ok(None);
    }
    read_json(&path).map(Some)
}

/// Replaces the sizes of a model by those of its components. A pipeline numbers its encoders: CLIP-L, CLIP-G if
/// there is one, then T5.
///
/// # Errors
/// [`WorkerFault::Configuration`] for a file that lacks a key, and for impossible sizes.
pub fn apply<T: TransformerSizes>(
    folder: &Path,
    sizes: &mut ModelSizes<T>,
) -> Result<(), WorkerFault> {
    if let Some(found) = read::<T::Diffusers>(folder, "transformer")? {
        sizes.transformer = T::from_diffusers(found, &sizes.transformer);
    }
    (sizes.decoder, sizes.latent) = autoencoder(folder, "vae", &sizes.decoder, sizes.latent)?;
    let encoders = &mut sizes.encoders;
    let of_t5 = match encoders.clip_g {
        Some(_) => "text_encoder_3",
        None => "text_encoder_2",
    };
    encoders.t5 = t5(folder, of_t5, &encoders.t5)?;
    encoders.clip_l = clip(folder, "text_encoder", &encoders.clip_l)?;
    let clip_g = encoders.clip_g.as_ref();
    let clip_g = clip_g.map(|published| clip(folder, "text_encoder_2", published));
    encoders.clip_g = clip_g.transpose()?;
    T::check(sizes, &folder.display().to_string())
}

/// Reads the sizes of an autoencoder and of its latents.
///
/// # Errors
/// As [`apply`].
pub fn autoencoder(
    folder: &Path,
    component: &str,
    decoder: &DecoderSizes,
    latent: LatentSizes,
) -> Result<(DecoderSizes, LatentSizes), WorkerFault> {
    let Some(found) = read::<AutoencoderConfig>(folder, component)? else {
        return Ok((decoder.clone(), latent));
    };
    let channels = found.block_out_channels;
    let first = channels.first().copied().unwrap_or(0);
    if first == 0 || !channels.iter().all(|width| width.is_multiple_of(first)) {
        let what = format!("{channels:?} are not multiples of the first");
        let file = folder.join(component).join("config.json");
        return Err(WorkerFault::configuration(
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

/// Reads the sizes of a T5 encoder.
///
/// # Errors
/// As [`apply`].
pub fn t5(folder: &Path, component: &str, published: &T5Sizes) -> Result<T5Sizes, WorkerFault> {
    let found = read::<T5Config>(folder, component)?;
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

/// Reads the sizes of a CLIP encoder. The end token is the last of the vocabulary; the key for it is wrong in
/// published files, for which transformers has a workaround.
///
/// # Errors
/// As [`apply`].
pub fn clip(
    folder: &Path,
    component: &str,
    published: &ClipSizes,
) -> Result<ClipSizes, WorkerFault> {
    let Some(found) = read::<ClipConfig>(folder, component)? else {
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
