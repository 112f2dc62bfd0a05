//! A matrix to multiply with: widened, or in the blocks that its file has.

use crate::fault::Fault;
use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{DType, Module, Tensor};
use std::sync::Arc;

/// How packed matrices are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Products {
    /// Activations are rounded to 8 bits by blocks and multiplied as integers: fast.
    #[default]
    Integer,
    /// The matrix is widened to f32 for each product and thrown away: exact.
    Widened,
}

/// A matrix (out, in).
pub enum Matrix {
    /// In the compute dtype.
    Dense(Tensor),
    /// As stored, with the way it is multiplied.
    Packed(Arc<QTensor>, Products),
}

impl Matrix {
    /// (out, in).
    ///
    /// # Errors
    /// None for a matrix that was loaded as one.
    pub fn dims(&self) -> Result<(usize, usize), Fault> {
        Ok(match self {
            Matrix::Dense(dense) => dense.dims2()?,
            Matrix::Packed(packed, _) => packed.shape().dims2()?,
        })
    }

    /// `x W^T` of rows (n, in), contiguous: (n, out) in the dtype of `x`.
    ///
    /// # Errors
    /// The device's faults.
    pub fn product(&self, rows: &Tensor) -> Result<Tensor, Fault> {
        Ok(match self {
            Matrix::Dense(dense) => rows.matmul(&dense.to_dtype(rows.dtype())?.t()?)?,
            Matrix::Packed(packed, products) => {
                let wide = rows.to_dtype(DType::F32)?;
                let product = match products {
                    Products::Integer => QMatMul::QTensor(Arc::clone(packed)).forward(&wide)?,
                    Products::Widened => {
                        let dense = packed.dequantize(wide.device())?;
                        wide.matmul(&dense.t()?)?
                    }
                };
                product.to_dtype(rows.dtype())?
            }
        })
    }
}
