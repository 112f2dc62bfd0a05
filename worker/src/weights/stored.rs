//! A matrix that stays in its files.
//!
//! The files are mapped, so its memory is the kernel's copy of the files, which all processes share. A product converts a
//! slab of whole rows after the other to f32, so its result equals that of the dense matrix.

use super::piece::Piece;
use super::slabs::{slab_by_slab, slab_rows};
use crate::fault::WorkerFault;
use candle_core::Tensor;
use std::ops::Range;
use std::sync::Arc;

/// Largest number of elements that are converted at a time: 4 MiB in f32, which stay in the caches of a CPU.
pub(super) const STORED_SLAB_ELEMENTS: usize = 1 << 20;

/// Some rows of a stored matrix.
pub(super) struct RowSpan {
    piece: Arc<Piece>,
    rows: Range<usize>,
}

impl RowSpan {
    /// Makes a span of `rows` of a matrix in a file.
    pub(super) fn new(piece: Arc<Piece>, rows: Range<usize>) -> RowSpan {
        RowSpan { piece, rows }
    }

    /// Splits the span into spans of at most `most` rows.
    fn split(self, most: usize) -> impl Iterator<Item = RowSpan> {
        let RowSpan { piece, rows } = self;
        rows.clone().step_by(most).map(move |first| RowSpan {
            piece: Arc::clone(&piece),
            rows: first..(first + most).min(rows.end),
        })
    }
}

/// A matrix (out, in) in its files.
pub struct Stored {
    slabs: Vec<RowSpan>,
    dims: (usize, usize),
}

impl Stored {
    /// Makes a matrix of these dimensions from its spans in order. Its pages are read now, so that the first product
    /// does not wait for a disk.
    pub(super) fn new(spans: Vec<RowSpan>, dims: (usize, usize)) -> Stored {
        for span in &spans {
            span.piece.file.read_ahead(&span.piece.entry);
        }
        let most = slab_rows(STORED_SLAB_ELEMENTS, dims.1);
        let slabs = spans.into_iter().flat_map(|span| span.split(most));
        Stored {
            slabs: slabs.collect(),
            dims,
        }
    }

    /// The dimensions (out, in).
    pub(super) fn dims(&self) -> (usize, usize) {
        self.dims
    }

    /// Computes `x W^T` for contiguous rows (n, in) on the CPU: (n, out) in the dtype of `x`.
    pub(super) fn product(&self, rows: &Tensor) -> Result<Tensor, WorkerFault> {
        let slabs = self.slabs.iter();
        let dense = slabs.map(|slab| slab.piece.dense_rows(slab.rows.clone()));
        slab_by_slab(rows, self.dims.0, dense)
    }
}

impl Drop for Stored {
    /// Gives the pages back, so that encoders that are dropped after a prompt take no memory of this process.
    fn drop(&mut self) {
        for slab in &self.slabs {
            slab.piece.file.release(&slab.piece.entry);
        }
    }
}
