//! The encodings of stored tensors, and their conversion to f32.

use crate::fault::WorkerFault;
use candle_core::quantized::{GgmlDType, QTensor, ggml_file};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use std::fmt;
use std::sync::LazyLock;

/// The supported encodings, for the end of every error.
pub(super) const READ: &str =
    "F32, F16, BF16, F8_E4M3 (alone or scaled) and the GGUF blocks Q4_0 to Q6_K are supported";

/// The encoding of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ElementKind {
    /// One number per element: f32, f16 or bf16.
    Plain(DType),
    /// 8 bits: sign, 4 bits of exponent with bias 7, 3 bits of fraction; no infinities (e4m3fn).
    Float8,
    /// Quantized blocks of GGML.
    Blocks(GgmlDType),
    /// Another encoding with a known name and size, which is not supported.
    Other {
        name: &'static str,
        block: usize,
        bytes: usize,
    },
}

/// Encodings of safetensors that are not supported, with the bytes of an element.
const SAFETENSORS_OTHERS: [(&str, usize); 12] = [
    ("BOOL", 1),
    ("U8", 1),
    ("I8", 1),
    ("F8_E5M2", 1),
    ("F8_E8M0", 1),
    ("I16", 2),
    ("U16", 2),
    ("I32", 4),
    ("U32", 4),
    ("I64", 8),
    ("U64", 8),
    ("F64", 8),
];

/// Types of GGML that candle does not support: number, name, elements and bytes of a block.
/// Source: `GGML_QUANT_SIZES` in ggml's `gguf-py/gguf/constants.py`.
const GGML_OTHERS: [(u32, &str, usize, usize); 18] = [
    (9, "Q8_1", 32, 40),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
];

impl ElementKind {
    pub(super) fn of_safetensors(name: &str) -> Option<ElementKind> {
        Some(match name {
            "F32" => ElementKind::Plain(DType::F32),
            "F16" => ElementKind::Plain(DType::F16),
            "BF16" => ElementKind::Plain(DType::BF16),
            "F8_E4M3" => ElementKind::Float8,
            _ => {
                let (name, bytes) = *SAFETENSORS_OTHERS.iter().find(|other| other.0 == name)?;
                ElementKind::Other {
                    name,
                    block: 1,
                    bytes,
                }
            }
        })
    }

    pub(super) fn of_ggml(number: u32) -> Option<ElementKind> {
        Some(match number {
            0 => ElementKind::Plain(DType::F32),
            1 => ElementKind::Plain(DType::F16),
            30 => ElementKind::Plain(DType::BF16),
            2 => ElementKind::Blocks(GgmlDType::Q4_0),
            3 => ElementKind::Blocks(GgmlDType::Q4_1),
            6 => ElementKind::Blocks(GgmlDType::Q5_0),
            7 => ElementKind::Blocks(GgmlDType::Q5_1),
            8 => ElementKind::Blocks(GgmlDType::Q8_0),
            10 => ElementKind::Blocks(GgmlDType::Q2K),
            11 => ElementKind::Blocks(GgmlDType::Q3K),
            12 => ElementKind::Blocks(GgmlDType::Q4K),
            13 => ElementKind::Blocks(GgmlDType::Q5K),
            14 => ElementKind::Blocks(GgmlDType::Q6K),
            _ => {
                let other = GGML_OTHERS.iter().find(|other| other.0 == number)?;
                let (_, name, block, bytes) = *other;
                ElementKind::Other { name, block, bytes }
            }
        })
    }

    /// Elements and bytes of a block; a row consists of whole blocks.
    fn block(self) -> (usize, usize) {
        match self {
            ElementKind::Plain(dtype) => (1, dtype.size_in_bytes()),
            ElementKind::Float8 => (1, 1),
            ElementKind::Blocks(ggml) => (ggml.block_size(), ggml.type_size()),
            ElementKind::Other { block, bytes, .. } => (block, bytes),
        }
    }

    /// Bytes of a tensor of this shape; `None` if the number overflows or a row does not consist of whole blocks.
    pub(super) fn bytes(self, shape: &[usize]) -> Option<usize> {
        let (elements, bytes) = self.block();
        let row = shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(elements) {
            return None;
        }
        let count = shape
            .iter()
            .try_fold(1usize, |all, side| all.checked_mul(*side))?;
        (count / elements).checked_mul(bytes)
    }

    /// Tells whether products can use its matrices as stored.
    pub(super) fn is_packed(self) -> bool {
        matches!(self, ElementKind::Blocks(_))
    }

    /// Tells whether an element takes less memory than in f32.
    pub(super) fn is_narrow(self) -> bool {
        match self {
            ElementKind::Plain(dtype) => dtype.size_in_bytes() < DType::F32.size_in_bytes(),
            ElementKind::Float8 | ElementKind::Blocks(_) => true,
            ElementKind::Other { .. } => false,
        }
    }

    /// Converts the values of a matrix to f32 on the CPU.
    ///
    /// # Errors
    /// As [`ElementKind::tensor`].
    pub(super) fn wide(
        self,
        bytes: &[u8],
        shape: [usize; 2],
    ) -> Result<Result<Tensor, String>, WorkerFault> {
        let device = &Device::Cpu;
        if self != ElementKind::Plain(DType::BF16) {
            return match self.tensor(bytes, &shape, device)? {
                Ok(values) => Ok(Ok(values.to_dtype(DType::F32)?)),
                refused => Ok(refused),
            };
        }
        // The upper half of an f32, in one pass: this is most of what a model in bf16 costs more than one in f32.
        let (pairs, _) = bytes.as_chunks::<2>();
        let wide = pairs.par_iter().with_min_len(1 << 14);
        let wide = wide.map(|pair| f32::from_bits(u32::from(u16::from_le_bytes(*pair)) << 16));
        Ok(Ok(Tensor::from_vec(
            wide.collect::<Vec<f32>>(),
            &shape,
            device,
        )?))
    }

    /// Loads the values to `device`; in f32, except for plain encodings.
    ///
    /// # Errors
    /// A sentence about the unsupported encoding; faults of the device.
    pub(super) fn tensor(
        self,
        bytes: &[u8],
        shape: &[usize],
        device: &Device,
    ) -> Result<Result<Tensor, String>, WorkerFault> {
        Ok(Ok(match self {
            ElementKind::Plain(dtype) => Tensor::from_raw_buffer(bytes, dtype, shape, device)?,
            ElementKind::Float8 => {
                let wide = bytes.iter().map(|byte| FLOAT8[usize::from(*byte)]);
                Tensor::from_vec(wide.collect::<Vec<f32>>(), shape, device)?
            }
            ElementKind::Blocks(_) => self.blocks(bytes, shape, device)?.dequantize(device)?,
            ElementKind::Other { .. } => return Ok(Err(self.refusal())),
        }))
    }

    /// Checks that the values can be read.
    ///
    /// # Errors
    /// A sentence with the supported encodings.
    pub(super) fn check(self) -> Result<(), String> {
        match self {
            ElementKind::Plain(_) | ElementKind::Float8 | ElementKind::Blocks(_) => Ok(()),
            ElementKind::Other { .. } => Err(self.refusal()),
        }
    }

    fn refusal(self) -> String {
        format!("is stored as {self}, which is not supported; {READ}")
    }

    /// Loads the blocks without conversion; only for [`ElementKind::Blocks`].
    ///
    /// # Errors
    /// Faults of the device.
    pub(super) fn blocks(
        self,
        bytes: &[u8],
        shape: &[usize],
        device: &Device,
    ) -> Result<QTensor, WorkerFault> {
        let ElementKind::Blocks(ggml) = self else {
            return Err(WorkerFault::Compute(format!("{self} has no blocks")));
        };
        Ok(ggml_file::qtensor_from_ggml(
            ggml,
            bytes,
            shape.to_vec(),
            device,
        )?)
    }
}

impl fmt::Display for ElementKind {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            ElementKind::Plain(dtype) => write!(out, "{}", dtype.as_str().to_uppercase()),
            ElementKind::Float8 => out.write_str("F8_E4M3"),
            ElementKind::Blocks(ggml) => write!(out, "{ggml:?}"),
            ElementKind::Other { name, .. } => out.write_str(name),
        }
    }
}

/// The value of each e4m3fn byte. Source: Micikevicius et al., arXiv:2209.05433, table 1.
static FLOAT8: LazyLock<[f32; 256]> =
    LazyLock::new(|| std::array::from_fn(|byte| float8(byte as u8)));

fn float8(byte: u8) -> f32 {
    let (exponent, fraction) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let size = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => fraction / 8.0 * 2f32.powi(-6),
        _ => (1.0 + fraction / 8.0) * 2f32.powi(exponent - 7),
    };
    if byte & 0x80 == 0 { size } else { -size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float8_has_the_published_extreme_values() {
        assert_eq!(float8(0x7e), 448.0);
        assert_eq!(float8(0x08), 2f32.powi(-6));
        assert_eq!(float8(0x81), -(2f32.powi(-9)));
        assert!(float8(0x7f).is_nan() && float8(0xff).is_nan());
    }

    #[test]
    fn a_row_with_a_partial_block_has_no_size() {
        let blocks = ElementKind::Blocks(GgmlDType::Q4K);
        assert_eq!(blocks.bytes(&[3, 256]), Some(3 * 144));
        assert_eq!(blocks.bytes(&[256, 320]), None);
        assert_eq!(ElementKind::Float8.bytes(&[usize::MAX, 2]), None);
    }
}
