//! Quantizes coefficients, and maps the quality to the quantizer.

use super::super::format::Quality;
use super::tables::{AC_STEPS, DC_STEPS, ZIGZAG};
use super::transform::Block;

/// Largest level that a token can state, with room for the decoder's rounding.
const LEVEL_MAX: u32 = 2047;

/// Levels of a block in zigzag order.
pub type Levels = [i16; 16];

/// The quantizers of a frame.
#[derive(Debug)]
pub struct Quantizer {
    /// Index in the tables, 0 to 127.
    pub index: u8,
    /// For 4x4 blocks of luma.
    pub luma: BlockQuantizer,
    /// For the second-order block.
    pub second: BlockQuantizer,
    /// For chroma.
    pub chroma: BlockQuantizer,
}

/// The quantizer of a kind of block.
#[derive(Debug)]
pub struct BlockQuantizer {
    first: Step,
    rest: Step,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    step: u32,
    /// 2^17 / `step`.
    inverse: u32,
    /// Added before the division: less than half a step, because small levels cost more than they are worth.
    bias: u32,
}

impl Step {
    /// `bias` is in 1/256 of a step.
    fn new(step: u32, bias: u32) -> Self {
        Self {
            step,
            inverse: (1 << 17) / step,
            bias: bias << 9,
        }
    }
}

impl Quantizer {
    /// The quantizer of a quality. Its biases and its index are those of libwebp.
    pub fn new(quality: Quality) -> Self {
        let index = index(u32::from(quality.get()));
        let (dc, ac) = (DC_STEPS[index].into(), AC_STEPS[index].into());
        let quantizer = |first, rest, biases: (u32, u32)| BlockQuantizer {
            first: Step::new(first, biases.0),
            rest: Step::new(rest, biases.1),
        };
        Self {
            index: index as u8,
            luma: quantizer(dc, ac, (96, 110)),
            second: quantizer(2 * dc, u32::max(8, ac * 155 / 100), (96, 108)),
            chroma: quantizer(u32::min(dc, 132), ac, (110, 115)),
        }
    }

    /// Weight of a bit in units of squared errors, times 256.
    pub fn bit_weight(&self) -> u64 {
        let step = u64::from(self.luma.rest.step);
        (step * step / 128).max(1)
    }

    /// Strength of the decoder's loop filter, 0 to 63; grows with the step.
    pub fn filter_level(&self) -> u32 {
        let level = (self.luma.rest.step / 4 * 300 / 256).min(63);
        if level < 2 { 0 } else { level }
    }
}

/// The index of a quality: the sizes of files grow with it about as those of JPEG.
///
/// libwebp's curve is `127 * (1 - cbrt(q))` with q from two straight lines, here in integers.
fn index(quality: u32) -> usize {
    let linear = match quality {
        0..75 => 2 * quality,
        _ => 6 * quality - 300,
    }; // of 300
    let is_fine = |index: &u32| (127 - index).pow(3) * 300 >= linear * 127u32.pow(3);
    (0..=127).rev().find(is_fine).unwrap_or(0) as usize
}

impl BlockQuantizer {
    /// Quantizes the coefficients from zigzag position `from` on, and replaces them by the values that a decoder
    /// computes.
    pub fn quantize(&self, block: &mut Block, from: usize) -> Levels {
        let mut levels = [0; 16];
        for (position, coded) in levels.iter_mut().enumerate().skip(from) {
            let value = &mut block[ZIGZAG[position]];
            let step = if position == 0 { self.first } else { self.rest };
            let level = (value.unsigned_abs() * step.inverse + step.bias) >> 17;
            let level = level.min(LEVEL_MAX) as i32 * value.signum();
            *coded = level as i16;
            *value = level * step.step as i32;
        }
        levels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_better_quality_has_a_smaller_index() {
        let indices: Vec<usize> = (1..=100).map(index).collect();
        assert!(indices.is_sorted_by(|a, b| a >= b));
        assert_eq!((index(1), index(75), index(100)), (103, 26, 0));
    }

    #[test]
    fn values_are_divided_by_the_step_and_small_ones_become_zero() {
        let quantizer = Quantizer::new(Quality::new(75).expect("from 1 to 100"));
        let step = quantizer.luma.rest.step as i32;
        let mut block = [0; 16];
        (block[1], block[4], block[15]) = (3 * step, -2 * step, step / 2);
        let levels = quantizer.luma.quantize(&mut block, 0);
        assert_eq!((levels[1], levels[2], levels[15]), (3, -2, 0));
        assert_eq!((block[1], block[4], block[15]), (3 * step, -2 * step, 0));
        let mut huge = [1 << 14; 16];
        let levels = Quantizer::new(Quality::BEST).luma.quantize(&mut huge, 1);
        assert_eq!((levels[0], levels[1]), (0, 2047));
    }
}
