//! The part of a weight file below a prefix, and how far loading has come.

use super::recipe::Recipe;
use super::{Matrix, Weights};
use crate::fault::Fault;
use candle_core::{DType, Device, Tensor};
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// Counts bytes of loaded tensors and tells the fraction of all.
pub struct Meter<'a> {
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
            total,
            done: Cell::new(0),
            tell: RefCell::new(tell),
        }
    }

    fn count(&self, bytes: u64) {
        self.done.set(self.done.get() + bytes);
        let fraction = self.done.get() as f64 / self.total as f64;
        (self.tell.borrow_mut())((fraction as f32).min(1.0));
    }
}

/// A prefix of a weight file, with what its tensors should become.
#[derive(Clone)]
pub struct Section<'a> {
    weights: &'a Weights,
    meter: &'a Meter<'a>,
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
            weights,
            meter,
            prefix: String::new(),
            dtype,
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
        self.weights.shape(&self.full(name))
    }

    /// Whether the section has a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.shape(name).is_some()
    }

    /// A tensor of exactly this shape.
    ///
    /// # Errors
    /// [`Fault::Configuration`] when it is absent, of another shape or of a dtype that is not read; the device's faults.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, Fault> {
        let (name, recipe) = self.recipe(name, shape)?;
        let tensor = recipe.tensor(self.dtype, self.device)?;
        self.count(name, recipe);
        Ok(tensor)
    }

    /// A matrix (out, in) of exactly this shape, packed when its file has it so.
    ///
    /// # Errors
    /// As [`Section::tensor`].
    pub fn matrix(&self, name: &str, shape: (usize, usize)) -> Result<Matrix, Fault> {
        let (full, recipe) = self.recipe(name, &[shape.0, shape.1])?;
        let Some(blocks) = recipe.blocks(self.device)? else {
            return Ok(Matrix::Dense(self.tensor(name, &[shape.0, shape.1])?));
        };
        self.count(full, recipe);
        Ok(Matrix::Packed(Arc::new(blocks), self.weights.products))
    }

    fn recipe(&self, name: &str, shape: &[usize]) -> Result<(String, &'a Recipe), Fault> {
        let name = self.full(name);
        let recipe = self.weights.recipe(&name)?;
        if recipe.shape == shape {
            return Ok((name, recipe));
        }
        let found = &recipe.shape;
        let what = format!("has shape {found:?}, the configuration asks for {shape:?}");
        let (file, stored) = recipe.origin();
        Err(Fault::configuration(file, stored, what))
    }

    fn count(&self, name: String, recipe: &Recipe) {
        self.meter.count(recipe.stored_bytes());
        self.weights.read.borrow_mut().insert(name);
    }
}
