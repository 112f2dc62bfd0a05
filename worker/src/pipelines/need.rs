//! What a model needs of memory: its weights as held, and what drawing adds at a size.
//!
//! Counted from tensor sizes, then held against the kernel's count by a test. The two phases that can set
//! the peak are the transformer's widest block and the decoder's last level; both are polynomials in the
//! number of pixels, and each coefficient here is the larger of theirs.

use crate::pipelines::encoders::Encoders;
use crate::pipelines::families::flux::files::FluxFiles;
use crate::pipelines::families::sd3::files::Sd3Files;
use crate::pipelines::families::sd3::sizes::Sd3ModelSizes;
use crate::pipelines::parts::ignored;
use crate::pipelines::parts::sizes::{DecoderSizes, FluxModelSizes, T5Sizes};
use crate::pipelines::parts::t5;
use crate::pipelines::pipeline::Settings;
use crate::weights::Inventory;
use candle_core::DType;
use serde::Serialize;

const MIB: u64 = 1 << 20;

/// Pixels that [`Activation::per_megapixel_mb`] is for.
const MEGAPIXEL: f64 = (1 << 20) as f64;

/// Pixels of a token's side, and of a latent's.
const TOKEN: f64 = 16.0;
const LATENT: f64 = 8.0;

const F32: f64 = 4.0;

/// A worker without weights, as the kernel counts it.
const PROCESS: f64 = 14.0 * MIB as f64;

/// Memory for drawing, whole MiB: `base + per_megapixel * p + per_megapixel_squared * p * p` for a
/// picture of `p * 2^20` pixels, each term rounded up, and never below `least`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Activation {
    /// Whatever the size is.
    pub base_mb: u64,
    /// Features of tokens and of the decoder.
    pub per_megapixel_mb: u64,
    /// Attention scores, which are kept whole.
    pub per_megapixel_squared_mb: u64,
    /// Of every picture: encoders that are loaded for its prompt, and what they compute.
    pub least_mb: u64,
}

impl Activation {
    /// MiB at a size.
    pub fn at(&self, width: u32, height: u32) -> u64 {
        let pixels = u128::from(width) * u128::from(height);
        let linear = (pixels * u128::from(self.per_megapixel_mb)).div_ceil(1 << 20);
        let squares = u128::from(self.per_megapixel_squared_mb);
        let square = (pixels * pixels * squares).div_ceil(1 << 40);
        let drawing = self.base_mb + u64::try_from(linear + square).unwrap_or(u64::MAX / 4);
        drawing.max(self.least_mb)
    }
}

/// What each thread beyond the second adds while a FLUX model draws, as measured with 16.
pub const FLUX_PER_THREAD_MB: u64 = 2;

/// MiB that hold so many bytes.
pub fn whole_mb(bytes: f64) -> u64 {
    (bytes / MIB as f64).ceil() as u64
}

/// What a model takes of the host's memory where a processor computes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// MiB of a worker that has loaded it.
    pub residency_mb: u64,
    /// What a job adds.
    pub activation: Activation,
}

/// What a FLUX model takes, the program's own pages with `embedded` bytes of weight files among them.
pub fn flux_need(parts: &Parts, sizes: &FluxModelSizes, embedded: u64, settings: Settings) -> Need {
    let held = parts.held(settings.dtype, embedded);
    held.need(settings, &flux_tokens(sizes), &sizes.decoder, &sizes.t5)
}

/// What a Stable Diffusion 3.5 model takes; `embedded` as for FLUX.
pub fn sd3_need(parts: &Parts, sizes: &Sd3ModelSizes, embedded: u64, settings: Settings) -> Need {
    let held = parts.held(settings.dtype, embedded);
    held.need(settings, &sd3_tokens(sizes), &sizes.decoder, &sizes.t5)
}

/// The tensors of a model that are held, by part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The T5 encoder.
    pub t5: Inventory,
    /// The CLIP encoders.
    pub clips: Vec<Inventory>,
    /// The transformer.
    pub transformer: Inventory,
    /// The decoder.
    pub decoder: Inventory,
}

impl Parts {
    /// The tensors that a FLUX folder's files hold and a worker loads.
    pub fn of_flux(files: &FluxFiles) -> Parts {
        Parts {
            t5: files.t5.inventory().without(&ignored::T5),
            clips: vec![files.clip.inventory().without(&ignored::CLIP_L)],
            transformer: files.transformer.inventory(),
            decoder: files.autoencoder.inventory().without(&ignored::AUTOENCODER),
        }
    }

    /// As [`Parts::of_flux`], for Stable Diffusion 3.5.
    pub fn of_sd3(files: &Sd3Files) -> Parts {
        let clip_l = files.clip_l.inventory().without(&ignored::CLIP_L);
        Parts {
            t5: files.t5.inventory().without(&ignored::T5),
            clips: vec![clip_l, files.clip_g.inventory().without(&ignored::CLIP_G)],
            transformer: files.transformer.inventory(),
            decoder: files.autoencoder.inventory().without(&ignored::AUTOENCODER),
        }
    }

    fn held(&self, dtype: DType, embedded: u64) -> Held {
        let width = dtype.size_in_bytes();
        let is_down = |name: &str| name.ends_with(".wo.weight");
        let down = self
            .t5
            .held_bytes(t5::down_dtype(dtype).size_in_bytes(), is_down);
        let t5 = self.t5.held_bytes(width, |name| !is_down(name)) + down;
        let clips = self
            .clips
            .iter()
            .map(|clip| clip.held_bytes(width, |_| true));
        let encoders = self.clips.iter().chain([&self.t5]);
        // A product widens a matrix of halves whole, and one of blocks by slabs.
        let halves = dtype != DType::F32;
        let widest = encoders.map(|part| part.widened_elements(halves)).max();
        Held {
            encoders: (t5 + clips.sum::<u64>()) as f64,
            others: (self.transformer.held_bytes(width, |_| true)
                + self.decoder.held_bytes(4, |_| true)) as f64,
            process: PROCESS + embedded as f64,
            encoding: widest.unwrap_or(0) as f64 * F32,
            drawing: self.transformer.widened_elements(halves) as f64 * F32,
        }
    }
}

/// Bytes that a worker holds of a model.
struct Held {
    encoders: f64,
    /// Transformer and decoder.
    others: f64,
    process: f64,
    /// The widest matrix of the encoders and of the transformer while it is multiplied with.
    encoding: f64,
    drawing: f64,
}

impl Held {
    fn need(
        &self,
        settings: Settings,
        tokens: &Tokens,
        decoder: &DecoderSizes,
        t5: &T5Sizes,
    ) -> Need {
        let encoding = encoding(t5) + self.encoding;
        let drawing = tokens.bytes * tokens.text + tokens.scores * tokens.text * tokens.text;
        let drawing = drawing + self.drawing;
        let all = self.others + self.encoders;
        let (resident, base, least) = match settings.encoders {
            Encoders::Keep | Encoders::Cpu => (all, drawing.max(encoding), 0.0),
            Encoders::Drop => {
                // Encoders are loaded first, to know that they can be, and freed before the rest.
                let resident = self.others.max(self.encoders);
                (resident, drawing, all - resident + encoding + MARGIN)
            }
        };
        Need {
            residency_mb: whole_mb(self.process + resident),
            activation: Activation {
                base_mb: whole_mb(base + MARGIN),
                least_mb: whole_mb(least),
                ..by_pixels(tokens, decoder)
            },
        }
    }
}

/// What the books are always ahead of the counts.
const MARGIN: f64 = 8.0 * MIB as f64;

/// Widths of a stream that a token of a joint block takes at the same time.
const TOKEN_WIDTHS: f64 = 20.0;

/// What a token takes in a transformer's widest block, what a pair of them does, and how many are words.
struct Tokens {
    bytes: f64,
    scores: f64,
    text: f64,
}

/// A Stable Diffusion 3.5 model's tokens, guidance included: a batch of two.
fn sd3_tokens(sizes: &Sd3ModelSizes) -> Tokens {
    let t = &sizes.transformer;
    let (hidden, heads) = (t.hidden_size() as f64, t.depth as f64);
    // A joint block holds both streams, queries, keys, values, what was attended and its MLP.
    Tokens {
        bytes: 2.0 * TOKEN_WIDTHS * hidden * F32,
        scores: 2.0 * 2.0 * heads * F32,
        text: (sizes.t5.length + sizes.clip_l.max_position_embeddings) as f64,
    }
}

/// A FLUX model's tokens.
fn flux_tokens(sizes: &FluxModelSizes) -> Tokens {
    let t = &sizes.transformer;
    let (hidden, heads) = (t.hidden_size as f64, t.num_heads as f64);
    // A single block holds its input, linear1's output, queries, keys, values, the MLP and their row.
    Tokens {
        bytes: (4.0 * t.mlp_ratio as f64 + 12.0) * hidden * F32,
        scores: 2.0 * heads * F32, // and their softmax
        text: sizes.t5.length as f64,
    }
}

/// What T5 takes beside its weights.
fn encoding(t5: &T5Sizes) -> f64 {
    let words = t5.length as f64;
    (8.0 * t5.d_ff as f64 + 2.0 * t5.num_heads as f64 * words) * words * F32
}

/// What a picture's pixels take: the larger of transformer and decoder, coefficient by coefficient.
fn by_pixels(tokens: &Tokens, decoder: &DecoderSizes) -> Activation {
    let count = MEGAPIXEL / (TOKEN * TOKEN); // of a megapixel
    let widest = decoder.ch_mult.iter().take(2).max();
    let widest = widest.map_or(0, |m| m * decoder.ch) as f64;
    // A residual block keeps its input, a convolution its input twice and its output.
    let decoder_bytes = 6.0 * widest * F32 * MEGAPIXEL;
    let latents = MEGAPIXEL / (LATENT * LATENT);
    // Scores of every pair of tokens: (text + n)^2, expanded.
    let linear = (tokens.bytes + tokens.scores * 2.0 * tokens.text) * count;
    let square = (tokens.scores * count * count).max(2.0 * F32 * latents * latents);
    Activation {
        base_mb: 0,
        per_megapixel_mb: whole_mb(linear.max(decoder_bytes)),
        per_megapixel_squared_mb: whole_mb(square),
        least_mb: 0,
    }
}
