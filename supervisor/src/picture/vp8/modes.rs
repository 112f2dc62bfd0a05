//! The prediction modes of a macroblock as bits; RFC 6386 sections 11.2 to 11.5.

use super::bits::{self, BitWriter};
use super::prediction::{BlockMode, WholeMode};
use super::tables::{self, Probability};

/// The modes of a macroblock's luma.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LumaModes {
    Whole(WholeMode),
    Blocks([BlockMode; 16]),
}

impl LumaModes {
    /// The mode of a block as its neighbours see it.
    fn of_block(self, nth: usize) -> BlockMode {
        match self {
            Self::Whole(mode) => mode.into(),
            Self::Blocks(modes) => modes[nth],
        }
    }

    /// The modes of the lowest row of blocks.
    pub fn lowest(self) -> [BlockMode; 4] {
        [12, 13, 14, 15].map(|nth| self.of_block(nth))
    }

    /// The modes of the last column of blocks.
    pub fn last(self) -> [BlockMode; 4] {
        [3, 7, 11, 15].map(|nth| self.of_block(nth))
    }
}

/// The way to a mode: the nodes of its tree, each with a bit.
type Path = &'static [(usize, bool)];

fn block_path(mode: BlockMode) -> Path {
    match mode {
        BlockMode::Dc => &[(0, false)],
        BlockMode::TrueMotion => &[(0, true), (1, false)],
        BlockMode::Vertical => &[(0, true), (1, true), (2, false)],
        BlockMode::Horizontal => &[(0, true), (1, true), (2, true), (3, false), (4, false)],
        BlockMode::RightDown => &[
            (0, true),
            (1, true),
            (2, true),
            (3, false),
            (4, true),
            (5, false),
        ],
        BlockMode::VerticalRight => &[
            (0, true),
            (1, true),
            (2, true),
            (3, false),
            (4, true),
            (5, true),
        ],
        BlockMode::LeftDown => &[(0, true), (1, true), (2, true), (3, true), (6, false)],
        BlockMode::VerticalLeft => &[
            (0, true),
            (1, true),
            (2, true),
            (3, true),
            (6, true),
            (7, false),
        ],
        BlockMode::HorizontalDown => &[
            (0, true),
            (1, true),
            (2, true),
            (3, true),
            (6, true),
            (7, true),
            (8, false),
        ],
        BlockMode::HorizontalUp => &[
            (0, true),
            (1, true),
            (2, true),
            (3, true),
            (6, true),
            (7, true),
            (8, true),
        ],
    }
}

/// The bits of a macroblock's luma mode after the one that says that it has a mode.
fn luma_path(mode: WholeMode) -> Path {
    match mode {
        WholeMode::Dc => &[(1, false), (2, false)],
        WholeMode::Vertical => &[(1, false), (2, true)],
        WholeMode::Horizontal => &[(1, true), (3, false)],
        WholeMode::TrueMotion => &[(1, true), (3, true)],
    }
}

fn chroma_path(mode: WholeMode) -> Path {
    match mode {
        WholeMode::Dc => &[(0, false)],
        WholeMode::Vertical => &[(0, true), (1, false)],
        WholeMode::Horizontal => &[(0, true), (1, true), (2, false)],
        WholeMode::TrueMotion => &[(0, true), (1, true), (2, true)],
    }
}

const LUMA: [Probability; 4] = [145, 156, 163, 128];
const CHROMA: [Probability; 3] = [142, 114, 183];

/// Calls `put` with each bit of the luma modes; `above` and `left` are the modes of the neighbouring blocks.
fn luma_bits(
    modes: LumaModes,
    (above, left): ([BlockMode; 4], [BlockMode; 4]),
    mut put: impl FnMut(bool, Probability),
) {
    match modes {
        LumaModes::Whole(mode) => {
            put(true, LUMA[0]);
            luma_path(mode)
                .iter()
                .for_each(|(node, bit)| put(*bit, LUMA[*node]));
        }
        LumaModes::Blocks(modes) => {
            put(false, LUMA[0]);
            for (nth, mode) in modes.into_iter().enumerate() {
                let above = if nth < 4 { above[nth] } else { modes[nth - 4] };
                let left = if nth % 4 == 0 {
                    left[nth / 4]
                } else {
                    modes[nth - 1]
                };
                let chances = &tables::BLOCK_MODES[above as usize][left as usize];
                block_path(mode)
                    .iter()
                    .for_each(|(node, bit)| put(*bit, chances[*node]));
            }
        }
    }
}

/// Cost of the luma modes, in 1/256 of a bit.
pub fn luma_cost(modes: LumaModes, neighbours: ([BlockMode; 4], [BlockMode; 4])) -> u64 {
    let mut sum = 0;
    luma_bits(modes, neighbours, |bit, chance| {
        sum += u64::from(bits::cost(bit, chance))
    });
    sum
}

/// Cost of the mode of one block, in 1/256 of a bit.
pub fn block_cost(mode: BlockMode, above: BlockMode, left: BlockMode) -> u64 {
    let chances = &tables::BLOCK_MODES[above as usize][left as usize];
    let cost = |(node, bit): &(usize, bool)| u64::from(bits::cost(*bit, chances[*node]));
    block_path(mode).iter().map(cost).sum()
}

/// Writes the modes of a macroblock.
pub fn write(
    luma: LumaModes,
    chroma: WholeMode,
    neighbours: ([BlockMode; 4], [BlockMode; 4]),
    writer: &mut BitWriter,
) {
    luma_bits(luma, neighbours, |bit, chance| writer.put(bit, chance));
    chroma_path(chroma)
        .iter()
        .for_each(|(node, bit)| writer.put(*bit, CHROMA[*node]));
}
