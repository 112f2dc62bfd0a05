//! One stored tensor, from which tensors of a model are made.

use super::entry::TensorEntry;
use super::file::WeightFile;
use crate::fault::WorkerFault;
use candle_core::{DType, Device, Tensor};
use std::ops::Range;
use std::sync::Arc;

/// A stored tensor and its scale.
pub(super) struct Piece {
    pub(super) file: Arc<WeightFile>,
    pub(super) name: String,
    pub(super) entry: TensorEntry,
    pub(super) scale: Option<Tensor>, // (1) or (rows, 1), f32
}

impl Piece {
    pub(super) fn fault(&self, what: impl Into<String>) -> WorkerFault {
        WorkerFault::configuration(self.file.name(), &self.name, what)
    }

    /// Loads the values in `dtype` to `device`.
    pub(super) fn tensor(&self, dtype: DType, device: &Device) -> Result<Tensor, WorkerFault> {
        let (kind, shape) = (self.entry.kind, &self.entry.shape);
        let stored = kind.tensor(self.file.data(&self.entry)?, shape, device)?;
        self.file.release(&self.entry);
        let stored = stored.map_err(|what| self.fault(what))?;
        let Some(scale) = &self.scale else {
            return Ok(stored.to_dtype(dtype)?);
        };
        let wide = stored.to_dtype(DType::F32)?;
        Ok(wide
            .broadcast_mul(&scale.to_device(device)?)?
            .to_dtype(dtype)?)
    }

    /// Tells whether this is a matrix in a mapped file, in fewer bytes than its values take in f32.
    pub(super) fn is_narrow_matrix(&self) -> bool {
        let is_matrix = self.entry.shape.len() == 2;
        is_matrix && self.file.is_mapped() && self.entry.kind.is_narrow()
    }

    /// Rows of the matrix.
    pub(super) fn rows(&self) -> usize {
        self.entry.shape.first().copied().unwrap_or(0)
    }

    /// Converts some rows of the matrix from the file to f32 on the CPU.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsCorrupt`] if the file was changed after it was opened, also while it was read here.
    pub(super) fn dense_rows(&self, rows: Range<usize>) -> Result<Tensor, WorkerFault> {
        let columns = self.entry.shape.last().copied().unwrap_or(0);
        let bytes = self.file.data(&self.entry)?;
        let row = bytes.len() / self.rows().max(1); // bytes of it: whole blocks
        let shape = [rows.len(), columns];
        let wide = self
            .entry
            .kind
            .wide(&bytes[rows.start * row..rows.end * row], shape)?;
        let wide = wide.map_err(|what| self.fault(what))?;
        self.file.check_unchanged()?;
        let Some(scale) = &self.scale else {
            return Ok(wide);
        };
        let scale = match scale.dim(0)? {
            1 => scale.clone(),
            _ => scale.narrow(0, rows.start, rows.len())?,
        };
        Ok(wide.broadcast_mul(&scale)?)
    }
}
