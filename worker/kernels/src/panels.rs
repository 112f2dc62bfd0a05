//! Products with a matrix that is stored in panels of [`WIDTH`] columns.

use crate::elementary::multiply_add;
use crate::frame::{Frame, WIDTH};
use crate::instruction_set::InstructionSet;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::array::from_fn;

/// Rows that are multiplied at a time: their sums and the vectors of a panel fill the registers of AVX2.
const ROWS: usize = 6;
/// Values of each row that are multiplied at a time: that part of a panel stays in the first cache.
const DEPTH: usize = 256;
/// Rows of the left matrix in a task of a thread.
const TASK_ROWS: usize = 96;

/// A matrix with `depth` rows, in panels of [`WIDTH`] columns: row by row within a panel.
#[derive(Debug, Clone)]
pub(crate) struct Panels {
    depth: usize,
    columns: usize,
    values: Vec<f32>,
}

impl Panels {
    /// Packs the transpose of a matrix (columns, depth). Both are padded with zeros to a multiple of [`WIDTH`].
    pub(crate) fn of_transposed(matrix: &[f32], columns: usize) -> Panels {
        let depth = matrix.len() / columns.max(1);
        Panels {
            depth: Frame::stride(depth),
            columns: Frame::stride(columns),
            values: packed(matrix, depth, 1),
        }
    }

    /// Writes the product of `left` (n, depth) and this matrix to `to` (n, columns).
    pub(crate) fn product(&self, left: &[f32], to: &mut [f32], instructions: InstructionSet) {
        let tasks = to.par_chunks_mut(TASK_ROWS * self.columns);
        let tasks = tasks.zip(left.par_chunks(TASK_ROWS * self.depth));
        tasks.for_each(|(to, left)| {
            instructions.run(Product {
                left,
                depth: self.depth,
                panels: self.values.chunks_exact(self.depth * WIDTH),
                to,
            });
        });
    }
}

/// The weights of a matrix or of 3x3 kernels (outputs, inputs, `taps`) in panels of outputs: (panels, inputs, taps,
/// WIDTH), with inputs and outputs padded with zeros.
pub(crate) fn packed(weights: &[f32], inputs: usize, taps: usize) -> Vec<f32> {
    let outputs = weights.len() / (inputs * taps).max(1);
    let (deep, wide) = (Frame::stride(inputs), Frame::stride(outputs));
    let mut packed = vec![0.0; deep * wide * taps];
    for (output, row) in weights.chunks((inputs * taps).max(1)).enumerate() {
        let first = output / WIDTH * WIDTH * deep * taps + output % WIDTH;
        for (to, weight) in packed[first..].iter_mut().step_by(WIDTH).zip(row) {
            *to = *weight;
        }
    }
    packed
}

/// The product of `left` (n, depth) and panels of a matrix, written to `to` (n, columns of all panels).
struct Product<'a, P> {
    left: &'a [f32],
    depth: usize,
    /// The panels, each with `depth * WIDTH` values.
    panels: P,
    to: &'a mut [f32],
}

impl<'a, P: ExactSizeIterator<Item = &'a [f32]> + Clone> WithSimd for Product<'a, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        product(simd, self.left, self.depth, self.panels, self.to);
    }
}

/// As [`Product`].
#[inline(always)]
pub(crate) fn product<'a, S: Simd>(
    simd: S,
    left: &[f32],
    depth: usize,
    panels: impl ExactSizeIterator<Item = &'a [f32]> + Clone,
    to: &mut [f32],
) {
    match S::F32_LANES {
        4 => blocks::<S, 4>(simd, left, depth, panels, to),
        8 => blocks::<S, 2>(simd, left, depth, panels, to),
        _ => blocks::<S, 1>(simd, left, depth, panels, to),
    }
}

#[inline(always)]
fn blocks<'a, S: Simd, const VECTORS: usize>(
    simd: S,
    left: &[f32],
    depth: usize,
    panels: impl ExactSizeIterator<Item = &'a [f32]> + Clone,
    to: &mut [f32],
) {
    let columns = panels.len() * WIDTH;
    for first in (0..depth).step_by(DEPTH) {
        let part = first..depth.min(first + DEPTH);
        for (i, panel) in panels.clone().enumerate() {
            let panel = S::as_simd_f32s(&panel[part.start * WIDTH..part.end * WIDTH]).0;
            let panel = panel.as_chunks::<VECTORS>().0;
            let groups = left.chunks(ROWS * depth).zip(to.chunks_mut(ROWS * columns));
            for (left, to) in groups {
                let last = left.len() / depth - 1;
                // A group with fewer rows computes its last row again.
                let rows = from_fn(|n| &left[n.min(last) * depth..][part.clone()]);
                let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
                if first > 0 {
                    for (n, sums) in sums.iter_mut().enumerate() {
                        *sums = of_row::<S, VECTORS>(&to[n.min(last) * columns + i * WIDTH..]);
                    }
                }
                let sums = tile(simd, rows, panel, sums);
                for (sums, to) in sums.iter().zip(to.chunks_mut(columns)) {
                    let to = S::as_mut_simd_f32s(&mut to[i * WIDTH..]).0;
                    to[..VECTORS].copy_from_slice(sums);
                }
            }
        }
    }
}

/// The first vectors of a row.
#[inline(always)]
fn of_row<S: Simd, const VECTORS: usize>(row: &[f32]) -> [S::f32s; VECTORS] {
    let vectors = S::as_simd_f32s(&row[..WIDTH]).0;
    from_fn(|v| vectors[v])
}

/// Adds the products of the rows and a panel to `sums`. The nested pairs keep bounds checks out of the loop.
#[inline(always)]
fn tile<S: Simd, const VECTORS: usize>(
    simd: S,
    [a, b, c, d, e, f]: [&[f32]; ROWS],
    panel: &[[S::f32s; VECTORS]],
    mut sums: [[S::f32s; VECTORS]; ROWS],
) -> [[S::f32s; VECTORS]; ROWS] {
    let rows = a.iter().zip(b).zip(c.iter().zip(d)).zip(e.iter().zip(f));
    for (vectors, (((a, b), (c, d)), (e, f))) in panel.iter().zip(rows) {
        let values = [a, b, c, d, e, f];
        for n in 0..ROWS {
            let value = simd.splat_f32s(*values[n]);
            for v in 0..VECTORS {
                sums[n][v] = multiply_add(simd, value, vectors[v], sums[n][v]);
            }
        }
    }
    sums
}
