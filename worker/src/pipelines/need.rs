//! The memory need of a model: its loaded weights, and the activations of a picture by size.
//!
//! It is computed from tensor sizes; a test compares it with the kernel's count. Two phases can set the peak: the
//! transformer's widest block and the decoder's last level. Both are polynomials in the number of pixels, and each
//! coefficient here is the larger of the two.

use crate::fault::WorkerFault;
use crate::pipelines::architecture::{Architecture, TokenCost};
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
use kernels::{Convolution, Frame};
use serde::Serialize;
use std::cell::RefCell;

pub(super) const MIB: u64 = 1 << 20;

/// Pixels of a megapixel in [`ActivationMemory::per_megapixel_mb`].
pub(super) const MEGAPIXEL: f64 = (1 << 20) as f64;

/// Bytes of a value.
pub(super) const F32: f64 = 4.0;

/// Memory of a worker without weights, as counted by the kernel.
pub(super) const PROCESS: f64 = 14.0 * MIB as f64;

/// Memory for drawing a picture of `p * 2^20` pixels, in whole MiB: `base + per_megapixel * p +
/// per_megapixel_squared * p * p`, each term rounded up, and at least `least`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ActivationMemory {
    /// Independent of the size.
    pub base_mb: u64,
    /// Features of tokens and of the decoder.
    pub per_megapixel_mb: u64,
    /// Attention scores, which are all in memory at once.
    pub per_megapixel_squared_mb: u64,
    /// The least for any picture: encoders that are loaded for its prompt, and their activations.
    pub least_mb: u64,
}

impl ActivationMemory {
    /// MiB for a picture of this size.
    pub fn at(&self, width: u32, height: u32) -> u64 {
        let pixels = u128::from(width) * u128::from(height);
        let linear = (pixels * u128::from(self.per_megapixel_mb)).div_ceil(1 << 20);
        let squares = u128::from(self.per_megapixel_squared_mb);
        let square = (pixels * pixels * squares).div_ceil(1 << 40);
        let drawing = self.base_mb + u64::try_from(linear + square).unwrap_or(u64::MAX / 4);
        drawing.max(self.least_mb)
    }
}

/// Memory of each thread after the second while a model draws, besides tiles of the decoder: its heap.
const THREAD_HEAP: f64 = MIB as f64;

/// Rounds bytes up to MiB.
pub fn whole_mb(bytes: f64) -> u64 {
    (bytes / MIB as f64).ceil() as u64
}

/// The host memory that a model needs on the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryNeed {
    /// MiB of a worker with the loaded model.
    pub residency_mb: u64,
    /// Memory that a job adds.
    pub activation: ActivationMemory,
    /// MiB that each thread after the second adds to a job.
    pub per_thread_mb: u64,
}

/// The facts from which a model's memory need is computed.
#[derive(Debug, Clone)]
pub struct NeedBasis {
    /// The loaded tensors.
    pub tensors: PartTensors,
    /// Memory of a token.
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

    /// The facts of a model with opened files.
    pub fn of_files<A: Architecture>(files: &ModelFiles<A>) -> NeedBasis {
        NeedBasis::of::<A>(PartTensors::of(files), &files.described.sizes)
    }

    /// The facts of a published model of these sizes, without its files, which store halves.
    ///
    /// # Errors
    /// As [`PartTensors::listed`].
    pub fn of_sizes<A: Architecture>(
        sizes: &ModelSizes<A::Sizes>,
    ) -> Result<NeedBasis, WorkerFault> {
        let tensors = PartTensors::listed::<A>(sizes)?.stored_in_halves();
        Ok(NeedBasis::of::<A>(tensors, sizes))
    }

    /// The memory need with `settings`. `embedded` is the number of bytes of weight files in the program itself.
    pub fn need(&self, embedded: u64, settings: ComputeSettings) -> MemoryNeed {
        let held = self.tensors.held(settings.dtype, embedded);
        held.need(settings, &self.tokens, &self.decoder, &self.t5)
    }
}

/// The loaded tensors of a model, by part.
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
    /// Lists the tensors that a worker loads from a model's files.
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

    /// Lists the tensors of a model of these sizes without its files: each loader lists the tensors that it would load.
    ///
    /// # Errors
    /// Only for sizes that did not pass their check.
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

    /// Bytes of the loaded parts on the host, for dense tensors of encoders and transformer in `dtype`.
    pub(super) fn host_bytes(&self, dtype: DType) -> PartBytes {
        self.bytes(dtype, |part, width, wanted| part.host_bytes(width, wanted))
    }

    /// The same on another device.
    pub(super) fn device_bytes(&self, dtype: DType) -> PartBytes {
        self.bytes(dtype, |part, width, wanted| {
            part.device_bytes(width, wanted)
        })
    }

    fn bytes(
        &self,
        dtype: DType,
        held: impl Fn(&Inventory, usize, &dyn Fn(&str) -> bool) -> u64,
    ) -> PartBytes {
        let width = dtype.size_in_bytes();
        let is_down = |name: &str| name.ends_with(".wo.weight");
        let down = t5::down_dtype(dtype).size_in_bytes();
        let t5 = held(&self.t5, width, &|name| !is_down(name)) + held(&self.t5, down, &is_down);
        let clips = self.clips.iter().map(|clip| held(clip, width, &|_| true));
        PartBytes {
            encoders: (t5 + clips.sum::<u64>()) as f64,
            transformer: held(&self.transformer, width, &|_| true) as f64,
            decoder: held(&self.decoder, 4, &|_| true) as f64,
        }
    }

    /// Bytes of the largest part of a matrix of the encoders that a product on a CPU converts to f32 at a time.
    pub(super) fn widest_encoder(&self, dtype: DType) -> f64 {
        let halves = dtype != DType::F32;
        let encoders = self.clips.iter().chain([&self.t5]);
        let widest = encoders.map(|part| part.widened_elements(halves)).max();
        widest.unwrap_or(0) as f64 * F32
    }

    /// The same tensors in files that store matrices in half precision.
    fn stored_in_halves(self) -> PartTensors {
        let clips = self.clips.into_iter().map(Inventory::stored_in_halves);
        PartTensors {
            t5: self.t5.stored_in_halves(),
            clips: clips.collect(),
            transformer: self.transformer.stored_in_halves(),
            decoder: self.decoder.stored_in_halves(),
        }
    }

    fn held(&self, dtype: DType, embedded: u64) -> HeldBytes {
        let parts = self.host_bytes(dtype);
        let halves = dtype != DType::F32;
        HeldBytes {
            encoders: parts.encoders,
            others: parts.transformer + parts.decoder,
            process: PROCESS + embedded as f64,
            encoding: self.widest_encoder(dtype),
            drawing: self.transformer.widened_elements(halves) as f64 * F32,
        }
    }
}

/// Bytes of the loaded parts of a model.
pub(super) struct PartBytes {
    /// All text encoders.
    pub(super) encoders: f64,
    /// The transformer.
    pub(super) transformer: f64,
    /// The decoder, which is always f32.
    pub(super) decoder: f64,
}

/// Bytes of a model in a worker.
struct HeldBytes {
    encoders: f64,
    /// Transformer and decoder.
    others: f64,
    process: f64,
    /// The largest converted matrix of the encoders and of the transformer.
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
        let (decoding, of_thread) = decoder_scratch(decoder);
        let drawing = drawing.max(decoding + of_thread);
        let all = self.others + self.encoders;
        let (resident, base, least) = match settings.encoders {
            Encoders::Keep | Encoders::Cpu => (all, drawing.max(encoding), 0.0),
            Encoders::Drop => {
                // Encoders are loaded first, as a check, and freed before the rest is loaded.
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
            per_thread_mb: whole_mb(of_thread + THREAD_HEAP),
        }
    }
}

/// Safety margin added to the computed need.
const MARGIN: f64 = 8.0 * MIB as f64;

/// Lists every tensor that `load` requests.
fn listed(
    load: impl FnOnce(&Section) -> Result<(), WorkerFault>,
) -> Result<Inventory, WorkerFault> {
    let inventory = RefCell::default();
    load(&Section::listing(&inventory, &Device::Cpu))?;
    Ok(inventory.into_inner())
}

/// Memory of T5 in addition to its weights.
pub(super) fn encoding(t5: &T5Sizes) -> f64 {
    let words = t5.length as f64;
    (8.0 * t5.d_ff as f64 + 2.0 * t5.num_heads as f64 * words) * words * F32
}

/// Memory of the decoder's largest convolution besides pictures, with one thread and for each further one.
fn decoder_scratch(decoder: &DecoderSizes) -> (f64, f64) {
    let widest = decoder.ch_mult.iter().max().map_or(0, |m| m * decoder.ch);
    let (first, further) = Convolution::scratch(widest, widest);
    (first as f64 * F32, further as f64 * F32)
}

/// Memory by pixels: for each coefficient, the larger of transformer and decoder.
fn by_pixels(tokens: &TokenCost, decoder: &DecoderSizes) -> ActivationMemory {
    let latent = decoder.downscale() as f64; // pixels per side
    let token = latent * PATCH as f64;
    let count = MEGAPIXEL / (token * token); // tokens per megapixel
    // The first block at the picture's size keeps its input and that of a convolution, both from the level before, and
    // the convolution's result.
    let mut widths = decoder
        .ch_mult
        .iter()
        .map(|m| Frame::stride(m * decoder.ch));
    let finest = widths.next().unwrap_or(0);
    let before = widths.next().unwrap_or(finest).max(finest);
    let decoder_bytes = (2 * before + finest) as f64 * F32 * MEGAPIXEL;
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

    /// The files of a tiny model, and its sizes with the rows of the embeddings, which are only in the files.
    fn tiny<A: Architecture>(name: &str) -> (ModelFiles<A>, ModelSizes<A::Sizes>) {
        let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
        let files = families::files::<A>(&goldens.join(name)).expect("a good folder");
        let mut sizes = files.described.sizes.clone();
        let encoders = &mut sizes.encoders;
        (encoders.t5.vocab_size, encoders.clip_l.eos) = (1100, 1023);
        encoders.clip_g.iter_mut().for_each(|clip| clip.eos = 1023);
        (files, sizes)
    }

    /// The tensors of a model of these sizes, whose files store halves as the published ones do.
    fn in_halves<A: Architecture>(sizes: &ModelSizes<A::Sizes>) -> PartTensors {
        let listed = PartTensors::listed::<A>(sizes).expect("sizes of a model");
        listed.stored_in_halves()
    }

    #[test]
    fn tensors_listed_from_sizes_are_those_of_the_files() {
        let (files, mut sizes) = tiny::<Flux>("tiny-flux");
        assert_eq!(in_halves::<Flux>(&sizes), PartTensors::of(&files));
        sizes.transformer.depth -= 1;
        assert_ne!(in_halves::<Flux>(&sizes), PartTensors::of(&files));
        let (files, sizes) = tiny::<Sd3>("tiny-sd3");
        assert_eq!(in_halves::<Sd3>(&sizes), PartTensors::of(&files));
    }
}
