//! The part of a weight file below a prefix, and how far loading has come.

use super::recipe::Recipe;
use super::{Inventory, Matrix, Weights};
use crate::fault::WorkerFault;
use candle_core::{DType, Device, Tensor};
use std::cell::{Cell, RefCell};

/// How far a load goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadDepth {
    /// To the values.
    Values,
    /// To names, shapes and encodings: every tensor becomes a view of one zero.
    Headers,
}

/// Counts bytes of loaded tensors and tells the fraction of all.
pub struct Meter<'a> {
    depth: LoadDepth,
    total: u64,
    done: Cell<u64>,
    tell: RefCell<&'a mut dyn FnMut(f32)>,
}

impl<'a> Meter<'a> {
    /// A meter over the given files.
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

    /// The same meter over a load of that depth.
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

/// Where a section's tensors come from.
#[derive(Clone, Copy)]
enum TensorSource<'a> {
    Files(&'a Weights, &'a Meter<'a>),
    /// No file: every tensor is there, all zero, and is listed when it is asked for.
    Listing(&'a RefCell<Inventory>),
}

/// A prefix of a weight file, with what its tensors should become.
#[derive(Clone)]
pub struct Section<'a> {
    source: TensorSource<'a>,
    prefix: String,
    dtype: DType,
    device: &'a Device,
}

impl<'a> Section<'a> {
    /// The whole file, tensors converted to `dtype` on `device`.
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

    /// A section without a file, which lists in `inventory` every tensor that it is asked for. The tensors
    /// are zeros of the shape that was asked for and take next to no memory.
    pub fn listing(inventory: &'a RefCell<Inventory>, device: &'a Device) -> Section<'a> {
        Section {
            source: TensorSource::Listing(inventory),
            prefix: String::new(),
            dtype: DType::F32,
            device,
        }
    }

    /// The part below `name`, which is joined with a dot.
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

    /// The same part, its tensors converted to another dtype.
    #[must_use]
    pub fn as_dtype(&self, dtype: DType) -> Section<'a> {
        Section {
            dtype,
            ..self.clone()
        }
    }

    /// Dtype that tensors of this section are converted to.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Device that tensors of this section are put on.
    pub fn device(&self) -> &'a Device {
        self.device
    }

    /// Shape of a tensor, if the section has it.
    pub fn shape(&self, name: &str) -> Option<&'a [usize]> {
        match self.source {
            TensorSource::Files(weights, _) => weights.shape(&self.full(name)),
            TensorSource::Listing(_) => None,
        }
    }

    /// Whether the section has a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.shape(name).is_some()
    }

    /// A tensor of exactly this shape.
    ///
    /// # Errors
    /// [`WorkerFault::Configuration`] when it is absent, of another shape or of a dtype that is not read; the device's faults.
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

    /// A matrix (out, in) of exactly this shape, packed when its file has it so.
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
            let blocks = match meter.depth {
                LoadDepth::Values => recipe.blocks(self.device)?,
                LoadDepth::Headers => None,
            };
            if let Some(packed) = blocks {
                count((weights, meter), full, recipe);
                return Ok(Matrix::Packed(packed));
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
        let what = format!("has shape {found:?}, the configuration asks for {shape:?}");
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

    /// Returns zeros of a shape: one value in memory, or, for a convolution that its loader lays out anew, untouched
    /// pages.
    fn zeros(&self, shape: &[usize]) -> Result<Tensor, WorkerFault> {
        if shape.len() > 2 {
            return Ok(Tensor::zeros(shape, self.dtype, self.device)?);
        }
        let zero = Tensor::zeros(1, self.dtype, self.device)?;
        Ok(zero.broadcast_as(shape)?)
    }
}

/// Counts a tensor as read.
fn count((weights, meter): (&Weights, &Meter), name: String, recipe: &Recipe) {
    meter.count(recipe.stored_bytes());
    weights.read.borrow_mut().insert(name);
}
