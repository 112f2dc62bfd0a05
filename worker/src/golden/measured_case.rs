//! The measurement of one case: its goldens, and the resulting lines.

use super::case::{Case, Goldens};
use super::measure::{Tolerance, ValueDistance};
use super::{Measure, PartLine};
use crate::fault::WorkerFault;
use crate::pipelines::ComputeSettings;
use crate::pixels;
use candle_core::{DType, Device, Tensor};
use std::path::Path;

/// The receiver of the lines.
pub(super) type LineSink<'h> = &'h mut dyn FnMut(PartLine);

/// A case of a folder.
pub(super) struct MeasuredCase<'a> {
    folder: &'a Path,
    name: &'a str,
    pub(super) case: &'a Case,
    measure: Measure<'a>,
}

impl<'a> MeasuredCase<'a> {
    pub(super) fn new(
        folder: &'a Path,
        name: &'a str,
        case: &'a Case,
        measure: Measure<'a>,
    ) -> MeasuredCase<'a> {
        MeasuredCase {
            folder,
            name,
            case,
            measure,
        }
    }

    /// The compute settings of the measured model.
    pub(super) fn settings(&self) -> ComputeSettings {
        ComputeSettings {
            dtype: self.measure.dtype,
            ..ComputeSettings::default()
        }
    }

    /// The device of the measured model.
    pub(super) fn device(&self) -> &Device {
        self.measure.device
    }

    /// The images of the batch.
    pub(super) fn images(&'a self) -> Result<Vec<MeasuredImage<'a>>, WorkerFault> {
        let image = |index: usize| -> Result<MeasuredImage<'a>, WorkerFault> {
            let half = self.measure.half;
            Ok(MeasuredImage {
                measured: self,
                goldens: Goldens::read(self.folder, self.name)?,
                half: half.map(|at| Goldens::read(at, self.name)).transpose()?,
                index,
            })
        };
        (0..self.case.prompts.len()).map(image).collect()
    }
}

/// One image of a case.
pub(super) struct MeasuredImage<'a> {
    pub(super) measured: &'a MeasuredCase<'a>,
    pub(super) goldens: Goldens,
    half: Option<Goldens>,
    pub(super) index: usize,
}

impl MeasuredImage<'_> {
    pub(super) fn prompt(&self) -> &str {
        &self.measured.case.prompts[self.index]
    }

    /// Returns the tolerance of a part that `blocks` blocks computed from the golden's input.
    pub(super) fn part(&self, mean: f64, blocks: usize) -> Tolerance {
        match self.measured.measure.dtype {
            DType::F32 => Tolerance::PART,
            _ => Tolerance::half(mean, blocks),
        }
    }

    /// The factor by which guidance amplifies differences of its two velocities.
    pub(super) fn stretch(&self) -> f64 {
        let guidance = self.measured.case.cfg;
        guidance.map_or(1.0, |g| (2.0 * g - 1.0).max(1.0))
    }

    /// Returns the tolerance of latents computed from the initial noise.
    pub(super) fn free(&self) -> Tolerance {
        let bar = match self.measured.measure.dtype {
            DType::F32 => Tolerance::FREE,
            _ => Tolerance::HALF_FREE,
        };
        bar.times(self.stretch())
    }

    pub(super) fn golden(&self, name: &str) -> Result<Tensor, WorkerFault> {
        self.golden_at(name, self.index)
    }

    /// A tensor of another row of the batch. With guidance, rows without the prompt are first.
    pub(super) fn golden_at(&self, name: &str, row: usize) -> Result<Tensor, WorkerFault> {
        let (values, shape) = self.goldens.floats(name, row)?;
        Ok(Tensor::from_vec(values, shape, self.measured.device())?)
    }

    /// A tensor of the reference in half precision, if there is one, with rows as in [`MeasuredImage::golden_at`].
    fn half_at(&self, name: &str, row: usize) -> Result<Option<Tensor>, WorkerFault> {
        let Some(half) = &self.half else {
            return Ok(None);
        };
        let (values, shape) = half.floats(name, row)?;
        Ok(Some(Tensor::from_vec(values, shape, &Device::Cpu)?))
    }

    pub(super) fn ids(&self, sink: LineSink, part: &str, ours: &[u32]) -> Result<(), WorkerFault> {
        let golden = self.goldens.ids(part, self.index)?;
        let [ours, golden] = [ours, &golden].map(|ids| ids.iter().map(|id| f64::from(*id)));
        self.emit(
            sink,
            part,
            ValueDistance::between(ours, golden),
            Tolerance::Equal,
        );
        Ok(())
    }

    pub(super) fn levels(&self, sink: LineSink, ours: &[f32]) -> Result<(), WorkerFault> {
        let golden = self.goldens.shared("sigmas")?;
        let [ours, golden] = [ours, &golden].map(|v| v.iter().map(|s| f64::from(*s)));
        self.emit(
            sink,
            "sigmas",
            ValueDistance::between(ours, golden),
            Tolerance::Equal,
        );
        Ok(())
    }

    /// Measures `ours` against the golden `name`.
    pub(super) fn tensor(
        &self,
        sink: LineSink,
        (part, name): (&str, &str),
        ours: &Tensor,
        bar: Tolerance,
    ) -> Result<(), WorkerFault> {
        self.row(sink, (part, name), (ours, self.index), bar)
    }

    /// Like [`MeasuredImage::tensor`], for another row of the batch.
    pub(super) fn row(
        &self,
        sink: LineSink,
        (part, name): (&str, &str),
        (ours, row): (&Tensor, usize),
        bar: Tolerance,
    ) -> Result<(), WorkerFault> {
        let distance = distance(ours, &self.golden_at(name, row)?)?;
        self.emit(sink, part, distance, bar);
        Ok(())
    }

    /// Measures the output of an encoder with `blocks` blocks, also against a reference in half precision with the same
    /// ids.
    pub(super) fn encoded(
        &self,
        sink: LineSink,
        name: &str,
        ours: &Tensor,
        blocks: usize,
    ) -> Result<(), WorkerFault> {
        let mean = if name.contains("pooled") {
            Tolerance::HALF_POOLED
        } else {
            Tolerance::HALF
        };
        self.tensor(sink, (name, name), ours, self.part(mean, blocks))?;
        self.beside(sink, name, ours, self.index)
    }

    /// Compares our error with that of the reference in the same half precision, if there is one. Both are measured
    /// from the golden in f32.
    pub(super) fn beside(
        &self,
        sink: LineSink,
        name: &str,
        ours: &Tensor,
        row: usize,
    ) -> Result<(), WorkerFault> {
        let Some(theirs) = self.half_at(name, row)? else {
            return Ok(());
        };
        let truth = self.golden_at(name, row)?;
        let bar = Tolerance::Beside {
            theirs: distance(&theirs, &truth)?.relative,
            times: Tolerance::BESIDE,
        };
        self.emit(sink, &format!("half.{name}"), distance(ours, &truth)?, bar);
        Ok(())
    }

    /// Measures the decoder on the golden's latents. It always computes in f32.
    pub(super) fn decoded(&self, sink: LineSink, picture: &Tensor) -> Result<(), WorkerFault> {
        let pixels = picture.dims().iter().rev().take(2).product();
        let bar = Tolerance::decoded(self.measured.case.prompts.len(), pixels);
        self.tensor(sink, ("vae_out", "vae_out"), picture, bar)?;
        self.picture(sink, "image_u8", picture, Tolerance::BYTES)
    }

    /// Measures the bytes of a picture computed from the initial noise: in half precision against a reference in half
    /// precision, if there is one.
    pub(super) fn free_picture(&self, sink: LineSink, picture: &Tensor) -> Result<(), WorkerFault> {
        // A reference in half precision may have no recorded bytes.
        let theirs = self.half.as_ref();
        let theirs = theirs.and_then(|half| half.bytes("image_u8", self.index).ok());
        let bar = match (self.measured.measure.dtype, theirs) {
            (DType::F32, _) => Tolerance::BYTES,
            (_, None) => Tolerance::HALF_FREE_BYTES,
            (_, Some(theirs)) => {
                let golden = self.goldens.bytes("image_u8", self.index)?;
                let [theirs, golden] = [theirs, golden].map(|v| v.iter().map(|b| f64::from(*b)));
                self.free()
                    .at_least(Tolerance::BESIDE * ValueDistance::between(theirs, golden).relative)
            }
        };
        self.picture(sink, "free.image_u8", picture, bar)
    }

    fn picture(
        &self,
        sink: LineSink,
        part: &str,
        picture: &Tensor,
        bar: Tolerance,
    ) -> Result<(), WorkerFault> {
        let ours = pixels::bytes(picture)?;
        let golden = self.goldens.bytes("image_u8", self.index)?;
        let [ours, golden] = [&ours, golden].map(|v| v.iter().map(|byte| f64::from(*byte)));
        self.emit(sink, part, ValueDistance::between(ours, golden), bar);
        Ok(())
    }

    fn emit(&self, sink: LineSink, part: &str, distance: ValueDistance, bar: Tolerance) {
        let of_batch = self.measured.case.prompts.len() > 1;
        let part = if of_batch {
            format!("{part}[{}]", self.index)
        } else {
            part.to_owned()
        };
        sink(PartLine {
            case: self.measured.name.to_owned(),
            part,
            distance,
            bar,
        });
    }
}

/// The distance of two tensors of any shapes, value by value.
pub(super) fn distance(ours: &Tensor, reference: &Tensor) -> Result<ValueDistance, WorkerFault> {
    let values = |t: &Tensor| -> Result<Vec<f32>, WorkerFault> {
        Ok(t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?)
    };
    let [ours, reference] = [values(ours)?, values(reference)?];
    let [ours, reference] = [&ours, &reference].map(|v| v.iter().map(|value| f64::from(*value)));
    Ok(ValueDistance::between(ours, reference))
}
