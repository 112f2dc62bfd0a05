//! What a model needs of memory: its weights as held, and what drawing adds at a size.
//!
//! Counted from tensor sizes, then held against the kernel's count by a test. The two phases that can set
//! the peak are the transformer's widest block and the decoder's last level; both are polynomials in the
//! number of pixels, and each coefficient here is the larger of theirs.

use crate::fault::WorkerFault;
use crate::pipelines::architecture::Architecture;
use crate::pipelines::encoders::Encoders;
use crate::pipelines::files::ModelFiles;
use crate::pipelines::parts::autoencoder::Decoder;
use crate::pipelines::parts::clip::Clip;
use crate::pipelines::parts::ignored;
use crate::pipelines::parts::sizes::{DecoderSizes, ModelSizes, T5Sizes};
use crate::pipelines::parts::t5::{self, T5};
use crate::pipelines::pipeline::ComputeSettings;
use crate::pipelines::text;
use crate::sampling::packing::PATCH;
use crate::weights::{Inventory, Section};
use candle_core::{DType, Device};
use serde::Serialize;
use std::cell::RefCell;

const MIB: u64 = 1 << 20;

/// Pixels that [`ActivationMemory::per_megapixel_mb`] is for.
const MEGAPIXEL: f64 = (1 << 20) as f64;

const F32: f64 = 4.0;

/// A worker without weights, as the kernel counts it.
const PROCESS: f64 = 14.0 * MIB as f64;

/// Memory for drawing, whole MiB: `base + per_megapixel * p + per_megapixel_squared * p * p` for a
/// picture of `p * 2^20` pixels, each term rounded up, and never below `least`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ActivationMemory {
    /// Whatever the size is.
    pub base_mb: u64,
    /// Features of tokens and of the decoder.
    pub per_megapixel_mb: u64,
    /// Attention scores, which are kept whole.
    pub per_megapixel_squared_mb: u64,
    /// Of every picture: encoders that are loaded for its prompt, and what they compute.
    pub least_mb: u64,
}

impl ActivationMemory {
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

/// What each thread beyond the second adds while a model draws, as measured with 16.
pub const PER_THREAD_MB: u64 = 2;

/// MiB that hold so many bytes.
pub fn whole_mb(bytes: f64) -> u64 {
    (bytes / MIB as f64).ceil() as u64
}

/// What a model takes of the host's memory where a processor computes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryNeed {
    /// MiB of a worker that has loaded it.
    pub residency_mb: u64,
    /// What a job adds.
    pub activation: ActivationMemory,
}

/// All that a model's need is computed from.
#[derive(Debug, Clone)]
pub struct NeedBasis {
    /// The tensors that are held.
    pub tensors: PartTensors,
    /// What a token takes.
    pub tokens: TokenCost,
    /// Sizes of the decoder.
    pub decoder: DecoderSizes,
    /// Sizes of T5.
    pub t5: T5Sizes,
}

impl NeedBasis {
    fn of<A: Architecture>(tensors: PartTensors, sizes: &ModelSizes<A::Sizes>) -> NeedBasis {
        NeedBasis {
            tensors,
            tokens: A::token_cost(sizes),
            decoder: sizes.decoder.clone(),
            t5: sizes.encoders.t5.clone(),
        }
    }

    /// Of a model whose files are opened.
    pub fn of_files<A: Architecture>(files: &ModelFiles<A>) -> NeedBasis {
        NeedBasis::of::<A>(PartTensors::of(files), &files.described.sizes)
    }

    /// Of a model of these sizes without its files.
    ///
    /// # Errors
    /// As [`PartTensors::listed`].
    pub fn of_sizes<A: Architecture>(
        sizes: &ModelSizes<A::Sizes>,
    ) -> Result<NeedBasis, WorkerFault> {
        Ok(NeedBasis::of::<A>(PartTensors::listed::<A>(sizes)?, sizes))
    }

    /// What the model takes in `settings`; `embedded` bytes of weight files are among the program's own pages.
    pub fn need(&self, embedded: u64, settings: ComputeSettings) -> MemoryNeed {
        let held = self.tensors.held(settings.dtype, embedded);
        held.need(settings, &self.tokens, &self.decoder, &self.t5)
    }
}

/// The tensors of a model that are held, by part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartTensors {
    /// The T5 encoder.
    pub t5: Inventory,
    /// The CLIP encoders.
    pub clips: Vec<Inventory>,
    /// The transformer.
    pub transformer: Inventory,
    /// The decoder.
    pub decoder: Inventory,
}

impl PartTensors {
    /// The tensors that a model's files hold and a worker loads.
    pub fn of<A: Architecture>(files: &ModelFiles<A>) -> PartTensors {
        let encoders = &files.encoders;
        let mut clips = vec![encoders.clip_l.inventory().without(&ignored::CLIP_L)];
        let clip_g = encoders.clip_g.as_ref();
        clips.extend(clip_g.map(|clip| clip.inventory().without(&ignored::CLIP_G)));
        PartTensors {
            t5: encoders.t5.inventory().without(&ignored::T5),
            clips,
            transformer: files.transformer.inventory(),
            decoder: files.autoencoder.inventory().without(&ignored::AUTOENCODER),
        }
    }

    /// The tensors of a model of these sizes, listed without its files: each loader is asked what it would load.
    ///
    /// # Errors
    /// None that sizes which passed their check can cause.
    pub fn listed<A: Architecture>(
        sizes: &ModelSizes<A::Sizes>,
    ) -> Result<PartTensors, WorkerFault> {
        let encoders = &sizes.encoders;
        let mut clips = vec![listed(|section| {
            Clip::load(section, &encoders.clip_l).map(drop)
        })?];
        if let Some(clip_g) = &encoders.clip_g {
            clips.push(listed(|section| text::read_clip_g(section, clip_g))?);
        }
        Ok(PartTensors {
            t5: listed(|section| T5::load(section, &encoders.t5).map(drop))?,
            clips,
            transformer: listed(|section| A::load(section, sizes).map(drop))?,
            decoder: listed(|section| {
                Decoder::load(section, &sizes.decoder, sizes.latent).map(drop)
            })?,
        })
    }

    fn held(&self, dtype: DType, embedded: u64) -> HeldBytes {
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
        HeldBytes {
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
struct HeldBytes {
    encoders: f64,
    /// Transformer and decoder.
    others: f64,
    process: f64,
    /// The widest matrix of the encoders and of the transformer while it is multiplied with.
    encoding: f64,
    drawing: f64,
}

impl HeldBytes {
    fn need(
        &self,
        settings: ComputeSettings,
        tokens: &TokenCost,
        decoder: &DecoderSizes,
        t5: &T5Sizes,
    ) -> MemoryNeed {
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
        MemoryNeed {
            residency_mb: whole_mb(self.process + resident),
            activation: ActivationMemory {
                base_mb: whole_mb(base + MARGIN),
                least_mb: whole_mb(least),
                ..by_pixels(tokens, decoder)
            },
        }
    }
}

/// What the books are always ahead of the counts.
const MARGIN: f64 = 8.0 * MIB as f64;

/// Every tensor that `load` asks for.
fn listed(
    load: impl FnOnce(&Section) -> Result<(), WorkerFault>,
) -> Result<Inventory, WorkerFault> {
    let inventory = RefCell::default();
    load(&Section::listing(&inventory, &Device::Cpu))?;
    Ok(inventory.into_inner())
}

/// What a token takes in a transformer's widest block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenCost {
    /// Bytes of each token.
    pub bytes: f64,
    /// Bytes of each pair of tokens.
    pub scores: f64,
    /// Tokens that are words.
    pub text: f64,
}

/// What T5 takes beside its weights.
fn encoding(t5: &T5Sizes) -> f64 {
    let words = t5.length as f64;
    (8.0 * t5.d_ff as f64 + 2.0 * t5.num_heads as f64 * words) * words * F32
}

/// What a picture's pixels take: the larger of transformer and decoder, coefficient by coefficient.
fn by_pixels(tokens: &TokenCost, decoder: &DecoderSizes) -> ActivationMemory {
    let latent = decoder.downscale() as f64; // pixels of its side
    let token = latent * PATCH as f64;
    let count = MEGAPIXEL / (token * token); // of a megapixel
    let widest = decoder.ch_mult.iter().take(2).max();
    let widest = widest.map_or(0, |m| m * decoder.ch) as f64;
    // A residual block keeps its input, a convolution its input twice and its output.
    let decoder_bytes = 6.0 * widest * F32 * MEGAPIXEL;
    let latents = MEGAPIXEL / (latent * latent);
    // Scores of every pair of tokens: (text + n)^2, expanded.
    let linear = (tokens.bytes + tokens.scores * 2.0 * tokens.text) * count;
    let square = (tokens.scores * count * count).max(2.0 * F32 * latents * latents);
    ActivationMemory {
        base_mb: 0,
        per_megapixel_mb: whole_mb(linear.max(decoder_bytes)),
        per_megapixel_squared_mb: whole_mb(square),
        least_mb: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipelines::families;
    use crate::pipelines::families::flux::Flux;
    use crate::pipelines::families::sd3::Sd3;
    use std::path::Path;

    /// The files of a tiny model, and its sizes with the rows of the embeddings, which the files tell.
    fn tiny<A: Architecture>(name: &str) -> (ModelFiles<A>, ModelSizes<A::Sizes>) {
        let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
        let files = families::files::<A>(&goldens.join(name)).expect("a good folder");
        let mut sizes = files.described.sizes.clone();
        let encoders = &mut sizes.encoders;
        (encoders.t5.vocab_size, encoders.clip_l.eos) = (1100, 1023);
        encoders.clip_g.iter_mut().for_each(|clip| clip.eos = 1023);
        (files, sizes)
    }

    #[test]
    fn the_listed_tensors_are_those_of_the_files() {
        let (files, mut sizes) = tiny::<Flux>("tiny-flux");
        let listed = |sizes: &_| PartTensors::listed::<Flux>(sizes).expect("sizes of a model");
        assert_eq!(listed(&sizes), PartTensors::of(&files));
        sizes.transformer.depth -= 1;
        assert_ne!(listed(&sizes), PartTensors::of(&files));
        let (files, sizes) = tiny::<Sd3>("tiny-sd3");
        let listed = PartTensors::listed::<Sd3>(&sizes).expect("sizes of a model");
        assert_eq!(listed, PartTensors::of(&files));
    }
}
