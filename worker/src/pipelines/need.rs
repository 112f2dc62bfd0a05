//! What a model needs of memory: its weights as held, and what drawing adds at a size.
//!
//! Counted from tensor sizes, then held against the kernel's count by a test. The two phases that can set
//! the peak are the transformer's widest block and the decoder's last level; both are polynomials in the
//! number of pixels, and each coefficient here is the larger of theirs.

use crate::pipelines::folder::FluxFiles;
use crate::pipelines::sd3::files::Sd3Files;
use crate::pipelines::sd3::sizes::Sd3ModelSizes;
use crate::pipelines::sizes::{DecoderSizes, FluxModelSizes, T5Sizes};
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
/// picture of `p * 2^20` pixels, each term rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Activation {
    /// Whatever the size is.
    pub base_mb: u64,
    /// Features of tokens and of the decoder.
    pub per_megapixel_mb: u64,
    /// Attention scores, which are kept whole.
    pub per_megapixel_squared_mb: u64,
}

impl Activation {
    /// MiB at a size.
    pub fn at(&self, width: u32, height: u32) -> u64 {
        let pixels = u128::from(width) * u128::from(height);
        let linear = (pixels * u128::from(self.per_megapixel_mb)).div_ceil(1 << 20);
        let squares = u128::from(self.per_megapixel_squared_mb);
        let square = (pixels * pixels * squares).div_ceil(1 << 40);
        self.base_mb + u64::try_from(linear + square).unwrap_or(u64::MAX / 4)
    }
}

/// What each thread beyond the second adds while a FLUX model draws, as measured with 16.
pub const FLUX_PER_THREAD_MB: u64 = 2;

/// MiB that hold so many bytes.
pub fn whole_mb(bytes: f64) -> u64 {
    (bytes / MIB as f64).ceil() as u64
}

/// MiB of a worker that has loaded a FLUX model: weights widened to f32, the program's own pages with
/// `embedded` bytes of weight files among them, and the widest tensor once more as it is stored.
pub fn flux_residency_mb(files: &FluxFiles, embedded: u64) -> u64 {
    let decoder = files
        .autoencoder
        .elements(|name| !name.starts_with("encoder."));
    let others = [&files.transformer, &files.t5, &files.clip].map(|file| file.elements(|_| true));
    let elements = (decoder + others.iter().sum::<u64>()) as f64;
    whole_mb(PROCESS + elements * F32 + embedded as f64)
}

/// MiB of a worker that has loaded a Stable Diffusion 3.5 model, as [`flux_residency_mb`].
pub fn sd3_residency_mb(files: &Sd3Files) -> u64 {
    let decoder = files
        .autoencoder
        .elements(|name| !name.starts_with("encoder."));
    let others = [&files.transformer, &files.t5, &files.clip_l, &files.clip_g];
    let others: u64 = others.iter().map(|part| part.elements(|_| true)).sum();
    whole_mb(PROCESS + (decoder + others) as f64 * F32)
}

/// What drawing with a Stable Diffusion 3.5 model takes, guidance included: a batch of two.
pub fn sd3_activation(sizes: &Sd3ModelSizes) -> Activation {
    let t = &sizes.transformer;
    let (hidden, heads) = (t.hidden_size() as f64, t.depth as f64);
    let text = (sizes.t5.length + sizes.clip_l.max_position_embeddings) as f64;
    // A joint block holds both streams, queries, keys, values, what was attended and its MLP.
    let tokens = Tokens {
        bytes: 2.0 * TOKEN_WIDTHS * hidden * F32,
        scores: 2.0 * 2.0 * heads * F32,
        text,
    };
    activation(&tokens, &sizes.decoder, &sizes.t5)
}

/// Widths of a stream that a token of a joint block takes at the same time.
const TOKEN_WIDTHS: f64 = 20.0;

/// What a token takes in a transformer's widest block, what a pair of them does, and how many are words.
struct Tokens {
    bytes: f64,
    scores: f64,
    text: f64,
}

/// What drawing with a FLUX model takes.
pub fn flux_activation(sizes: &FluxModelSizes) -> Activation {
    let t = &sizes.transformer;
    let (hidden, heads) = (t.hidden_size as f64, t.num_heads as f64);
    // A single block holds its input, linear1's output, queries, keys, values, the MLP and their row.
    let tokens = Tokens {
        bytes: (4.0 * t.mlp_ratio as f64 + 12.0) * hidden * F32,
        scores: 2.0 * heads * F32, // and their softmax
        text: sizes.t5.length as f64,
    };
    activation(&tokens, &sizes.decoder, &sizes.t5)
}

/// The larger of transformer and decoder, coefficient by coefficient.
fn activation(tokens: &Tokens, decoder: &DecoderSizes, t5: &T5Sizes) -> Activation {
    let (text, count) = (tokens.text, MEGAPIXEL / (TOKEN * TOKEN)); // of a megapixel
    let widest = decoder.ch_mult.iter().take(2).max();
    let widest = widest.map_or(0, |m| m * decoder.ch) as f64;
    // A residual block keeps its input, a convolution its input twice and its output.
    let decoder_bytes = 6.0 * widest * F32 * MEGAPIXEL;
    let latents = MEGAPIXEL / (LATENT * LATENT);
    // Scores of every pair of tokens: (text + n)^2, expanded.
    let linear = (tokens.bytes + tokens.scores * 2.0 * text) * count;
    let square = (tokens.scores * count * count).max(2.0 * F32 * latents * latents);
    let words = t5.length as f64;
    let encoder = (8.0 * t5.d_ff as f64 + 2.0 * t5.num_heads as f64 * words) * words * F32;
    let base = (tokens.bytes * text + tokens.scores * text * text).max(encoder);
    Activation {
        base_mb: whole_mb(base) + 8,
        per_megapixel_mb: whole_mb(linear.max(decoder_bytes)),
        per_megapixel_squared_mb: whole_mb(square),
    }
}
