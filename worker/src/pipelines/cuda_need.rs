//! The memory need of a model on a CUDA device, for each way of placing its parts.
//!
//! As for the CPU (`need.rs`), residency is a sum of tensor sizes and activation a polynomial in the number of pixels.
//! What differs: values of the transformer have its dtype and not f32; scores, activations and norms are computed in
//! parts of a fixed size; and the driver, its context and libraries take memory on both sides.

use crate::pipelines::encoders::Encoders;
use crate::pipelines::need::{
    ActivationMemory, F32, MEGAPIXEL, MIB, NeedBasis, PROCESS, encoding, whole_mb,
};
use crate::pipelines::parts::activation::PIECE;
use crate::pipelines::parts::attention::SCORES_BYTES;
use crate::pipelines::parts::norms::GroupNorm;
use crate::pipelines::parts::tiling::TILE;
use crate::pipelines::precision;
use crate::sampling::packing::PATCH;
use candle_core::DType;
use ipc_protocol::arithmetic::{Arithmetic, Decoding};
use ipc_protocol::ids::Device;
use serde::Serialize;

/// Memory of a context on the device before the first tensor: the context, kernels, handles and workspaces of cuBLAS and
/// cuDNN. An assumption, not yet measured: 400 to 500 MiB are usual for a context with cuBLAS, plus cuDNN.
pub const CONTEXT: f64 = 700.0 * MIB as f64;

/// Memory of the driver and its libraries in a host process. An assumption, not yet measured.
pub const HOST_LIBRARIES: f64 = 600.0 * MIB as f64;

/// Memory that the driver's allocator holds beyond the tensors: it takes whole blocks of 32 MiB.
const ALLOCATOR: f64 = 96.0 * MIB as f64;

/// Tensors of the size of a part while norms compute a part of a picture.
const NORM_TENSORS: f64 = 5.0;

/// Tensors of the widest level's size that are in memory at once while the decoder computes that level: the input of a
/// residual block, the input and output of a convolution, and cuDNN's copies of them in its own layout.
const DECODER_TENSORS: f64 = 4.0;

/// One way of placing a model on a CUDA device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CudaAlternative {
    /// Placement of the text encoders: keep, drop or cpu.
    pub encoders: &'static str,
    /// The way of decoding: whole or tiled.
    pub decoding: &'static str,
    /// MiB of a loaded worker on the device.
    pub device_mb: u64,
    /// MiB of the worker on the host.
    pub host_mb: u64,
    /// Memory that a job adds on the device.
    pub activation: ActivationMemory,
}

impl CudaAlternative {
    /// MiB on the device while a picture of this size is drawn.
    pub fn device_at(&self, width: u32, height: u32) -> u64 {
        self.device_mb + self.activation.at(width, height)
    }
}

/// The ways in the order of preference, from the placement that the settings request.
fn ways(encoders: Encoders) -> &'static [(Encoders, Decoding)] {
    use Decoding::{Tiled, Whole};
    match encoders {
        Encoders::Keep => &[
            (Encoders::Keep, Whole),
            (Encoders::Drop, Whole),
            (Encoders::Cpu, Whole),
            (Encoders::Cpu, Tiled),
        ],
        Encoders::Drop => &[(Encoders::Drop, Whole), (Encoders::Drop, Tiled)],
        Encoders::Cpu => &[(Encoders::Cpu, Whole), (Encoders::Cpu, Tiled)],
    }
}

impl NeedBasis {
    /// The memory need on a CUDA device for each way of placing the model, the preferred one first. `embedded` is the
    /// number of bytes of weight files in the program itself.
    pub fn on_cuda(&self, embedded: u64, wished: Arithmetic) -> Vec<CudaAlternative> {
        let dtype = precision::chosen(wished.dtype, Device::Cuda(0)).dtype;
        let dtype = precision::of_tensors(dtype);
        let ways = ways(wished.encoders).iter();
        ways.map(|(encoders, decoding)| self.placed(embedded, dtype, *encoders, *decoding))
            .collect()
    }

    fn placed(
        &self,
        embedded: u64,
        dtype: DType,
        encoders: Encoders,
        decoding: Decoding,
    ) -> CudaAlternative {
        let parts = self.tensors.device_bytes(dtype);
        let core = parts.transformer + parts.decoder;
        let host = PROCESS + HOST_LIBRARIES + embedded as f64;
        let encoding = encoding(&self.t5);
        let (resident, host, least) = match encoders {
            Encoders::Keep => (core + parts.encoders, host, encoding),
            Encoders::Drop => {
                // Encoders are loaded first, as a check, and freed before the rest is loaded.
                let resident = core.max(parts.encoders);
                let least = core + parts.encoders - resident + encoding;
                (resident, host, least)
            }
            Encoders::Cpu => {
                let on_host = self.tensors.host_bytes(dtype).encoders;
                let on_host = on_host + encoding + self.tensors.widest_encoder(dtype);
                (core, host + on_host, 0.0)
            }
        };
        CudaAlternative {
            encoders: encoders.word(),
            decoding: decoding.word(),
            device_mb: whole_mb(CONTEXT + ALLOCATOR + resident),
            host_mb: whole_mb(host),
            activation: ActivationMemory {
                least_mb: whole_mb(least),
                ..self.drawing(dtype, decoding)
            },
        }
    }

    /// Memory of a picture: for each coefficient, the larger of transformer and decoder.
    fn drawing(&self, dtype: DType, decoding: Decoding) -> ActivationMemory {
        let latent = self.decoder.downscale() as f64; // pixels per side
        let token = latent * PATCH as f64;
        let values = dtype.size_in_bytes() as f64 / F32;
        let token_bytes = self.tokens.bytes * values;
        let tokens = token_bytes * MEGAPIXEL / (token * token);
        let widest = self.decoder.ch_mult.iter().take(2).max();
        let widest = widest.map_or(0, |m| m * self.decoder.ch) as f64;
        let decoded = DECODER_TENSORS * widest * F32; // bytes per pixel
        let pictures = 4.0 * 3.0 * F32; // the tiles, joined twice, and the bytes
        let (tile, pixels) = match decoding {
            Decoding::Whole => (0.0, decoded.max(pictures)),
            Decoding::Tiled => {
                let side = TILE as f64 * latent;
                (decoded * side * side, pictures)
            }
        };
        let parts = (NORM_TENSORS * GroupNorm::PIECE_BYTES as f64).max(2.0 * PIECE as f64 * F32);
        let fixed = token_bytes * self.tokens.text + parts + SCORES_BYTES as f64 + tile;
        ActivationMemory {
            base_mb: whole_mb(fixed),
            per_megapixel_mb: whole_mb(tokens.max(pixels * MEGAPIXEL)),
            per_megapixel_squared_mb: 0,
            least_mb: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipelines::families;
    use ipc_protocol::arithmetic::Dtype;

    fn published(family: &str, encoders: Encoders) -> Vec<CudaAlternative> {
        let mut rows = families::TABLE.iter();
        let row = rows.find(|row| row.layout().family.word() == family);
        let published = row.expect("a family of the table").published();
        let (_, basis) = published.expect("valid sizes").expect("a published model");
        let dtype = Dtype::Auto;
        basis.on_cuda(0, Arithmetic { dtype, encoders })
    }

    #[test]
    fn each_way_after_the_first_needs_less_of_the_device_and_none_needs_more() {
        for family in ["flux", "sd3"] {
            for encoders in [Encoders::Keep, Encoders::Drop, Encoders::Cpu] {
                let found = published(family, encoders);
                assert_eq!(found[0].encoders, encoders.word());
                let usual = found.iter().map(|way| way.device_at(1024, 1024));
                // If encoders are loaded for a prompt, they and not the decoder set the need of a usual picture.
                let is_less = |a: &u64, b: &u64| a > b || a == b && encoders == Encoders::Drop;
                assert!(usual.is_sorted_by(is_less), "{found:?}");
                let last = &found[found.len() - 1];
                assert!(found[0].device_at(2048, 2048) > last.device_at(2048, 2048));
            }
        }
    }

    #[test]
    fn encoders_on_the_host_move_their_weights_from_the_device_to_the_host() {
        let found = published("flux", Encoders::Keep);
        let encoders = found[0].device_mb - found[2].device_mb;
        assert!((9_300..9_400).contains(&encoders), "{encoders}"); // T5-XXL's 4.76e9 and CLIP-L's 1.23e8 values in bf16
        assert!(found[2].host_mb > found[0].host_mb + encoders);
    }

    #[test]
    fn memory_on_a_device_grows_linearly_with_the_pixels() {
        for way in published("sd3", Encoders::Keep) {
            assert_eq!(way.activation.per_megapixel_squared_mb, 0);
        }
    }
}
