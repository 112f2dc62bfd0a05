//! FLUX.1: T5 and CLIP-L, a transformer over packed latents, and an autoencoder.

pub mod block;
pub mod naming;
pub mod rope;
pub mod sizes;
pub mod transformer;

use crate::embedded_files;
use crate::fault::WorkerFault;
use crate::pipelines::architecture::{Architecture, DrawingLimits, RecordNames, TokenCost};
use crate::pipelines::embedded::EmbeddedModel;
use crate::pipelines::encoders::Encoded;
use crate::pipelines::folder::configuration::Described;
use crate::pipelines::folder::search::{FolderLayout, Shapes, T5_FILES};
use crate::pipelines::parts::layers::finite;
use crate::pipelines::parts::sizes::ModelSizes;
use crate::pipelines::pipeline::JobParameters;
use crate::pipelines::preview::Colours;
use crate::pipelines::text::{EncoderIds, TextEncoders};
use crate::sampling::packing::{self, PATCH};
use crate::sampling::sigmas;
use crate::weights::{self, Section};
use candle_core::Tensor;
use ipc_protocol::about::GuidanceRange;
use ipc_protocol::family::Family;
use sizes::FluxSizes;
use std::borrow::Cow;
use transformer::{FluxConditioning, FluxTransformer};

/// The architecture of FLUX.1.
pub struct Flux;

/// The file names of FLUX.1.
pub static LAYOUT: FolderLayout = FolderLayout {
    family: Family::new("flux"),
    title: "FLUX",
    model: "FLUX.1 schnell",
    transformer: &naming::TRANSFORMER,
    transformer_words: &["schnell"],
    names: &[
        (&naming::TRANSFORMER, &["flux1-schnell.safetensors"]),
        (&weights::AUTOENCODER, &["ae.safetensors"]),
        (&weights::T5, T5_FILES),
        (
            &weights::CLIP_L,
            &[
                "clip_l_flux.safetensors",
                "clip_l.safetensors",
                "text_encoders/clip_l.safetensors",
            ],
        ),
    ],
    autoencoder_stem: Some("ae"),
    notes: &[],
    schedule_shift: 1.0,
};

/// The small embedded model.
pub static POCKET: EmbeddedModel = EmbeddedModel {
    key: "pocket-flux",
    family: LAYOUT.family,
    files: embedded_files!("pocket-flux": "SHA256SUMS", "config.json", "t5_tokenizer.json",
        "clip_tokenizer.json", "flux1-schnell.safetensors", "ae.safetensors", "t5.safetensors",
        "clip_l.safetensors"),
    parts: &[
        (&naming::TRANSFORMER, "flux1-schnell.safetensors"),
        (&weights::AUTOENCODER, "ae.safetensors"),
        (&weights::T5, "t5.safetensors"),
        (&weights::CLIP_L, "clip_l.safetensors"),
    ],
};

/// The colours of FLUX.1's latents. Source: `latent-preview.h` in leejet/stable-diffusion.cpp (MIT licence).
const COLOURS: Colours = Colours {
    weights: Cow::Borrowed(&[
        [-0.041168, 0.019917, 0.097253],
        [0.028096, 0.026730, 0.129576],
        [0.065618, -0.067950, -0.014651],
        [-0.012998, -0.014762, 0.081251],
        [0.078567, 0.059296, -0.024687],
        [-0.015987, -0.003697, 0.005012],
        [0.033605, 0.138999, 0.068517],
        [-0.024450, -0.063567, -0.030101],
        [-0.040194, -0.016710, 0.127185],
        [0.112681, 0.088764, -0.041940],
        [-0.023498, 0.093664, 0.025543],
        [0.082899, 0.048320, 0.007491],
        [0.075712, 0.074139, 0.081965],
        [-0.143501, 0.018263, -0.136138],
        [-0.025767, -0.082035, -0.040023],
        [-0.111849, -0.055589, -0.032361],
    ]),
    bias: [0.024600, -0.006937, -0.008089],
};

impl Architecture for Flux {
    type Sizes = FluxSizes;
    type Transformer = FluxTransformer;
    type Conditioning = FluxConditioning;

    const LAYOUT: &'static FolderLayout = &LAYOUT;
    const GUIDANCE: Option<GuidanceRange> = None;
    const SAMPLER: &'static str = "euler, linear sigmas";
    const RECORD: RecordNames = RecordNames {
        text: "t5_embeds",
        clip_l_ids: "clip_ids",
        is_packed: true,
    };

    fn published() -> Described<FluxSizes> {
        Described::published(sizes::schnell(), COLOURS)
    }

    fn shapes(sizes: &FluxSizes) -> Shapes {
        let width = sizes.hidden_size;
        let (double, single) = (
            sizes.depth.saturating_sub(1),
            sizes.depth_single_blocks.saturating_sub(1),
        );
        vec![
            ("img_in.weight".to_owned(), vec![width, sizes.in_channels]),
            (
                "txt_in.weight".to_owned(),
                vec![width, sizes.context_in_dim],
            ),
            (
                format!("double_blocks.{double}.img_attn.qkv.weight"),
                vec![3 * width, width],
            ),
            (
                format!("single_blocks.{single}.linear2.weight"),
                vec![width, width * (1 + sizes.mlp_ratio)],
            ),
        ]
    }

    fn blocks(sizes: &FluxSizes) -> usize {
        sizes.depth + sizes.depth_single_blocks
    }

    fn limits(described: &Described<FluxSizes>) -> DrawingLimits {
        let side = described.image_size;
        // The published model draws 256 to 2048 pixels; smaller models draw half to twice their default size.
        let (min_side, max_side, max_steps) = if side >= 1024 {
            (256, 2048, 50)
        } else {
            (side / 2, side * 2, 64)
        };
        DrawingLimits {
            default_side: side,
            min_side,
            max_side,
            max_steps,
        }
    }

    fn token_cost(sizes: &ModelSizes<FluxSizes>) -> TokenCost {
        let t = &sizes.transformer;
        let (hidden, heads) = (t.hidden_size as f64, t.num_heads as f64);
        let value = size_of::<f32>() as f64;
        // A single block holds its input, the output of linear1, queries, keys, values, the MLP, and both joined.
        TokenCost {
            bytes: (4.0 * t.mlp_ratio as f64 + 12.0) * hidden * value,
            scores: 2.0 * heads * value, // and their softmax
            text: sizes.encoders.t5.length as f64,
        }
    }

    fn load(
        section: &Section,
        sizes: &ModelSizes<FluxSizes>,
    ) -> Result<FluxTransformer, WorkerFault> {
        FluxTransformer::load(section, &sizes.transformer)
    }

    /// Encodes to T5's last states and CLIP's pooled state.
    fn encode(encoders: &TextEncoders, ids: EncoderIds) -> Result<Encoded, WorkerFault> {
        let text = encoders.t5(ids.t5)?;
        finite(&text, || "T5 encoder".to_owned())?;
        let pooled = encoders.clip_l(ids.clip_l)?.pooled;
        finite(&pooled, || "CLIP encoder".to_owned())?;
        Ok(Encoded { text, pooled })
    }

    fn check(job: &JobParameters) -> Result<(), WorkerFault> {
        let refuse = |field, sentence: &str| {
            let sentence = sentence.to_owned();
            Err(WorkerFault::BadRequest { field, sentence })
        };
        if job.guidance > 1.0 {
            let sentence = "this model does not support guidance: use 0 to 1";
            return refuse("guidance", sentence);
        }
        if job.negative.is_some() {
            return refuse(
                "negative",
                "this model does not support guidance, which a negative prompt needs",
            );
        }
        Ok(())
    }

    fn condition(
        transformer: &FluxTransformer,
        prompt: &Encoded,
        _: Option<(&Encoded, f32)>,
        (rows, columns): (usize, usize),
    ) -> Result<FluxConditioning, WorkerFault> {
        let positions = rope::positions(prompt.text.dim(1)?, rows / PATCH, columns / PATCH);
        transformer.condition(&prompt.text, &prompt.pooled, &positions)
    }

    fn velocities(
        transformer: &FluxTransformer,
        latents: &Tensor,
        sigma: f32,
        by: &FluxConditioning,
    ) -> Result<Tensor, WorkerFault> {
        let (_, _, rows, columns) = latents.dims4()?;
        let tokens = packing::pack(latents)?;
        let tokens = transformer.forward(&tokens, sigmas::timestep(sigma), by)?;
        packing::unpack(&tokens, rows, columns)
    }

    fn sigmas(steps: u32) -> Vec<f32> {
        sigmas::even(steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipelines::folder::configuration::{from_config, of_folder};
    use ipc_protocol::exit_code::ExitCode;

    #[test]
    fn axes_with_another_sum_than_the_width_of_a_head_are_refused() {
        let text =
            br#"{"transformer": {"in_channels": 64, "hidden_size": 128, "num_heads": 4, "depth": 1,
            "depth_single_blocks": 1, "axes_dim": [8, 12, 8], "context_in_dim": 8, "vec_in_dim": 8,
            "mlp_ratio": 4, "theta": 10000}}"#;
        let fault = from_config("config.json", text, Flux::published())
            .err()
            .map(|f| (f.exit_code(), f.to_string()));
        let (code, said) = fault.expect("the axes add up to 28, the head is 32");
        assert!(
            code == Some(ExitCode::BadConfiguration) && said.contains("axes_dim"),
            "{said}"
        );
    }

    #[test]
    fn a_folder_without_configuration_has_the_published_sizes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let found = of_folder(folder.path(), Flux::published()).expect("nothing to read");
        assert_eq!(
            (found.sizes.transformer.depth, found.image_size),
            (19, 1024)
        );
    }
}
