//! The 3x3 convolution by Winograd's algorithm.
//!
//! Tiles of pixels are transformed, multiplied and transformed back.

use crate::frame::{Frame, Source, WIDTH};
use crate::panels::{packed, product};
use crate::winograd::{self, POINTS, REACH, SIDE};
use crate::workspace::Workspace;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::array::from_fn;

/// Tiles that are transformed at a time, at most: the values of a point stay in the second cache while they are
/// multiplied.
const TILES: usize = 48;
/// Values between the points of the tiles: without them, all points of a value would share one set of the first cache.
const GAP: usize = WIDTH;
/// Weights of a pair of channels.
const TAPS: usize = 9;

/// The weights of a 3x3 convolution: (panels of outputs, inputs, 9, WIDTH).
#[derive(Debug, Clone)]
pub(crate) struct SquareKernel {
    /// Padded number of inputs.
    deep: usize,
    weights: Vec<f32>,
}

impl SquareKernel {
    /// Packs weights (outputs, inputs, 3, 3).
    pub(crate) fn new(inputs: usize, weights: &[f32]) -> SquareKernel {
        SquareKernel {
            deep: Frame::stride(inputs),
            weights: packed(weights, inputs, TAPS),
        }
    }

    /// Number of values that [`SquareKernel::apply`] needs in memory besides its source and result, with one thread and
    /// for each further one.
    pub(crate) fn scratch(inputs: usize, outputs: usize) -> (usize, usize) {
        let (deep, wide) = (Frame::stride(inputs), Frame::stride(outputs));
        let of_thread = scratch(TILES, deep, wide);
        (POINTS * deep * wide + of_thread, of_thread)
    }

    /// Writes the convolution of `source`, plus `bias` for each channel and `added`, to `to`.
    pub(crate) fn apply(
        &self,
        source: Source<'_>,
        bias: &[f32],
        added: Option<&[f32]>,
        workspace: &Workspace,
        to: &mut [f32],
    ) {
        let (deep, width) = (self.deep, source.frame().width * source.scale());
        let instructions = workspace.instructions;
        let mut transformed = workspace.buffer(POINTS * deep * bias.len());
        let panels = transformed.par_chunks_mut(POINTS * deep * WIDTH);
        let panels = panels.zip(self.weights.par_chunks(TAPS * deep * WIDTH));
        panels.for_each(|(to, weights)| instructions.run(TransformKernel { weights, to }));
        let across = width.div_ceil(SIDE).max(1); // tiles
        let lines = TILES.div_ceil(2 * across);
        let values = lines * SIDE * width * bias.len();
        to.par_chunks_mut(values).enumerate().for_each(|(i, to)| {
            let count = to.len().div_ceil(SIDE * width * bias.len()) * across;
            let step = count.div_ceil(count.div_ceil(TILES)); // tiles at a time, about as many each time
            instructions.run(Band {
                source,
                first: i * lines,
                tiles: (count, across),
                step,
                kernel: &transformed,
                bias,
                added: added.map(|added| &added[i * values..][..to.len()]),
                scratch: &mut workspace.buffer(scratch(step, deep, bias.len())),
                to,
            });
        });
    }
}

/// Values of the points of transformed tiles and of their sums.
fn scratch(tiles: usize, deep: usize, wide: usize) -> usize {
    POINTS * (tiles * (deep + wide) + 2 * GAP)
}

/// Transforms the weights of one panel: (inputs, 9, WIDTH) to (POINTS, inputs, WIDTH).
struct TransformKernel<'a> {
    weights: &'a [f32],
    to: &'a mut [f32],
}

impl WithSimd for TransformKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let point = self.to.len() / POINTS;
        let (weights, vectors) = (S::as_simd_f32s(self.weights).0, WIDTH / S::F32_LANES);
        let mut points = points::<S>(self.to, point, point / S::F32_LANES);
        for (input, taps) in weights.chunks_exact(TAPS * vectors).enumerate() {
            for v in 0..vectors {
                let all = winograd::kernel(simd, from_fn(|tap| taps[tap * vectors + v]));
                for (to, value) in points.iter_mut().zip(all) {
                    to[input * vectors + v] = value;
                }
            }
        }
    }
}

/// The points of `values`, `apart` values apart, as `vectors` vectors each.
#[inline(always)]
fn points<S: Simd>(values: &mut [f32], apart: usize, vectors: usize) -> [&mut [S::f32s]; POINTS] {
    let mut points = values.chunks_mut(apart);
    from_fn(|_| {
        let point = points.next().unwrap_or_default();
        &mut S::as_mut_simd_f32s(point).0[..vectors]
    })
}

/// Some lines of tiles of the result.
struct Band<'a> {
    source: Source<'a>,
    /// First line of tiles.
    first: usize,
    /// Number of tiles, and those of a line.
    tiles: (usize, usize),
    /// Tiles at a time.
    step: usize,
    /// The transformed weights: (panels, POINTS, inputs, WIDTH).
    kernel: &'a [f32],
    bias: &'a [f32],
    added: Option<&'a [f32]>,
    /// The transformed tiles (POINTS, step, inputs) and their sums (POINTS, step, outputs).
    scratch: &'a mut [f32],
    /// The rows of the result that the lines cover.
    to: &'a mut [f32],
}

impl WithSimd for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (count, across) = self.tiles;
        let reader = SourceReader::new(self.source);
        let (deep, wide, step) = (reader.zeros.len(), self.bias.len(), self.step);
        let (far, apart) = (step * deep + GAP, step * wide + GAP); // of the points
        let (read, sums) = self.scratch.split_at_mut(POINTS * far);
        sums.fill(0.0);
        let is_doubled = matches!(self.source, Source::Doubled(_));
        let mut writer = TileWriter {
            bias: self.bias,
            added: self.added,
            width: self.source.frame().width * self.source.scale(),
            to: self.to,
        };
        for first in (0..count).step_by(step) {
            let tiles = step.min(count - first);
            let places = (first..first + tiles).map(|tile| (tile / across, tile % across));
            for (i, (line, x)) in places.clone().enumerate() {
                let to = &mut read[i * deep..];
                reader.transform(simd, (self.first + line, x), to, far);
            }
            for point in 0..POINTS {
                if is_doubled && winograd::vanishes_if_doubled(point) {
                    continue;
                }
                let panels = self.kernel.chunks_exact(POINTS * deep * WIDTH);
                let panels = panels.map(|panel| &panel[point * deep * WIDTH..][..deep * WIDTH]);
                let read = &read[point * far..][..tiles * deep];
                let sums = &mut sums[point * apart..][..tiles * wide];
                product(simd, read, deep, panels, sums);
            }
            for (i, (line, x)) in places.enumerate() {
                writer.write(simd, (line * SIDE, x * SIDE), &sums[i * wide..], apart);
            }
        }
    }
}

/// The pixels of a source, with zeros around it.
struct SourceReader<'a> {
    source: Source<'a>,
    zeros: Vec<f32>,
}

impl SourceReader<'_> {
    fn new(source: Source<'_>) -> SourceReader<'_> {
        let zeros = vec![0.0; Frame::stride(source.frame().channels)];
        SourceReader { source, zeros }
    }

    /// The channels of a pixel. Row 0 and column 0 are the zeros before the first pixel.
    #[inline(always)]
    fn at(&self, row: usize, column: usize) -> &[f32] {
        let (frame, scale) = (self.source.frame(), self.source.scale());
        if row == 0 || column == 0 {
            return &self.zeros;
        }
        let (row, column) = ((row - 1) / scale, (column - 1) / scale);
        if row >= frame.height || column >= frame.width {
            return &self.zeros;
        }
        let deep = self.zeros.len();
        &frame.values[(row * frame.width + column) * deep..][..deep]
    }

    /// Transforms the pixels that a tile reads, and writes its points `apart` values apart.
    #[inline(always)]
    fn transform<S: Simd>(&self, simd: S, (y, x): (usize, usize), to: &mut [f32], apart: usize) {
        let vectors = self.zeros.len() / S::F32_LANES;
        let pixels: [&[S::f32s]; POINTS] = from_fn(|i| {
            let pixel = self.at(SIDE * y + i / REACH, SIDE * x + i % REACH);
            &S::as_simd_f32s(pixel).0[..vectors]
        });
        let mut to = points::<S>(to, apart, vectors);
        for v in 0..vectors {
            let all = winograd::input(simd, from_fn(|i| pixels[i][v]));
            for (to, value) in to.iter_mut().zip(all) {
                to[v] = value;
            }
        }
    }
}

/// Rows of the result.
struct TileWriter<'a> {
    bias: &'a [f32],
    added: Option<&'a [f32]>,
    /// In pixels.
    width: usize,
    to: &'a mut [f32],
}

impl TileWriter<'_> {
    /// Writes the pixels of the tile at (y, x) from its sums, `apart` values apart.
    #[inline(always)]
    fn write<S: Simd>(&mut self, simd: S, (y, x): (usize, usize), sums: &[f32], apart: usize) {
        let bias = S::as_simd_f32s(self.bias).0;
        let vectors = bias.len();
        let sums: [&[S::f32s]; POINTS] =
            from_fn(|i| &S::as_simd_f32s(&sums[i * apart..]).0[..vectors]);
        let added = self.added.map(|added| S::as_simd_f32s(added).0);
        let to = S::as_mut_simd_f32s(self.to).0;
        let height = to.len() / (vectors * self.width);
        for v in 0..vectors {
            let all = winograd::output(simd, from_fn(|i| sums[i][v]));
            for (i, value) in all.into_iter().enumerate() {
                let (row, column) = (y + i / SIDE, x + i % SIDE);
                if row < height && column < self.width {
                    let at = (row * self.width + column) * vectors + v;
                    let value = simd.add_f32s(value, bias[v]);
                    to[at] = match added {
                        Some(added) => simd.add_f32s(value, added[at]),
                        None => value,
                    };
                }
            }
        }
    }
}
