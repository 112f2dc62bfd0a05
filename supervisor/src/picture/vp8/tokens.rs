//! The coefficients of a macroblock as bits; RFC 6386 section 13.

use super::bits::{self, BitWriter};
use super::quantizer::Levels;
use super::tables::{BANDS, DEFAULT, PerTokenBit, Probability, REPLACED, TokenProbabilities};

/// The kinds of blocks, by the number of their probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BlockKind {
    /// Luma, whose first coefficient is in the second-order block.
    LumaRest = 0,
    Second = 1,
    Chroma = 2,
    /// Luma with its first coefficient.
    Luma = 3,
}

/// Even chances, and those of the larger levels' bits.
const SIGN: Probability = 128;
const FIVE: Probability = 159;
const SEVEN: [Probability; 2] = [165, 145];
/// The categories from 11 on: their first level, and the chances of the bits of the difference to it.
const CATEGORIES: [(u16, &[Probability]); 4] = [
    (11, &[173, 148, 140]),
    (19, &[176, 155, 140, 135]),
    (35, &[180, 157, 141, 134, 130]),
    (67, &[254, 254, 243, 230, 196, 177, 153, 140, 133, 130, 129]),
];

/// The quantized coefficients of a macroblock.
#[derive(Debug, Clone)]
pub struct MacroblockLevels {
    /// First coefficients of the luma blocks; `None` if the blocks have their own.
    pub second: Option<Levels>,
    pub luma: [Levels; 16],
    /// Four blocks of each chroma plane.
    pub chroma: [[Levels; 4]; 2],
}

impl MacroblockLevels {
    /// Whether all coefficients are zero.
    pub fn is_empty(&self) -> bool {
        let is_zero = |levels: &Levels| *levels == [0; 16];
        self.second.iter().all(is_zero)
            && self.luma.iter().all(is_zero)
            && self.chroma.iter().flatten().all(is_zero)
    }
}

/// Whether the blocks along one side of the next macroblock have coefficients; they select probabilities.
#[derive(Debug, Clone, Copy, Default)]
pub struct Neighbours {
    second: bool,
    luma: [bool; 4],
    chroma: [[bool; 2]; 2],
}

impl Neighbours {
    /// Notes a macroblock without coefficients.
    pub fn pass_empty(&mut self, has_second: bool) {
        let second = self.second && !has_second;
        *self = Self {
            second,
            ..Self::default()
        };
    }
}

/// A receiver of bits.
pub trait TokenSink {
    /// A bit with a learned probability: of this kind of block, band and context, at this node.
    fn learned(&mut self, place: [usize; 3], node: usize, bit: bool);
    /// A bit with a fixed probability.
    fn fixed(&mut self, bit: bool, probability: Probability);
}

/// Puts all coefficients of a macroblock, and notes which blocks had some.
pub fn macroblock(
    residual: &MacroblockLevels,
    above: &mut Neighbours,
    left: &mut Neighbours,
    sink: &mut impl TokenSink,
) {
    luma(residual.second.as_ref(), &residual.luma, above, left, sink);
    for (plane, blocks) in residual.chroma.iter().enumerate() {
        let (above, left) = (&mut above.chroma[plane], &mut left.chroma[plane]);
        for (nth, levels) in blocks.iter().enumerate() {
            let (above, left) = (&mut above[nth % 2], &mut left[nth / 2]);
            side_by_side(BlockKind::Chroma, levels, above, left, sink);
        }
    }
}

/// Puts the luma coefficients of a macroblock.
pub fn luma(
    second: Option<&Levels>,
    blocks: &[Levels; 16],
    above: &mut Neighbours,
    left: &mut Neighbours,
    sink: &mut impl TokenSink,
) {
    let kind = match second {
        None => BlockKind::Luma,
        Some(levels) => {
            let (above, left) = (&mut above.second, &mut left.second);
            side_by_side(BlockKind::Second, levels, above, left, sink);
            BlockKind::LumaRest
        }
    };
    for (nth, levels) in blocks.iter().enumerate() {
        let (above, left) = (&mut above.luma[nth % 4], &mut left.luma[nth / 4]);
        side_by_side(kind, levels, above, left, sink);
    }
}

/// Puts a block whose neighbours are known, and replaces them by it.
fn side_by_side(
    kind: BlockKind,
    levels: &Levels,
    above: &mut bool,
    left: &mut bool,
    sink: &mut impl TokenSink,
) {
    let context = usize::from(*above) + usize::from(*left);
    let is_coded = block(kind, levels, context, sink);
    (*above, *left) = (is_coded, is_coded);
}

/// Puts the levels of a block, and returns whether any was not zero.
fn block(kind: BlockKind, levels: &Levels, context: usize, sink: &mut impl TokenSink) -> bool {
    let first = usize::from(kind == BlockKind::LumaRest);
    let end = levels
        .iter()
        .rposition(|level| *level != 0)
        .map_or(0, |last| last + 1);
    let mut place = [kind as usize, BANDS[first], context];
    sink.learned(place, 0, end > first);
    if end <= first {
        return false;
    }
    for (position, level) in levels.iter().copied().enumerate().take(end).skip(first) {
        let is_zero = level == 0;
        sink.learned(place, 1, !is_zero);
        let next = if is_zero {
            0
        } else {
            magnitude(level.unsigned_abs(), place, sink);
            sink.fixed(level < 0, SIGN);
            if level.unsigned_abs() == 1 { 1 } else { 2 }
        };
        place = [kind as usize, BANDS[position + 1], next];
        // After a zero the block cannot end, so no bit says that it continues.
        if !is_zero && position < 15 {
            sink.learned(place, 0, position + 1 < end);
        }
    }
    true
}

/// Puts a level from 1 on.
fn magnitude(level: u16, place: [usize; 3], sink: &mut impl TokenSink) {
    let mut branch = |node, bit| {
        sink.learned(place, node, bit);
        bit
    };
    if !branch(2, level > 1) {
        return;
    }
    if !branch(3, level > 4) {
        if branch(4, level > 2) {
            branch(5, level > 3);
        }
    } else if !branch(6, level > 10) {
        if branch(7, level > 6) {
            sink.fixed(level > 8, SEVEN[0]);
            sink.fixed(level.is_multiple_of(2), SEVEN[1]);
        } else {
            sink.fixed(level > 5, FIVE);
        }
    } else {
        let category = CATEGORIES.iter().rposition(|(first, _)| level >= *first);
        let category = category.unwrap_or(0);
        branch(8, category > 1);
        branch(9 + category / 2, category % 2 == 1);
        let (first, chances) = CATEGORIES[category];
        for (nth, chance) in chances.iter().enumerate() {
            let bit = (level - first) >> (chances.len() - 1 - nth) & 1 == 1;
            sink.fixed(bit, *chance);
        }
    }
}

/// Adds up the cost of bits, in 1/256 of a bit, with the default probabilities.
#[derive(Debug, Default)]
pub struct BitCost(pub u64);

impl TokenSink for BitCost {
    fn learned(&mut self, [kind, band, context]: [usize; 3], node: usize, bit: bool) {
        self.fixed(bit, DEFAULT[kind][band][context][node]);
    }

    fn fixed(&mut self, bit: bool, probability: Probability) {
        self.0 += u64::from(bits::cost(bit, probability));
    }
}

/// Counts of zeros and ones for each learned probability.
#[derive(Debug)]
pub struct TokenCounts(Box<PerTokenBit<[u32; 2]>>);

impl TokenSink for TokenCounts {
    fn learned(&mut self, [kind, band, context]: [usize; 3], node: usize, bit: bool) {
        self.0[kind][band][context][node][usize::from(bit)] += 1;
    }

    fn fixed(&mut self, _bit: bool, _probability: Probability) {}
}

impl TokenCounts {
    /// No bits yet.
    pub fn new() -> Self {
        Self(Box::new([[[[[0; 2]; 11]; 3]; 8]; 4]))
    }

    /// Writes which learned probabilities this frame replaces, and returns all of them.
    pub fn write_probabilities(&self, writer: &mut BitWriter) -> TokenProbabilities {
        let (mut learned, replaced) = (DEFAULT, REPLACED);
        let chances = replaced.as_flattened().as_flattened().as_flattened();
        let counts = self.0.as_flattened().as_flattened().as_flattened();
        let probabilities = learned.as_flattened_mut().as_flattened_mut();
        let probabilities = probabilities.as_flattened_mut().iter_mut();
        for ((probability, chance), counts) in probabilities.zip(chances).zip(counts) {
            let better = better(*counts, *probability, *chance);
            writer.put(better.is_some(), *chance);
            if let Some(better) = better {
                writer.literal(better.into(), 8);
                *probability = better;
            }
        }
        learned
    }
}

/// The probability that fits the counts, if it saves more bits than its replacement costs.
fn better(counts: [u32; 2], now: Probability, replaced: Probability) -> Option<Probability> {
    let [zeros, ones] = counts.map(u64::from);
    let fitting = match zeros + ones {
        0 => return None,
        all => (zeros * 255 / all).max(1) as Probability,
    };
    let cost = |probability| {
        zeros * u64::from(bits::cost(false, probability))
            + ones * u64::from(bits::cost(true, probability))
    };
    let stays = cost(now) + u64::from(bits::cost(false, replaced));
    let changes = cost(fitting) + u64::from(bits::cost(true, replaced)) + 8 * 256;
    (changes < stays).then_some(fitting)
}

/// Writes bits.
#[derive(Debug)]
pub struct TokenWriter {
    /// The partition.
    pub writer: BitWriter,
    /// The frame's probabilities.
    pub learned: TokenProbabilities,
}

impl TokenSink for TokenWriter {
    fn learned(&mut self, [kind, band, context]: [usize; 3], node: usize, bit: bool) {
        self.writer
            .put(bit, self.learned[kind][band][context][node]);
    }

    fn fixed(&mut self, bit: bool, probability: Probability) {
        self.writer.put(bit, probability);
    }
}
