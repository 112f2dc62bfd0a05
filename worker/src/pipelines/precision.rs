//! The dtype that a device computes in, and the reason if it is not the requested one.

use candle_core::DType;
use ipc_protocol::arithmetic::Dtype;
use ipc_protocol::ids::Device;

/// The dtype chosen for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The dtype.
    pub dtype: Dtype,
    /// The reason why it is not the requested one; the end of a sentence.
    pub because: Option<&'static str>,
}

/// Chooses the dtype of a worker on `device`; `wished` is the requested one.
///
/// On a CPU, half precision only saves memory: every product converts its matrix to f32 first. From bf16 this
/// is a shift. From f16 it is a slower conversion of each value, for the same memory and a range up to 65504.
pub fn chosen(wished: Dtype, device: Device) -> Choice {
    match (wished, device) {
        (Dtype::F16, Device::Host) => Choice {
            dtype: Dtype::Bf16,
            because: Some(
                "a CPU converts half precision to f32 for each product, which is slower from f16, and bf16 \
                 takes the same memory",
            ),
        },
        (Dtype::Auto, Device::Host) => as_usual(Dtype::F32),
        // The kernels of a CUDA build are for cards that compute in bf16.
        (Dtype::Auto, Device::Cuda(_)) => as_usual(Dtype::Bf16),
        (Dtype::F32 | Dtype::Bf16, Device::Host)
        | (Dtype::F32 | Dtype::Bf16 | Dtype::F16, Device::Cuda(_)) => as_usual(wished),
    }
}

fn as_usual(dtype: Dtype) -> Choice {
    Choice {
        dtype,
        because: None,
    }
}

/// Converts to candle's type; `auto` to that of a CPU.
pub fn of_tensors(dtype: Dtype) -> DType {
    match dtype {
        Dtype::F32 | Dtype::Auto => DType::F32,
        Dtype::Bf16 => DType::BF16,
        Dtype::F16 => DType::F16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f16_on_a_cpu_becomes_bf16_with_a_reason_and_all_else_is_as_requested() {
        for wished in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
            for device in [Device::Host, Device::Cuda(1)] {
                let choice = chosen(wished, device);
                let other = (wished, device) == (Dtype::F16, Device::Host);
                assert_eq!(choice.because.is_some(), other);
                let expected = if other { Dtype::Bf16 } else { wished };
                assert_eq!(choice.dtype, expected);
            }
        }
        let auto = |device| chosen(Dtype::Auto, device);
        assert_eq!(auto(Device::Host), as_usual(Dtype::F32));
        assert_eq!(auto(Device::Cuda(0)), as_usual(Dtype::Bf16));
    }
}
