//! Products with a matrix in slabs of whole rows, of which one is dense at a time.

use crate::fault::WorkerFault;
use candle_core::Tensor;

/// Number of rows of a slab of at most `elements` elements, for a matrix with `columns` columns.
pub(super) fn slab_rows(elements: usize, columns: usize) -> usize {
    (elements / columns.max(1)).max(1)
}

/// Computes `x W^T` for contiguous rows (n, in): (n, out) in the dtype of `x`. The slabs are dense ones of W, in order,
/// each of which is made when its turn comes.
pub(super) fn slab_by_slab(
    rows: &Tensor,
    outputs: usize,
    slabs: impl Iterator<Item = Result<Tensor, WorkerFault>>,
) -> Result<Tensor, WorkerFault> {
    let dtype = rows.dtype();
    let product = Tensor::zeros((rows.dim(0)?, outputs), dtype, rows.device())?;
    let mut first = 0;
    for slab in slabs {
        let dense = slab?.to_dtype(dtype)?;
        product.slice_set(&rows.matmul(&dense.t()?)?, 1, first)?;
        first += dense.dim(0)?;
    }
    Ok(product)
}
