//! A matrix for products: dense, in the quantized blocks of its file, or in its file itself.

use super::slabs::slab_by_slab;
use super::stored::Stored;
use crate::fault::WorkerFault;
use candle_core::Tensor;
use candle_core::quantized::QTensor;

/// Largest number of elements of a packed matrix that are dequantized at a time.
pub(super) const SLAB_ELEMENTS: usize = 1 << 22;

/// A matrix (out, in).
pub enum Matrix {
    /// Dense, in the dtype of the model.
    Dense(Tensor),
    /// In the blocks of its file, on a device.
    Packed(Packed),
    /// In its files, on the host.
    Stored(Stored),
}

/// A matrix in blocks, split into slabs of whole rows. A product dequantizes one slab after the other, so that
/// its result equals that of the dense matrix without holding all of it.
///
/// candle's own product of blocks is not used: it rounds the activations to 8 bits, which for Q8_0 loses as
/// much as the rounding of the file, keeps a second copy of some kinds, and is slower on a CPU except for Q4_K.
pub struct Packed {
    slabs: Vec<QTensor>,
    dims: (usize, usize),
}

impl Packed {
    /// Makes a matrix (out, in) from its slabs in order.
    pub(super) fn new(slabs: Vec<QTensor>, dims: (usize, usize)) -> Packed {
        Packed { slabs, dims }
    }

    fn product(&self, rows: &Tensor) -> Result<Tensor, WorkerFault> {
        let slabs = self.slabs.iter();
        let dense = slabs.map(|slab| Ok(slab.dequantize(rows.device())?));
        slab_by_slab(rows, self.dims.0, dense)
    }
}

impl Matrix {
    /// The dimensions (out, in).
    ///
    /// # Errors
    /// Never for a matrix that was loaded as one.
    pub fn dims(&self) -> Result<(usize, usize), WorkerFault> {
        Ok(match self {
            Matrix::Dense(dense) => dense.dims2()?,
            Matrix::Packed(packed) => packed.dims,
            Matrix::Stored(stored) => stored.dims(),
        })
    }

    /// Computes `x W^T` for contiguous rows (n, in): (n, out) in the dtype of `x`.
    ///
    /// # Errors
    /// Faults of the device.
    pub fn product(&self, rows: &Tensor) -> Result<Tensor, WorkerFault> {
        match self {
            Matrix::Dense(dense) => Ok(rows.matmul(&dense.to_dtype(rows.dtype())?.t()?)?),
            Matrix::Packed(packed) => packed.product(rows),
            Matrix::Stored(stored) => stored.product(rows),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::slabs::slab_rows;
    use super::*;
    use candle_core::Device;
    use candle_core::quantized::GgmlDType;

    /// Numbers in -1..1 without a regular pattern.
    pub(in crate::weights) fn values(count: usize) -> Vec<f32> {
        let value = |i: usize| ((i * 7919 + i / 31) % 2003) as f32 / 1001.5 - 1.0;
        (0..count).map(value).collect()
    }

    fn relative(ours: &Tensor, exact: &Tensor) -> f64 {
        let length = |x: &Tensor| -> f64 {
            let squares = x.sqr().and_then(|x| x.sum_all());
            let sum = squares.and_then(|x| x.to_scalar::<f32>());
            f64::from(sum.expect("a sum")).sqrt()
        };
        length(&(ours - exact).expect("one shape")) / length(exact)
    }

    #[test]
    fn a_packed_product_equals_that_of_the_dequantized_matrix() {
        let columns = 1024;
        let of_slab = slab_rows(SLAB_ELEMENTS, columns);
        let rows = of_slab + 64;
        let weight = Tensor::from_vec(values(rows * columns), (rows, columns), &Device::Cpu);
        let weight = weight.expect("values of this shape");
        let x = Tensor::from_vec(values(3 * columns), (3, columns), &Device::Cpu);
        let x = x.expect("values of this shape");
        for kind in [GgmlDType::Q8_0, GgmlDType::Q6K, GgmlDType::Q4_0] {
            let starts = (0..rows).step_by(of_slab);
            let slabs: Vec<QTensor> = starts
                .map(|first| {
                    let count = of_slab.min(rows - first);
                    let slab = weight.narrow(0, first, count).and_then(|slab| slab.copy());
                    let slab = slab.and_then(|slab| QTensor::quantize(&slab, kind));
                    slab.expect("whole blocks")
                })
                .collect();
            assert_eq!(slabs.len(), 2);
            let widened = slabs.iter().map(|slab| slab.dequantize(&Device::Cpu));
            let widened: Vec<Tensor> = widened.collect::<Result<_, _>>().expect("blocks");
            let exact = Tensor::cat(&widened, 0).and_then(|dense| x.matmul(&dense.t()?));
            let exact = exact.expect("a product");
            let matrix = Matrix::Packed(Packed::new(slabs, (rows, columns)));
            let ours = matrix.product(&x).expect("a product");
            let apart = relative(&ours, &exact);
            assert!(apart <= 1e-6, "{kind:?}: {apart}"); // 8-bit activations: 5e-3
            let file = x.matmul(&weight.t().expect("a matrix")).expect("a product");
            assert!(relative(&file, &exact) > 1e-3, "{kind:?} lost nothing");
        }
    }
}
