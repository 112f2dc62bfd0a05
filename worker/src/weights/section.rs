//! The tensors of a weight file below a prefix, and the progress of loading.

use super::recipe::Recipe;
use super::{Inventory, Matrix, Weights};
use crate::fault::WorkerFault;
use candle_core::{DType, Device, Tensor};
use std::cell::{Cell, RefCell};

/// The extent of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadDepth {
    /// Loads the values.
    Values,
    /// Checks only names, shapes and encodings: every tensor is a view of one zero.
    Headers,
}

/// Counts the bytes of loaded tensors and reports their fraction of all bytes.
pub struct Meter<'a> {
    depth: LoadDepth,
    total: u64,
    done: Cell<u64>,
    tell: RefCell<&'a mut dyn FnMut(f32)>,
}

impl<'a> Meter<'a> {
    /// A meter for the given files.
    pub fn new(files: &[&Weights], tell: &'a mut dyn FnMut(f32)) -> Meter<'a> {
        let total = files
            .iter()
            .map(|file| file.stored_bytes())
            .sum::<u64>()
            .max(1);
        Meter {
            depth: LoadDepth::Values,
            total,
            done: Cell::new(0),
            tell: RefCell::new(tell),
        }
    }

    /// Sets the depth of the load.
    #[must_use]
    pub fn to(self, depth: LoadDepth) -> Meter<'a> {
        Meter { depth, ..self }
    }

    fn count(&self, bytes: u64) {
        self.done.set(self.done.get() + bytes);
        let fraction = self.done.get() as f64 / self.total as f64;
        (self.tell.borrow_mut())((fraction as f32).min(1.0));
    }
}

/// The source of a section's tensors.
#[derive(Clone, Copy)]
enum TensorSource<'a> {
    Files(&'a Weights, &'a Meter<'a>),
    /// No file: every requested tensor is zero, and is added to the list.
    Listing(&'a RefCell<Inventory>),
}

/// The tensors of a weight file below a prefix, with the dtype and device to load them to.
#[derive(Clone)]
pub struct Section<'a> {
    source: TensorSource<'a>,
    prefix: String,
    dtype: DType,
    device: &'a Device,
}

impl<'a> Section<'a> {
    /// The section of a whole file; tensors are converted to `dtype` on `device`.
    pub fn new(
        weights: &'a Weights,
        meter: &'a Meter<'a>,
        dtype: DType,
        device: &'a Device,
    ) -> Section<'a> {
        Section {
            source: TensorSource::Files(weights, meter),
            prefix: String::new(),
            dtype,
            device,
        }
    }

    /// A section without a file, which adds every requested tensor to `inventory`. The tensors are zeros of the
    /// requested shape and take almost no memory.
    pub fn listing(inventory: &'a RefCell<Inventory>, device: &'a Device) -> Section<'a> {
        Section {
            source: TensorSource::Listing(inventory),
            prefix: String::new(),
            dtype: DType::F32,
            device,
        }
    }

    /// The section below `name`, which is appended to the prefix with a dot.
    #[must_use]
    pub fn at(&self, name: impl std::fmt::Display) -> Section<'a> {
        Section {
            prefix: self.full(name),
            ..self.clone()
        }
    }

    fn full(&self, name: impl std::fmt::Display) -> String {
        if self.prefix.is_empty() {
            name.to_string()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }

    /// The same section with another dtype.
    #[must_use]
    pub fn as_dtype(&self, dtype: DType) -> Section<'a> {
        Section {
            dtype,
            ..self.clone()
        }
    }

    /// Dtype of the loaded tensors.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Device of the loaded tensors.
    pub fn device(&self) -> &'a Device {
        self.device
    }

    /// Tells whether tensors are loaded with their values, and not as zeros.
    pub fn has_values(&self) -> bool {
        match self.source {
            TensorSource::Files(_, meter) => meter.depth == LoadDepth::Values,
            TensorSource::Listing(_) => false,
        }
    }

    /// Shape of a tensor, if the section contains it.
    pub fn shape(&self, name: &str) -> Option<&'a [usize]> {
        match self.source {
            TensorSource::Files(weights, _) => weights.shape(&self.full(name)),
            TensorSource::Listing(_) => None,
        }
    }

    /// Tells whether the section contains a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.shape(name).is_some()
    }

    /// Loads a tensor of exactly this shape.
    ///
    /// # Errors
    /// [`WorkerFault::Configuration`] if it is missing, of another shape or of an unsupported dtype; faults of the device.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, WorkerFault> {
        let (weights, meter) = match self.source {
            TensorSource::Files(weights, meter) => (weights, meter),
            TensorSource::Listing(inventory) => return self.listed(inventory, name, shape),
        };
        let (name, recipe) = self.recipe(weights, name, shape)?;
        let tensor = match meter.depth {
            LoadDepth::Values => recipe.tensor(self.dtype, self.device)?,
            LoadDepth::Headers => self.zeros(shape)?,
        };
        count((weights, meter), name, recipe);
        Ok(tensor)
    }

    /// Loads a matrix (out, in) of exactly this shape. On the CPU it stays in its files if it is narrower than f32 there,
    /// on another device it stays packed if its file stores it in blocks.
    ///
    /// # Errors
    /// As [`Section::tensor`].
    pub fn matrix(
        &self,
        name: &str,
        (rows, columns): (usize, usize),
    ) -> Result<Matrix, WorkerFault> {
        let shape = [rows, columns];
        if let TensorSource::Files(weights, meter) = self.source {
            let (full, recipe) = self.recipe(weights, name, &shape)?;
            let held = match (meter.depth, self.device) {
                (LoadDepth::Headers, _) => None,
                (LoadDepth::Values, Device::Cpu) => recipe.stored().map(Matrix::Stored),
                (LoadDepth::Values, device) => recipe.blocks(device)?.map(Matrix::Packed),
            };
            if let Some(held) = held {
                count((weights, meter), full, recipe);
                return Ok(held);
            }
        }
        Ok(Matrix::Dense(self.tensor(name, &shape)?))
    }

    fn recipe(
        &self,
        weights: &'a Weights,
        name: &str,
        shape: &[usize],
    ) -> Result<(String, &'a Recipe), WorkerFault> {
        let name = self.full(name);
        let recipe = weights.recipe(&name)?;
        recipe.check()?;
        if recipe.shape == shape {
            return Ok((name, recipe));
        }
        let found = &recipe.shape;
        let what = format!("has shape {found:?}, but the configuration needs {shape:?}");
        let (file, stored) = recipe.origin();
        Err(WorkerFault::configuration(file, stored, what))
    }

    fn listed(
        &self,
        inventory: &RefCell<Inventory>,
        name: &str,
        shape: &[usize],
    ) -> Result<Tensor, WorkerFault> {
        inventory.borrow_mut().add(self.full(name), shape, None);
        self.zeros(shape)
    }

    /// Returns zeros of a shape. A matrix is one value in memory; a convolution, which its loader may copy to another
    /// layout, is untouched pages.
    fn zeros(&self, shape: &[usize]) -> Result<Tensor, WorkerFault> {
        if shape.len() > 2 {
            return Ok(Tensor::zeros(shape, self.dtype, self.device)?);
        }
        let zero = Tensor::zeros(1, self.dtype, self.device)?;
        Ok(zero.broadcast_as(shape)?)
    }
}

/// Marks a tensor as read and counts its bytes.
fn count((weights, meter): (&Weights, &Meter), name: String, recipe: &Recipe) {
    meter.count(recipe.stored_bytes());
    weights.read.borrow_mut().insert(name);
}
