//! What a model needs of memory: its weights as held, and what drawing adds at a size.
//!
//! Counted from tensor sizes, then held against the kernel's count by a test. The two phases that can set
//! the peak are the transformer's widest block and the decoder's last level; both are polynomials in the
//! number of pixels, and each coefficient here is the larger of theirs.

use crate::pipelines::folder::FluxFiles;
use crate::pipelines::sizes::FluxModelSizes;
use serde::Serialize;

const MIB: u64 = 1 << 20;

/// Pixels that [`Activation::per_megapixel_mb`] is for.
const MEGAPIXEL: f64 = (1 << 20) as f64;

/// Pixels of a token's side, and of a latent's.
const TOKEN: f64 = 16.0;
const LATENT: f64 = 8.0;

const F32: f64 = 4.0;

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
    /// A worker without weights, as the kernel counts it.
    const PROCESS: f64 = 14.0 * MIB as f64;
    let decoder = files
        .autoencoder
        .elements(|name| !name.starts_with("encoder."));
    let others = [&files.transformer, &files.t5, &files.clip].map(|file| file.elements(|_| true));
    let elements = (decoder + others.iter().sum::<u64>()) as f64;
    whole_mb(PROCESS + elements * F32 + embedded as f64)
}

/// What drawing with a FLUX model takes.
pub fn flux_activation(sizes: &FluxModelSizes) -> Activation {
    let (t, d) = (&sizes.transformer, &sizes.decoder);
    let (hidden, heads) = (t.hidden_size as f64, t.num_heads as f64);
    let text = sizes.t5.length as f64;
    let tokens = MEGAPIXEL / (TOKEN * TOKEN); // of a megapixel
    // A single block holds its input, linear1's output, queries, keys, values, the MLP and their row.
    let token_bytes = (4.0 * t.mlp_ratio as f64 + 12.0) * hidden * F32;
    // Scores and their softmax, of every head: heads * (text + n)^2, expanded.
    let score_bytes = 2.0 * heads * F32;
    let widest = d.ch_mult.iter().take(2).max().map_or(0, |m| m * d.ch) as f64;
    // A residual block keeps its input, a convolution its input twice and its output.
    let decoder_bytes = 6.0 * widest * F32 * MEGAPIXEL;
    let latents = MEGAPIXEL / (LATENT * LATENT);
    let linear = (token_bytes + score_bytes * 2.0 * text) * tokens;
    let square = (score_bytes * tokens * tokens).max(2.0 * F32 * latents * latents);
    let encoder =
        (8.0 * sizes.t5.d_ff as f64 + 2.0 * sizes.t5.num_heads as f64 * text) * text * F32;
    let base = (token_bytes * text + score_bytes * text * text).max(encoder);
    Activation {
        base_mb: whole_mb(base) + 8,
        per_megapixel_mb: whole_mb(linear.max(decoder_bytes)),
        per_megapixel_squared_mb: whole_mb(square),
    }
}
