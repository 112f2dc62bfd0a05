//! The shape and byte size of a model's latents for a picture of a given size.

use serde::{Deserialize, Serialize};

use crate::units::PictureSize;

/// Shape of a model's latents: f32 values in `channels` planes, each as large as the picture divided by
/// `downscale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatentShape {
    /// Number of planes.
    pub channels: u32,
    /// Pixels of the picture per latent value, along each side; at least 1.
    pub downscale: u32,
}

impl LatentShape {
    /// Columns and rows of a plane. A preview has one pixel for each value of a plane.
    pub fn plane(self, size: PictureSize) -> PictureSize {
        let side = |pixels: u32| pixels.div_ceil(self.downscale.max(1));
        PictureSize {
            width: side(size.width),
            height: side(size.height),
        }
    }

    /// Bytes of the latents of a picture.
    pub fn bytes(self, size: PictureSize) -> u64 {
        self.plane(size).pixels() * u64::from(self.channels) * size_of::<f32>() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_plane_follow_channels_and_downscale() {
        let size = PictureSize {
            width: 100,
            height: 64,
        };
        let of = |channels, downscale| LatentShape {
            channels,
            downscale,
        };
        assert_eq!(
            of(16, 8).plane(size),
            PictureSize {
                width: 13,
                height: 8
            }
        );
        assert_eq!(of(16, 8).bytes(size), 13 * 8 * 16 * 4);
        assert_eq!(of(4, 16).bytes(size), 7 * 4 * 4 * 4);
    }
}
