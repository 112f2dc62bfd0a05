//! Codes one macroblock: chooses its prediction, and quantizes what the prediction leaves.

use super::modes::{self, LumaModes};
use super::planes::{Edges, Square};
use super::prediction::{self, BLOCK_MODES, BlockEdges, BlockMode, WHOLE_MODES, WholeMode};
use super::quantizer::{BlockQuantizer, Levels, Quantizer};
use super::tokens::{self, BitCost, Neighbours};
use super::transform::{self, Block};

/// Weight of a bit of a mode against squared errors of the prediction, times 256: bits of modes cost little, and a
/// good prediction saves coefficients.
const BLOCK_MODE_WEIGHT: u64 = 11;

/// The coded luma of a macroblock.
#[derive(Debug)]
pub struct CodedLuma {
    pub modes: LumaModes,
    pub second: Option<Levels>,
    pub blocks: [Levels; 16],
    /// The pixels that a decoder computes before its loop filter.
    pub decoded: Square<16>,
}

/// The coded plane of chroma of a macroblock.
#[derive(Debug)]
pub struct CodedChroma {
    pub blocks: [Levels; 4],
    pub decoded: Square<8>,
}

/// The surroundings of a macroblock that affect the cost of its luma.
#[derive(Debug, Clone, Copy)]
pub struct LumaContext<'a> {
    pub edges: &'a Edges<16>,
    /// Modes of the blocks above and to the left.
    pub modes: ([BlockMode; 4], [BlockMode; 4]),
    /// Coefficients above and to the left.
    pub coefficients: (Neighbours, Neighbours),
}

/// Codes luma in the cheaper way, weighing errors and bits: as a whole or block by block.
pub fn luma(source: &Square<16>, context: LumaContext<'_>, quantizer: &Quantizer) -> CodedLuma {
    let [whole, blocks] = [
        as_whole(source, context.edges, quantizer),
        by_blocks(source, context, quantizer),
    ];
    let score = |coded: &CodedLuma| {
        let (mut above, mut left) = context.coefficients;
        let mut cost = BitCost(modes::luma_cost(coded.modes, context.modes));
        tokens::luma(
            coded.second.as_ref(),
            &coded.blocks,
            &mut above,
            &mut left,
            &mut cost,
        );
        256 * square_error(source, &coded.decoded) + cost.0 * quantizer.bit_weight()
    };
    if score(&whole) <= score(&blocks) {
        whole
    } else {
        blocks
    }
}

fn as_whole(source: &Square<16>, edges: &Edges<16>, quantizer: &Quantizer) -> CodedLuma {
    let (mode, predicted) = best_whole(source, edges);
    let mut differences: [Block; 16] = std::array::from_fn(|nth| {
        transform::forward(&difference(source, &predicted, (nth % 4, nth / 4)))
    });
    let mut firsts = transform::forward_second(&differences.map(|block| block[0]));
    let second = quantizer.second.quantize(&mut firsts, 0);
    let firsts = transform::inverse_second(&firsts);
    let mut decoded = predicted;
    let mut blocks = [[0; 16]; 16];
    for (nth, block) in differences.iter_mut().enumerate() {
        blocks[nth] = quantizer.luma.quantize(block, 1);
        block[0] = firsts[nth];
        add(&mut decoded, (nth % 4, nth / 4), block);
    }
    CodedLuma {
        modes: LumaModes::Whole(mode),
        second: Some(second),
        blocks,
        decoded,
    }
}

fn by_blocks(source: &Square<16>, context: LumaContext<'_>, quantizer: &Quantizer) -> CodedLuma {
    let mut decoded = [[0; 16]; 16];
    let mut chosen = [BlockMode::Dc; 16];
    let mut blocks = [[0; 16]; 16];
    for nth in 0..16 {
        let (x, y) = (nth % 4, nth / 4);
        let edges = BlockEdges::new(around(&decoded, context.edges, (x, y)));
        let above = if y == 0 {
            context.modes.0[x]
        } else {
            chosen[nth - 4]
        };
        let left = if x == 0 {
            context.modes.1[y]
        } else {
            chosen[nth - 1]
        };
        let pixels: [u8; 16] = std::array::from_fn(|i| source[4 * y + i / 4][4 * x + i % 4]);
        let scored = BLOCK_MODES.map(|mode| {
            let predicted = edges.predict(mode);
            let error = line_error(&pixels, &predicted);
            let cost = modes::block_cost(mode, above, left);
            (256 * error + cost * BLOCK_MODE_WEIGHT, mode, predicted)
        });
        let best = scored.into_iter().min_by_key(|(score, ..)| *score);
        let (_, mode, predicted) = best.expect("there are ten modes");
        chosen[nth] = mode;
        for (line, row) in predicted.as_chunks::<4>().0.iter().zip(4 * y..) {
            decoded[row][4 * x..][..4].copy_from_slice(line);
        }
        blocks[nth] = code(&quantizer.luma, source, &mut decoded, (x, y));
    }
    CodedLuma {
        modes: LumaModes::Blocks(chosen),
        second: None,
        blocks,
        decoded,
    }
}

/// Codes both planes of chroma with the mode that predicts them best.
pub fn chroma(
    sources: &[Square<8>; 2],
    edges: &[Edges<8>; 2],
    quantizer: &Quantizer,
) -> (WholeMode, [CodedChroma; 2]) {
    let error = |mode: &WholeMode| -> u64 {
        let planes = sources.iter().zip(edges);
        planes
            .map(|(source, edges)| square_error(source, &prediction::whole(*mode, edges)))
            .sum()
    };
    let mode = WHOLE_MODES.into_iter().min_by_key(error);
    let mode = mode.expect("there are four modes");
    let coded = [0, 1].map(|plane| {
        let mut decoded = prediction::whole(mode, &edges[plane]);
        let blocks = [(0, 0), (1, 0), (0, 1), (1, 1)]
            .map(|place| code(&quantizer.chroma, &sources[plane], &mut decoded, place));
        CodedChroma { blocks, decoded }
    });
    (mode, coded)
}

/// The mode with the smallest error, and its prediction.
fn best_whole(source: &Square<16>, edges: &Edges<16>) -> (WholeMode, Square<16>) {
    let predicted = WHOLE_MODES.map(|mode| (mode, prediction::whole(mode, edges)));
    let best = predicted
        .into_iter()
        .min_by_key(|(_, predicted)| square_error(source, predicted));
    best.expect("there are four modes")
}

/// Quantizes the difference of a block to its prediction in `decoded`, and adds to it what is left of the difference.
fn code<const N: usize>(
    quantizer: &BlockQuantizer,
    source: &Square<N>,
    decoded: &mut Square<N>,
    place: (usize, usize),
) -> Levels {
    let mut block = transform::forward(&difference(source, decoded, place));
    let levels = quantizer.quantize(&mut block, 0);
    add(decoded, place, &block);
    levels
}

/// The pixels around a block: of decoded blocks of the macroblock, else of the edges. The blocks of the last column
/// all have the same pixels to their upper right, from above the macroblock.
fn around(decoded: &Square<16>, edges: &Edges<16>, (x, y): (usize, usize)) -> [u8; 13] {
    let (left, top) = (4 * x, 4 * y);
    let above = |column: usize| match (column, top) {
        (16.., _) => edges.after[column - 16],
        (_, 0) => edges.above[column],
        (_, _) => decoded[top - 1][column],
    };
    let beside = |row: usize| match left {
        0 => edges.left[row],
        _ => decoded[row][left - 1],
    };
    std::array::from_fn(|i| match i {
        0..4 => beside(top + 3 - i),
        4 => match (left, top) {
            (0, 0) => edges.corner,
            (0, _) => edges.left[top - 1],
            (_, _) => above(left - 1),
        },
        _ => above(left + i - 5),
    })
}

/// The differences of a block, row by row.
fn difference<const N: usize>(
    source: &Square<N>,
    predicted: &Square<N>,
    (x, y): (usize, usize),
) -> Block {
    std::array::from_fn(|i| {
        let (row, column) = (4 * y + i / 4, 4 * x + i % 4);
        i32::from(source[row][column]) - i32::from(predicted[row][column])
    })
}

/// Adds a block's decoded difference to its prediction.
fn add<const N: usize>(square: &mut Square<N>, (x, y): (usize, usize), coefficients: &Block) {
    let differences = transform::inverse(coefficients);
    for (i, difference) in differences.into_iter().enumerate() {
        let pixel = &mut square[4 * y + i / 4][4 * x + i % 4];
        *pixel = (i32::from(*pixel) + difference).clamp(0, 255) as u8;
    }
}

fn square_error<const N: usize>(one: &Square<N>, other: &Square<N>) -> u64 {
    one.iter()
        .zip(other)
        .map(|(one, other)| line_error(one, other))
        .sum()
}

fn line_error<const N: usize>(one: &[u8; N], other: &[u8; N]) -> u64 {
    let square = |(a, b): (&u8, &u8)| u32::from(a.abs_diff(*b)).pow(2);
    u64::from(one.iter().zip(other).map(square).sum::<u32>())
}
