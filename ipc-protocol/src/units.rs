//! Numbers with a unit: memory in mebibytes, picture sizes in pixels.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::Serialize;

/// A number of things in words: `1 job`, `2 jobs`.
pub fn counted(number: u64, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {one}s"),
    }
}

/// Memory in whole mebibytes (2^20 bytes), the unit of every reservation, setting and report.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize,
)]
pub struct Mebibytes(pub u64);

impl Mebibytes {
    /// No memory.
    pub const ZERO: Self = Self(0);

    /// The smallest whole number of mebibytes that holds `bytes`.
    pub const fn holding(bytes: u64) -> Self {
        Self(bytes.div_ceil(1 << 20))
    }

    /// `self - other`, or zero if that would be negative.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `self + other`, or `None` if the sum overflows.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
}

impl Add for Mebibytes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Mebibytes {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl AddAssign for Mebibytes {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sum for Mebibytes {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Mebibytes {
    /// Prints GiB with one decimal from 1 GiB on, else MiB.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            mb @ 0..1024 => write!(f, "{mb} MiB"),
            mb => write!(f, "{}.{} GiB", mb / 1024, mb % 1024 * 10 / 1024),
        }
    }
}

/// Width and height of a picture in pixels, written `WxH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct PictureSize {
    /// Pixels per row.
    pub width: u32,
    /// Number of rows.
    pub height: u32,
}

impl PictureSize {
    /// Total number of pixels.
    pub const fn pixels(self) -> u64 {
        self.width as u64 * self.height as u64
    }

    /// Bytes of the picture as RGB8.
    pub const fn rgb8_bytes(self) -> u64 {
        self.pixels() * 3
    }
}

impl fmt::Display for PictureSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl FromStr for PictureSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split_once(['x', 'X'])
            .and_then(|(width, height)| {
                Some(Self {
                    width: width.parse().ok()?,
                    height: height.parse().ok()?,
                })
            })
            .ok_or_else(|| format!("{text:?} is not a size like 1024x768"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_up_to_whole_mebibytes() {
        assert_eq!(Mebibytes::holding(0), Mebibytes(0));
        assert_eq!(Mebibytes::holding(1), Mebibytes(1));
        assert_eq!(Mebibytes::holding(1 << 20), Mebibytes(1));
        assert_eq!(Mebibytes::holding((1 << 20) + 1), Mebibytes(2));
    }

    #[test]
    fn memory_is_printed_as_mib_or_gib() {
        assert_eq!(Mebibytes(412).to_string(), "412 MiB");
        assert_eq!(Mebibytes(33 * 1024 + 103).to_string(), "33.1 GiB");
    }

    #[test]
    fn a_size_is_two_numbers() {
        let size: PictureSize = "1024x768".parse().expect("a plain size");
        assert_eq!((size.width, size.height), (1024, 768));
        for wrong in ["", "x", "10", "10x", "-1x5", "1x2x3", "99999999999x1"] {
            assert!(wrong.parse::<PictureSize>().is_err(), "{wrong}");
        }
    }
}
