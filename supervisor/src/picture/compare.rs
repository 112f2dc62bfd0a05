//! Compares two pictures of the same request: their bytes and their inputs.

use std::fmt;

use super::receipt::Receipt;

/// The difference of two pictures of the same size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureDistance {
    /// Number of bytes of each picture.
    pub bytes: usize,
    /// Number of bytes that differ.
    pub different: usize,
    /// Largest difference of a byte.
    pub largest: u8,
}

impl PictureDistance {
    /// Compares byte by byte; `None` if the lengths differ.
    pub fn between(one: &[u8], other: &[u8]) -> Option<Self> {
        if one.len() != other.len() {
            return None;
        }
        let apart = one.iter().zip(other).map(|(a, b)| a.abs_diff(*b));
        Some(Self {
            bytes: one.len(),
            different: apart.clone().filter(|by| *by > 0).count(),
            largest: apart.max().unwrap_or(0),
        })
    }

    /// The fraction of bytes that differ, from 0 to 1.
    pub fn share(self) -> f64 {
        self.different as f64 / self.bytes.max(1) as f64
    }
}

impl fmt::Display for PictureDistance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (different, bytes, largest) = (self.different, self.bytes, self.largest);
        let percent = self.share() * 100.0;
        write!(
            f,
            "{different} of {bytes} bytes differ ({percent:.3} %), by {largest} at most"
        )
    }
}

/// A field that differs between two receipts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Name of the field.
    pub field: &'static str,
    /// Value in the file.
    pub then: String,
    /// Value for the new picture.
    pub now: String,
}

impl Change {
    /// Whether the change makes it another picture. The version alone does not: if the bytes are the same, so is
    /// the picture.
    pub fn matters(&self) -> bool {
        self.field != "version"
    }
}

/// Lists the inputs that a request does not determine and that have changed.
pub fn changes(then: &Receipt, now: &Receipt) -> Vec<Change> {
    let words = |receipt: &Receipt| {
        [
            ("weights", receipt.weights.clone()),
            ("sampler", receipt.sampler.clone()),
            ("dtype", receipt.dtype.clone()),
            ("guidance", receipt.guidance.to_string()),
            ("prompt_cut", receipt.prompt_cut.to_string()),
            ("version", receipt.version.clone()),
        ]
    };
    words(then)
        .into_iter()
        .zip(words(now))
        .filter(|(then, now)| then != now)
        .map(|((field, then), (_, now))| Change { field, then, now })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_field_is_reported_and_only_the_version_does_not_matter() {
        let then = Receipt {
            prompt: "a fox".into(),
            negative: None,
            model: "pocket-flux".into(),
            weights: "d".into(),
            seed: 1,
            steps: 4,
            guidance: 0.0,
            size: "128x64".into(),
            sampler: "euler".into(),
            dtype: "f32".into(),
            prompt_cut: false,
            version: "0.1.0".into(),
        };
        let now = Receipt {
            weights: "e".into(),
            dtype: "bf16".into(),
            version: "0.2.0".into(),
            ..then.clone()
        };
        let changes = super::changes(&then, &now);
        let told: Vec<_> = changes
            .iter()
            .map(|change| (change.field, change.now.as_str(), change.matters()))
            .collect();
        let expected = [
            ("weights", "e", true),
            ("dtype", "bf16", true),
            ("version", "0.2.0", false),
        ];
        assert_eq!(told, expected);
        assert!(super::changes(&then, &then).is_empty());
    }

    #[test]
    fn the_fraction_and_the_largest_difference_cover_all_bytes() {
        let distance =
            PictureDistance::between(&[0, 255, 9, 9], &[255, 255, 8, 9]).expect("one size");
        let expected = PictureDistance {
            bytes: 4,
            different: 2,
            largest: 255,
        };
        assert_eq!(distance, expected);
        assert_eq!(distance.share(), 0.5);
        assert_eq!(
            distance.to_string(),
            "2 of 4 bytes differ (50.000 %), by 255 at most"
        );
    }

    #[test]
    fn equal_bytes_have_distance_zero_and_other_sizes_have_none() {
        let same = PictureDistance::between(&[1, 2], &[1, 2]).expect("one size");
        assert_eq!((same.different, same.largest), (0, 0));
        assert_eq!(
            PictureDistance::between(&[], &[]).map(PictureDistance::share),
            Some(0.0)
        );
        assert_eq!(PictureDistance::between(&[1, 2], &[1]), None);
    }
}
