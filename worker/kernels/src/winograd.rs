//! The transforms of Winograd's F(2x2, 3x3).
//!
//! They compute 4 pixels of a 3x3 convolution from 16 products instead of 36.
//!
//! Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2015, section 4.1. All constants are 0, 1
//! and 1/2, so the transforms only add.

use pulp::Simd;

/// Pixels of a side that a tile computes.
pub(crate) const SIDE: usize = 2;
/// Pixels of a side that a tile reads.
pub(crate) const REACH: usize = SIDE + 2;
/// Products of a tile for each pair of channels.
pub(crate) const POINTS: usize = REACH * REACH;

/// Tells whether a point is zero for every tile of a picture with doubled pixels: the middle two of the 4 pixels of a
/// line are one pixel there, and their difference is zero.
pub(crate) fn vanishes_if_doubled(point: usize) -> bool {
    point / REACH == 2 || point % REACH == 2
}

/// Transforms the 16 pixels that a tile reads.
#[inline(always)]
pub(crate) fn input<S: Simd>(simd: S, d: [S::f32s; POINTS]) -> [S::f32s; POINTS] {
    let line = |a, b, c, d| {
        [
            simd.sub_f32s(a, c),
            simd.add_f32s(b, c),
            simd.sub_f32s(c, b),
            simd.sub_f32s(b, d),
        ]
    };
    let mut rows = d;
    for x in 0..4 {
        let column = line(d[x], d[4 + x], d[8 + x], d[12 + x]);
        for y in 0..4 {
            rows[4 * y + x] = column[y];
        }
    }
    let mut all = rows;
    for y in 0..4 {
        let row = line(
            rows[4 * y],
            rows[4 * y + 1],
            rows[4 * y + 2],
            rows[4 * y + 3],
        );
        all[4 * y..4 * y + 4].copy_from_slice(&row);
    }
    all
}

/// Transforms the 9 weights of a pair of channels.
#[inline(always)]
pub(crate) fn kernel<S: Simd>(simd: S, g: [S::f32s; 9]) -> [S::f32s; POINTS] {
    let half = simd.splat_f32s(0.5);
    let line = |a, b, c| {
        let ends = simd.add_f32s(a, c);
        [
            a,
            simd.mul_f32s(half, simd.add_f32s(ends, b)),
            simd.mul_f32s(half, simd.sub_f32s(ends, b)),
            c,
        ]
    };
    let columns: [[S::f32s; 4]; 3] = std::array::from_fn(|x| line(g[x], g[3 + x], g[6 + x]));
    let mut all = [simd.splat_f32s(0.0); POINTS];
    for y in 0..4 {
        let row = line(columns[0][y], columns[1][y], columns[2][y]);
        all[4 * y..4 * y + 4].copy_from_slice(&row);
    }
    all
}

/// Transforms the 16 sums of a tile to its 4 pixels.
#[inline(always)]
pub(crate) fn output<S: Simd>(simd: S, m: [S::f32s; POINTS]) -> [S::f32s; SIDE * SIDE] {
    let line = |a, b, c, d| {
        [
            simd.add_f32s(simd.add_f32s(a, b), c),
            simd.sub_f32s(simd.sub_f32s(b, c), d),
        ]
    };
    let columns: [[S::f32s; 2]; 4] =
        std::array::from_fn(|x| line(m[x], m[4 + x], m[8 + x], m[12 + x]));
    let row = |y: usize| line(columns[0][y], columns[1][y], columns[2][y], columns[3][y]);
    let (first, second) = (row(0), row(1));
    [first[0], first[1], second[0], second[1]]
}
