//! A picture beside the same request's picture of today: byte by byte, and what they are made of.

use std::fmt;

use super::receipt::Receipt;

/// How far two pictures are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureDistance {
    /// Bytes of each.
    pub bytes: usize,
    /// Of them, those that differ.
    pub different: usize,
    /// Largest difference of one byte.
    pub largest: u8,
}

impl PictureDistance {
    /// Between two rows of bytes; `None` where one is longer.
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

    /// The share of bytes that differ, 0 to 1.
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

/// One field of a receipt that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub field: &'static str,
    /// In the file.
    pub then: String,
    /// Of the same request now.
    pub now: String,
}

impl Change {
    /// Whether a picture cannot be called the same with this one. From the version nothing follows: a
    /// picture that comes out the same is the same.
    pub fn matters(&self) -> bool {
        self.field != "version"
    }
}

/// What a request does not fix, and is another now.
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
    fn each_fact_that_changed_is_told_and_only_the_version_means_nothing() {
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
    fn the_share_and_the_largest_difference_are_of_all_bytes() {
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
    fn equal_bytes_are_no_distance_apart_and_other_sizes_none_at_all() {
        let same = PictureDistance::between(&[1, 2], &[1, 2]).expect("one size");
        assert_eq!((same.different, same.largest), (0, 0));
        assert_eq!(
            PictureDistance::between(&[], &[]).map(PictureDistance::share),
            Some(0.0)
        );
        assert_eq!(PictureDistance::between(&[1, 2], &[1]), None);
    }
}
