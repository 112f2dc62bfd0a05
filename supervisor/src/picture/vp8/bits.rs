//! The boolean entropy coder of VP8, RFC 6386 section 7.

use super::tables::Probability;

/// Writes bits, each with the chance that it is 0.
#[derive(Debug)]
pub struct BitWriter {
    bytes: Vec<u8>,
    /// Size of the interval less one, from 127 to 254 between two bits.
    range: u32,
    /// The interval's lower end, as far as it is not in `bytes`.
    value: u32,
    /// Bytes of 255 at the end of `bytes` that a carry would still change.
    held: usize,
    /// Bits of `value` that are ready, less eight.
    ready: i32,
}

impl BitWriter {
    /// Begins a partition.
    pub fn new() -> Self {
        Self {
            bytes: Vec::new(),
            range: 254,
            value: 0,
            held: 0,
            ready: -8,
        }
    }

    /// Writes one bit.
    pub fn put(&mut self, bit: bool, probability: Probability) {
        let split = (self.range * u32::from(probability)) >> 8;
        if bit {
            self.value += split + 1;
            self.range -= split + 1;
        } else {
            self.range = split;
        }
        if self.range < 127 {
            let shift = 7 - (self.range + 1).ilog2();
            self.range = ((self.range + 1) << shift) - 1;
            self.value <<= shift;
            self.ready += shift as i32;
            if self.ready > 0 {
                self.flush();
            }
        }
    }

    /// Writes the lowest `count` bits of a number, the highest of them first, each with even chances.
    pub fn literal(&mut self, number: u32, count: u32) {
        for place in (0..count).rev() {
            self.put(number >> place & 1 == 1, 128);
        }
    }

    /// Ends the partition.
    pub fn finish(mut self) -> Vec<u8> {
        let count = 9 - self.ready;
        self.literal(0, count as u32);
        self.ready = 0;
        self.flush();
        self.bytes
    }

    /// Moves the oldest eight bits, and a carry, to the bytes.
    fn flush(&mut self) {
        let kept = (8 + self.ready) as u32;
        let bits = self.value >> kept;
        self.value &= (1 << kept) - 1;
        self.ready -= 8;
        if bits & 0xff == 0xff {
            self.held += 1;
            return;
        }
        let carry = bits >> 8 == 1;
        if carry && let Some(last) = self.bytes.last_mut() {
            *last += 1; // It is not 255: those are held.
        }
        let held = if carry { 0 } else { 0xff };
        self.bytes.resize(self.bytes.len() + self.held, held);
        self.held = 0;
        self.bytes.push((bits & 0xff) as u8);
    }
}

/// Cost of a bit in 1/256 of a bit.
pub fn cost(bit: bool, probability: Probability) -> u32 {
    let chance = match bit {
        false => u32::from(probability),
        true => 256 - u32::from(probability),
    };
    COSTS[chance as usize]
}

/// Cost of an event by its chances of 256. Integers, so that every machine writes the same files.
const COSTS: [u32; 257] = {
    let mut costs = [8 * 256; 257];
    let mut chance = 1;
    while chance <= 256 {
        costs[chance] = 8 * 256 - log2(chance as u64);
        chance += 1;
    }
    costs
};

/// The binary logarithm in 1/256, rounded down.
const fn log2(number: u64) -> u32 {
    let whole = number.ilog2();
    let mut rest = (number << 32) >> whole; // from 1 to 2, times 2^32
    let mut logarithm = whole;
    let mut bit = 0;
    while bit < 8 {
        rest = ((rest as u128 * rest as u128) >> 32) as u64;
        logarithm <<= 1;
        if rest >> 33 == 1 {
            rest >>= 1;
            logarithm |= 1;
        }
        bit += 1;
    }
    logarithm
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The decoder of RFC 6386, section 7.3, for one bit at a time.
    struct BitReader<'a> {
        bytes: std::slice::Iter<'a, u8>,
        value: u32,
        range: u32,
        shifted: u32,
    }

    impl<'a> BitReader<'a> {
        fn new(bytes: &'a [u8]) -> Self {
            let mut bytes = bytes.iter();
            let mut next = || u32::from(bytes.next().copied().unwrap_or(0));
            let value = next() << 8 | next();
            Self {
                bytes,
                value,
                range: 255,
                shifted: 0,
            }
        }

        fn bit(&mut self, probability: u8) -> bool {
            let split = 1 + (((self.range - 1) * u32::from(probability)) >> 8);
            let bit = self.value >= split << 8;
            if bit {
                self.range -= split;
                self.value -= split << 8;
            } else {
                self.range = split;
            }
            while self.range < 128 {
                self.value <<= 1;
                self.range <<= 1;
                self.shifted += 1;
                if self.shifted == 8 {
                    self.shifted = 0;
                    self.value |= u32::from(self.bytes.next().copied().unwrap_or(0));
                }
            }
            bit
        }
    }

    #[test]
    fn bits_are_read_back_whatever_their_chances() {
        let mut random = 1u32;
        let mut next = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            random >> 16
        };
        for skew in [1, 20, 128, 250, 255] {
            let bits: Vec<(bool, u8)> = (0..20_000)
                .map(|_| (next() % 256 >= skew, (next() % 255 + 1) as u8))
                .collect();
            let mut writer = BitWriter::new();
            bits.iter()
                .for_each(|(bit, chance)| writer.put(*bit, *chance));
            let bytes = writer.finish();
            let mut reader = BitReader::new(&bytes);
            for (nth, (bit, chance)) in bits.iter().enumerate() {
                assert_eq!(reader.bit(*chance), *bit, "bit {nth}");
            }
        }
    }

    #[test]
    fn a_rare_bit_costs_more() {
        assert_eq!(cost(false, 128), 256);
        assert_eq!(cost(true, 128), 256);
        assert_eq!(cost(false, 64), 512);
        assert_eq!(cost(true, 192), 512);
        assert!(cost(true, 255) > 2000 && cost(false, 255) < 3);
    }
}
