//! Activations, computed in f32 for every dtype and rounded once at the end.
//!
//! candle computes activations in the dtype of the input: a GELU in bf16 rounds after each of its seven
//! operations. The references round once.

use crate::fault::WorkerFault;
use crate::pipelines::parts::layers::{filled, floats};
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor};
use kernels::{InstructionSet, Nonlinearity};

/// `x * sigmoid(x)`.
///
/// # Errors
/// Faults of the device, as for all activations.
pub fn silu(x: &Tensor) -> Result<Tensor, WorkerFault> {
    in_f32(x, Some(Nonlinearity::Silu), Tensor::silu)
}

/// GELU, approximated with a hyperbolic tangent.
///
/// # Errors
/// As [`silu`].
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor, WorkerFault> {
    in_f32(x, Some(Nonlinearity::GeluTanh), Tensor::gelu)
}

/// GELU, exact with the error function.
///
/// # Errors
/// As [`silu`].
pub fn gelu_erf(x: &Tensor) -> Result<Tensor, WorkerFault> {
    in_f32(x, None, Tensor::gelu_erf)
}

/// `x * sigmoid(1.702 x)`.
///
/// # Errors
/// As [`silu`].
pub fn quick_gelu(x: &Tensor) -> Result<Tensor, WorkerFault> {
    let by_tensors = |x: &Tensor| x * candle_nn::ops::sigmoid(&(x * 1.702)?)?;
    in_f32(x, Some(Nonlinearity::QuickGelu), by_tensors)
}

/// Largest number of elements in half precision that a GPU converts to f32 at a time: 64 MiB of f32.
pub const PIECE: usize = 1 << 24;

/// Computes it with `kernel` on a CPU if there is one, and else with `activation`.
fn in_f32(
    x: &Tensor,
    kernel: Option<Nonlinearity>,
    activation: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> Result<Tensor, WorkerFault> {
    if let (Some(kernel), true) = (kernel, x.device().is_cpu()) {
        let wide = x.to_dtype(DType::F32)?.contiguous()?;
        let activated = wide.apply_op1_no_bwd(&HostActivation(kernel))?;
        return Ok(activated.to_dtype(x.dtype())?);
    }
    let is_converted = x.dtype() != DType::F32;
    let piece = match x.device().is_cpu() || !is_converted {
        true => usize::MAX,
        false => PIECE,
    };
    in_pieces(x, piece, activation)
}

/// An activation on the CPU.
struct HostActivation(Nonlinearity);

impl CustomOp1 for HostActivation {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let from = floats(storage, layout)?;
        let mut to = vec![0f32; from.len()];
        self.0.apply(from, &mut to, InstructionSet::detect());
        Ok((CpuStorage::F32(to), layout.shape().clone()))
    }
}

/// Computes `activation` for at most `piece` elements at a time.
fn in_pieces(
    x: &Tensor,
    piece: usize,
    activation: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> Result<Tensor, WorkerFault> {
    let whole = |x: &Tensor| activation(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype());
    let count = x.elem_count();
    if count <= piece {
        return Ok(whole(x)?);
    }
    let flat = x.flatten_all()?;
    let activated = filled(flat.zeros_like()?, 0, piece, |first, count| {
        Ok(whole(&flat.narrow(0, first, count)?)?)
    })?;
    Ok(activated.reshape(x.shape())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn activations_in_bf16_round_only_the_result() {
        let x = Tensor::arange(-4f32, 4.0, &Device::Cpu).expect("eight values");
        let half = |t: &Tensor| t.to_dtype(DType::BF16).expect("a cast");
        for activation in [silu, gelu_tanh, gelu_erf, quick_gelu] {
            let exact = half(&activation(&x).expect("f32"));
            let ours = activation(&half(&x)).expect("bf16");
            let pair = [exact, ours].map(|t| t.to_dtype(DType::F32).and_then(|t| t.to_vec1()));
            let [exact, ours]: [Vec<f32>; 2] = pair.map(|values| values.expect("eight values"));
            assert_eq!(exact, ours);
        }
    }

    #[test]
    fn an_activation_in_pieces_equals_the_whole() {
        let x = Tensor::arange(-4f32, 4.0, &Device::Cpu).and_then(|x| x.reshape((2, 4)));
        let x = x
            .and_then(|x| x.to_dtype(DType::BF16))
            .expect("eight values");
        let flat = |t: Tensor| {
            let wide = t.to_dtype(DType::F32).and_then(|t| t.to_vec2::<f32>());
            wide.expect("two rows")
        };
        let whole = in_pieces(&x, 8, Tensor::gelu).expect("bf16");
        for piece in [1, 3, 7] {
            let ours = in_pieces(&x, piece, Tensor::gelu).expect("bf16");
            assert_eq!(flat(ours), flat(whole.clone()), "{piece}");
        }
    }
}
