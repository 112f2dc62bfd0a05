//! Stable Diffusion 3.5: T5, CLIP-L and CLIP-G, the MMDiT over patches of latents, and an autoencoder.
//!
//! Source of the encoders' states: `StableDiffusion3Pipeline.encode_prompt` in diffusers. CLIP-L is padded with its
//! end token, CLIP-G with "!". The states of both are those before the last block, without the final norm.

mod block;
pub mod naming;
pub mod sizes;
pub mod transformer;

use crate::embedded_files;
use crate::fault::WorkerFault;
use crate::pipelines::architecture::{Architecture, DrawingLimits, RecordNames, TokenCost};
use crate::pipelines::drawing;
use crate::pipelines::embedded::EmbeddedModel;
use crate::pipelines::encoders::Encoded;
use crate::pipelines::folder::configuration::Described;
use crate::pipelines::folder::search::{FolderLayout, Shapes, T5_FILES};
use crate::pipelines::parts::clip::ClipStates;
use crate::pipelines::parts::layers::finite;
use crate::pipelines::parts::sizes::ModelSizes;
use crate::pipelines::pipeline::JobParameters;
use crate::pipelines::preview::Colours;
use crate::pipelines::text::{EncoderIds, TextEncoders};
use crate::sampling::sigmas;
use crate::weights::{self, Section};
use candle_core::{D, Tensor};
use ipc_protocol::about::GuidanceRange;
use ipc_protocol::family::Family;
use sizes::MmditSizes;
use std::borrow::Cow;
use transformer::{GuidedPrompt, Mmdit};

/// The architecture of Stable Diffusion 3.5.
pub struct Sd3;

/// The supported guidance.
const GUIDANCE: GuidanceRange = GuidanceRange {
    default: 0.0,
    max: 10.0,
};

/// Memory of a token in a joint block, in widths of a stream.
const TOKEN_WIDTHS: f64 = 20.0;

/// The file names of Stable Diffusion 3.5.
pub static LAYOUT: FolderLayout = FolderLayout {
    family: Family::new("sd3"),
    title: "Stable Diffusion 3.5",
    model: "Stable Diffusion 3.5",
    transformer: &naming::TRANSFORMER,
    transformer_words: &["turbo"],
    names: &[
        (&naming::TRANSFORMER, &["sd3.5_large_turbo.safetensors"]),
        (
            &weights::AUTOENCODER,
            &["sd3.5_vae.safetensors", "sd3_vae.safetensors"],
        ),
        (&weights::T5, T5_FILES),
        (
            &weights::CLIP_L,
            &["text_encoders/clip_l.safetensors", "clip_l.safetensors"],
        ),
        (
            &weights::CLIP_G,
            &["text_encoders/clip_g.safetensors", "clip_g.safetensors"],
        ),
    ],
    autoencoder_stem: None,
    notes: &[(
        &weights::T5,
        "; Stable Diffusion 3.5 needs all three text encoders, including T5",
    )],
    schedule_shift: 3.0,
};

/// The small embedded model. One file contains transformer and autoencoder, as in the published model.
pub static POCKET: EmbeddedModel = EmbeddedModel {
    key: "pocket-sd3",
    family: LAYOUT.family,
    files: embedded_files!("pocket-sd3": "SHA256SUMS", "config.json", "t5_tokenizer.json",
        "clip_tokenizer.json", "sd3.5_large_turbo.safetensors", "t5xxl.safetensors",
        "text_encoders/clip_l.safetensors", "text_encoders/clip_g.safetensors"),
    parts: &[
        (&naming::TRANSFORMER, "sd3.5_large_turbo.safetensors"),
        (&weights::AUTOENCODER, "sd3.5_large_turbo.safetensors"),
        (&weights::T5, "t5xxl.safetensors"),
        (&weights::CLIP_L, "text_encoders/clip_l.safetensors"),
        (&weights::CLIP_G, "text_encoders/clip_g.safetensors"),
    ],
};

/// The colours of Stable Diffusion 3's latents. Source: as for FLUX, originally `sd3_impls.py` in
/// Stability-AI/sd3.5.
const COLOURS: Colours = Colours {
    weights: Cow::Borrowed(&[
        [-0.0645, 0.0177, 0.1052],
        [0.0028, 0.0312, 0.0650],
        [0.1848, 0.0762, 0.0360],
        [0.0944, 0.0360, 0.0889],
        [0.0897, 0.0506, -0.0364],
        [-0.0020, 0.1203, 0.0284],
        [0.0855, 0.0118, 0.0283],
        [-0.0539, 0.0658, 0.1047],
        [-0.0057, 0.0116, 0.0700],
        [-0.0412, 0.0281, -0.0039],
        [0.1106, 0.1171, 0.1220],
        [-0.0248, 0.0682, -0.0481],
        [0.0815, 0.0846, 0.1207],
        [-0.0120, -0.0055, -0.0867],
        [-0.0749, -0.0634, -0.0456],
        [-0.1418, -0.1457, -0.1259],
    ]),
    bias: [0.0; 3],
};

/// The embeddings of a prompt, and of a negative prompt with the guidance.
pub struct Guided {
    prompt: GuidedPrompt,
    guidance: Option<f64>,
}

impl Architecture for Sd3 {
    type Sizes = MmditSizes;
    type Transformer = Mmdit;
    type Conditioning = Guided;

    const LAYOUT: &'static FolderLayout = &LAYOUT;
    const GUIDANCE: Option<GuidanceRange> = Some(GUIDANCE);
    const SAMPLER: &'static str = "euler, shifted sigmas";
    const RECORD: RecordNames = RecordNames {
        text: "context",
        clip_l_ids: "clip_l_ids",
        is_packed: false,
    };

    fn published() -> Described<MmditSizes> {
        Described::published(sizes::large_turbo(), COLOURS)
    }

    fn shapes(sizes: &MmditSizes) -> Shapes {
        let width = sizes.hidden_size();
        let last = sizes.depth.saturating_sub(1);
        vec![
            (
                "context_embedder.weight".to_owned(),
                vec![width, sizes.context_in_dim],
            ),
            (
                format!("joint_blocks.{last}.x_block.attn.qkv.weight"),
                vec![3 * width, width],
            ),
        ]
    }

    fn blocks(sizes: &MmditSizes) -> usize {
        sizes.depth
    }

    fn limits(described: &Described<MmditSizes>) -> DrawingLimits {
        let (side, sizes) = (described.image_size, &described.sizes);
        // The limit is the table of positions: 1536 pixels in the published model, less in smaller ones.
        let multiple = drawing::size_multiple(sizes.decoder.latent_shape());
        let table = sizes.transformer.pos_embed_max_size as u32 * multiple;
        let (min_side, max_side) = if side >= 1024 {
            (256, 1536.min(table))
        } else {
            (side / 2, (side * 2).min(table))
        };
        DrawingLimits {
            // If the table is smaller than the default size, the default is the largest size of the table.
            default_side: side.min(max_side),
            min_side: min_side.min(max_side),
            max_side,
            max_steps: 50,
        }
    }

    /// With guidance, that is for a batch of two.
    fn token_cost(sizes: &ModelSizes<MmditSizes>) -> TokenCost {
        let t = &sizes.transformer;
        let (hidden, heads) = (t.hidden_size() as f64, t.depth as f64);
        let value = size_of::<f32>() as f64;
        let encoders = &sizes.encoders;
        // A joint block holds both streams, queries, keys, values, the result of the attention, and the MLP.
        TokenCost {
            bytes: 2.0 * TOKEN_WIDTHS * hidden * value,
            scores: 2.0 * 2.0 * heads * value,
            text: (encoders.t5.length + encoders.clip_l.max_position_embeddings) as f64,
        }
    }

    fn load(section: &Section, sizes: &ModelSizes<MmditSizes>) -> Result<Mmdit, WorkerFault> {
        let pooled = sizes::pooled_width(&sizes.encoders);
        Mmdit::load(section, &sizes.transformer, pooled)
    }

    fn encode(encoders: &TextEncoders, ids: EncoderIds) -> Result<Encoded, WorkerFault> {
        let t5 = encoders.t5(ids.t5)?;
        finite(&t5, || "T5 encoder".to_owned())?;
        let clip_g = ids.clip_g.unwrap_or_default();
        let (l, g) = (encoders.clip_l(ids.clip_l)?, encoders.clip_g(clip_g)?);
        let encoded = join(&t5, &l, &g)?;
        finite(&encoded.text, || "CLIP encoders".to_owned())?;
        finite(&encoded.pooled, || "CLIP encoders".to_owned())?;
        Ok(encoded)
    }

    fn check(job: &JobParameters) -> Result<(), WorkerFault> {
        let refuse = |field, sentence: String| Err(WorkerFault::BadRequest { field, sentence });
        if !(0.0..=GUIDANCE.max).contains(&job.guidance) {
            return refuse(
                "guidance",
                format!("must be between 0 and {}", GUIDANCE.max),
            );
        }
        if job.negative.is_some() && job.guidance <= 1.0 {
            let sentence = "has no effect without guidance: set guidance above 1".to_owned();
            return refuse("negative", sentence);
        }
        Ok(())
    }

    fn condition(
        transformer: &Mmdit,
        prompt: &Encoded,
        away: Option<(&Encoded, f32)>,
        _: (usize, usize),
    ) -> Result<Guided, WorkerFault> {
        let Some((negative, guidance)) = away else {
            return Ok(Guided {
                prompt: transformer.condition(&prompt.text, &prompt.pooled)?,
                guidance: None,
            });
        };
        let text = Tensor::cat(&[&negative.text, &prompt.text], 0)?; // (2, s, width)
        let pooled = Tensor::cat(&[&negative.pooled, &prompt.pooled], 0)?;
        Ok(Guided {
            prompt: transformer.condition(&text, &pooled)?,
            guidance: Some(f64::from(guidance)),
        })
    }

    fn velocities(
        transformer: &Mmdit,
        latents: &Tensor,
        sigma: f32,
        by: &Guided,
    ) -> Result<Tensor, WorkerFault> {
        transformer.forward(latents, sigmas::record(sigma), &by.prompt)
    }

    fn evaluations(by: &Guided) -> usize {
        if by.guidance.is_some() { 2 } else { 1 }
    }

    /// Computes `without + guidance * (with - without)` from (2, c, h, w); returns (1, c, h, w) unchanged.
    fn guide(velocities: &Tensor, by: &Guided) -> Result<Tensor, WorkerFault> {
        let Some(guidance) = by.guidance else {
            return Ok(velocities.clone());
        };
        let (without, with) = (velocities.narrow(0, 0, 1)?, velocities.narrow(0, 1, 1)?);
        let lead = ((with - &without)? * guidance)?;
        Ok((without + lead)?)
    }

    fn sigmas(steps: u32) -> Vec<f32> {
        sigmas::shifted_twice(steps)
    }
}

/// Concatenates the hidden states of the encoders, (1, 77 + s, d_model): `[clip_l | clip_g | 0]` with T5's width,
/// followed by T5's states. The pooled vectors are `[l | g]`.
///
/// # Errors
/// Faults of the device.
pub fn join(t5: &Tensor, l: &ClipStates, g: &ClipStates) -> Result<Encoded, WorkerFault> {
    let clip = Tensor::cat(&[&l.penultimate, &g.penultimate], D::Minus1)?;
    let missing = t5.dim(D::Minus1)? - clip.dim(D::Minus1)?;
    let clip = clip.pad_with_zeros(D::Minus1, 0, missing)?;
    Ok(Encoded {
        text: Tensor::cat(&[&clip, &t5.to_dtype(clip.dtype())?], 1)?,
        pooled: Tensor::cat(&[&l.pooled, &g.pooled], D::Minus1)?,
    })
}
