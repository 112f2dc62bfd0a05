//! The transforms of VP8: RFC 6386 section 14, and forward transforms that fit them.
//!
//! The forward transforms are those of libwebp's `dsp/enc.c`: their roundings reach the inverses' fixed points.

/// A 4x4 block of differences or coefficients, row by row.
pub type Block = [i32; 16];

/// The cosine transform of differences.
pub fn forward(differences: &Block) -> Block {
    let mut rows = [0; 16];
    for (row, d) in rows
        .as_chunks_mut::<4>()
        .0
        .iter_mut()
        .zip(differences.as_chunks::<4>().0)
    {
        let (a0, a1, a2, a3) = (d[0] + d[3], d[1] + d[2], d[1] - d[2], d[0] - d[3]);
        *row = [
            (a0 + a1) * 8,
            (a2 * 2217 + a3 * 5352 + 1812) >> 9,
            (a0 - a1) * 8,
            (a3 * 2217 - a2 * 5352 + 937) >> 9,
        ];
    }
    let mut block = [0; 16];
    for i in 0..4 {
        let d = [rows[i], rows[4 + i], rows[8 + i], rows[12 + i]];
        let (a0, a1, a2, a3) = (d[0] + d[3], d[1] + d[2], d[1] - d[2], d[0] - d[3]);
        block[i] = (a0 + a1 + 7) >> 4;
        block[4 + i] = ((a2 * 2217 + a3 * 5352 + 12_000) >> 16) + i32::from(a3 != 0);
        block[8 + i] = (a0 - a1 + 7) >> 4;
        block[12 + i] = (a3 * 2217 - a2 * 5352 + 51_000) >> 16;
    }
    block
}

/// The inverse of [`forward`]; section 14.3.
pub fn inverse(coefficients: &Block) -> Block {
    let large = |x: i32| (x * 35_468) >> 16; // sqrt(2) * sin(pi / 8)
    let small = |x: i32| x + ((x * 20_091) >> 16); // sqrt(2) * cos(pi / 8)
    let turned = |c: [i32; 4]| {
        let (a, b) = (c[0] + c[2], c[0] - c[2]);
        let (c, d) = (large(c[1]) - small(c[3]), small(c[1]) + large(c[3]));
        [a + d, b + c, b - c, a - d]
    };
    let mut columns = [0; 16];
    for i in 0..4 {
        let c = coefficients;
        let column = turned([c[i], c[4 + i], c[8 + i], c[12 + i]]);
        for (row, value) in column.into_iter().enumerate() {
            columns[4 * row + i] = value;
        }
    }
    let mut block = [0; 16];
    for (row, values) in block
        .as_chunks_mut::<4>()
        .0
        .iter_mut()
        .zip(columns.as_chunks::<4>().0)
    {
        *row = turned(*values).map(|value| (value + 4) >> 3);
    }
    block
}

/// The second-order transform: of the first coefficients of a macroblock's 16 luma blocks.
pub fn forward_second(firsts: &Block) -> Block {
    let turned = |d: [i32; 4]| {
        let (a0, a1, a2, a3) = (d[0] + d[2], d[1] + d[3], d[1] - d[3], d[0] - d[2]);
        [a0 + a1, a3 + a2, a3 - a2, a0 - a1]
    };
    across_and_down(firsts, turned, turned, |value| value >> 1)
}

/// The inverse of [`forward_second`]; section 14.3.
pub fn inverse_second(coefficients: &Block) -> Block {
    let turned = |c: [i32; 4]| {
        let (a, b) = (c[0] + c[3], c[1] + c[2]);
        let (c, d) = (c[1] - c[2], c[0] - c[3]);
        [a + b, c + d, a - b, d - c]
    };
    across_and_down(coefficients, turned, turned, |value| (value + 3) >> 3)
}

/// Applies one function to the rows, then another to the columns, then one to each value.
fn across_and_down(
    block: &Block,
    across: impl Fn([i32; 4]) -> [i32; 4],
    down: impl Fn([i32; 4]) -> [i32; 4],
    each: impl Fn(i32) -> i32,
) -> Block {
    let mut rows = [0; 16];
    for (row, values) in rows
        .as_chunks_mut::<4>()
        .0
        .iter_mut()
        .zip(block.as_chunks::<4>().0)
    {
        *row = across(*values);
    }
    let mut done = [0; 16];
    for i in 0..4 {
        let column = down([rows[i], rows[4 + i], rows[8 + i], rows[12 + i]]);
        for (row, value) in column.into_iter().enumerate() {
            done[4 * row + i] = each(value);
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of small random numbers.
    fn blocks(most: i32) -> impl Iterator<Item = Block> {
        let mut random = 7u32;
        (0..500).map(move |_| {
            std::array::from_fn(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 8) as i32 % (2 * most + 1) - most
            })
        })
    }

    #[test]
    fn differences_come_back_to_within_one() {
        for block in blocks(255).chain([[255; 16], [-255; 16]]) {
            let back = inverse(&forward(&block));
            assert!(
                block.iter().zip(back).all(|(a, b)| (a - b).abs() <= 1),
                "{block:?} {back:?}"
            );
        }
    }

    #[test]
    fn first_coefficients_come_back_to_within_one() {
        for block in blocks(2040) {
            let back = inverse_second(&forward_second(&block));
            assert!(
                block.iter().zip(back).all(|(a, b)| (a - b).abs() <= 1),
                "{block:?} {back:?}"
            );
        }
    }
}
