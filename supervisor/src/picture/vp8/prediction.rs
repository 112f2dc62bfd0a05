//! Predicts a macroblock, or a block of it, from the pixels around it; RFC 6386 section 12.

use super::planes::{Edges, Square};

/// A mode that predicts all of a macroblock's luma, or its chroma.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WholeMode {
    Dc,
    Vertical,
    Horizontal,
    TrueMotion,
}

/// All modes for a whole macroblock.
pub const WHOLE_MODES: [WholeMode; 4] = [
    WholeMode::Dc,
    WholeMode::Vertical,
    WholeMode::Horizontal,
    WholeMode::TrueMotion,
];

/// Predicts a square.
pub fn whole<const N: usize>(mode: WholeMode, edges: &Edges<N>) -> Square<N> {
    match mode {
        WholeMode::Dc => [[mean(edges); N]; N],
        WholeMode::Vertical => [edges.above; N],
        WholeMode::Horizontal => edges.left.map(|left| [left; N]),
        WholeMode::TrueMotion => edges
            .left
            .map(|left| edges.above.map(|above| gradient(left, above, edges.corner))),
    }
}

/// The mean of the edges that are in the picture.
fn mean<const N: usize>(edges: &Edges<N>) -> u8 {
    let sum = |pixels: &[u8; N]| pixels.iter().map(|pixel| u32::from(*pixel)).sum::<u32>();
    let (sum, count) = match edges.inside {
        (true, true) => (sum(&edges.above) + sum(&edges.left), 2 * N as u32),
        (true, false) => (sum(&edges.above), N as u32),
        (false, true) => (sum(&edges.left), N as u32),
        (false, false) => return 128,
    };
    ((sum + count / 2) / count) as u8
}

fn gradient(left: u8, above: u8, corner: u8) -> u8 {
    (i32::from(left) + i32::from(above) - i32::from(corner)).clamp(0, 255) as u8
}

/// A mode that predicts a 4x4 block of luma, in the order of their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockMode {
    Dc,
    TrueMotion,
    Vertical,
    Horizontal,
    LeftDown,
    RightDown,
    VerticalRight,
    VerticalLeft,
    HorizontalDown,
    HorizontalUp,
}

/// All modes for a block.
pub const BLOCK_MODES: [BlockMode; 10] = [
    BlockMode::Dc,
    BlockMode::TrueMotion,
    BlockMode::Vertical,
    BlockMode::Horizontal,
    BlockMode::LeftDown,
    BlockMode::RightDown,
    BlockMode::VerticalRight,
    BlockMode::VerticalLeft,
    BlockMode::HorizontalDown,
    BlockMode::HorizontalUp,
];

impl From<WholeMode> for BlockMode {
    /// The mode that a macroblock's blocks have as neighbours of others; section 11.3.
    fn from(mode: WholeMode) -> Self {
        match mode {
            WholeMode::Dc => Self::Dc,
            WholeMode::Vertical => Self::Vertical,
            WholeMode::Horizontal => Self::Horizontal,
            WholeMode::TrueMotion => Self::TrueMotion,
        }
    }
}

/// The pixels around a block, from the lowest on the left over the corner to the eighth above, and their means.
#[derive(Debug)]
pub struct BlockEdges {
    pixels: [u8; 13],
    /// Means of two neighbours.
    two: [u8; 12],
    /// Weighted means of three neighbours.
    three: [u8; 11],
}

impl BlockEdges {
    /// Computes the means.
    pub fn new(pixels: [u8; 13]) -> Self {
        let p = pixels.map(u16::from);
        Self {
            pixels,
            two: std::array::from_fn(|i| ((p[i] + p[i + 1] + 1) >> 1) as u8),
            three: std::array::from_fn(|i| ((p[i] + 2 * p[i + 1] + p[i + 2] + 2) >> 2) as u8),
        }
    }

    /// Predicts the block, row by row.
    pub fn predict(&self, mode: BlockMode) -> [u8; 16] {
        let Self { pixels, two, three } = self;
        let (left, corner, above) = (&pixels[..4], pixels[4], &pixels[5..]);
        match mode {
            BlockMode::Dc => {
                let sum: u16 = left.iter().chain(&above[..4]).map(|p| u16::from(*p)).sum();
                [((sum + 4) >> 3) as u8; 16]
            }
            BlockMode::TrueMotion => {
                by_row(|y| std::array::from_fn(|x| gradient(left[3 - y], above[x], corner)))
            }
            BlockMode::Vertical => by_row(|_| [three[4], three[5], three[6], three[7]]),
            BlockMode::Horizontal => {
                let last = weighted(pixels[1], pixels[0], pixels[0]);
                let means = [three[2], three[1], three[0], last];
                by_row(|y| [means[y]; 4])
            }
            BlockMode::LeftDown => {
                let last = weighted(pixels[11], pixels[12], pixels[12]);
                by_row(|y| std::array::from_fn(|x| three.get(5 + x + y).copied().unwrap_or(last)))
            }
            BlockMode::RightDown => by_row(|y| std::array::from_fn(|x| three[3 + x - y])),
            BlockMode::VerticalRight => by_row(|y| match y {
                0 => [two[4], two[5], two[6], two[7]],
                1 => [three[3], three[4], three[5], three[6]],
                2 => [three[2], two[4], two[5], two[6]],
                _ => [three[1], three[3], three[4], three[5]],
            }),
            BlockMode::VerticalLeft => by_row(|y| match y {
                0 => [two[5], two[6], two[7], two[8]],
                1 => [three[5], three[6], three[7], three[8]],
                2 => [two[6], two[7], two[8], three[9]],
                _ => [three[6], three[7], three[8], three[10]],
            }),
            BlockMode::HorizontalDown => by_row(|y| match y {
                0 => [two[3], three[3], three[4], three[5]],
                1 => [two[2], three[2], two[3], three[3]],
                2 => [two[1], three[1], two[2], three[2]],
                _ => [two[0], three[0], two[1], three[1]],
            }),
            BlockMode::HorizontalUp => {
                let lowest = pixels[0];
                let last = weighted(pixels[1], lowest, lowest);
                by_row(|y| match y {
                    0 => [two[2], three[1], two[1], three[0]],
                    1 => [two[1], three[0], two[0], last],
                    2 => [two[0], last, lowest, lowest],
                    _ => [lowest; 4],
                })
            }
        }
    }
}

fn weighted(a: u8, b: u8, c: u8) -> u8 {
    ((u16::from(a) + 2 * u16::from(b) + u16::from(c) + 2) >> 2) as u8
}

/// Makes a block of its four rows.
fn by_row(row: impl Fn(usize) -> [u8; 4]) -> [u8; 16] {
    let mut block = [0; 16];
    for (y, line) in block.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *line = row(y);
    }
    block
}
