//! Rotary position embeddings over several axes.
//!
//! Source: `EmbedND` and `apply_rope` in black-forest-labs/flux (`src/flux/math.py`). Angles are computed in
//! f64, cosines and sines are f32, and the rotation is applied in f32 for every dtype of the model: with angles
//! in bf16, cosines at 1024 pixels are wrong by up to 0.14.

use crate::fault::WorkerFault;
use candle_core::{DType, Device, Tensor};

/// Cosines and sines of every position, one per pair of values of a head.
pub struct Rotation {
    cos: Tensor, // (s, d/2) f32
    sin: Tensor, // (s, d/2) f32
}

/// The position of a token: zeros for text, (0, row, column) for a patch of the picture.
pub type Position = [u32; 3];

/// The positions of `text` tokens, followed by those of `rows` x `columns` patches.
pub fn positions(text: usize, rows: usize, columns: usize) -> Vec<Position> {
    let patches = (0..rows as u32).flat_map(|row| (0..columns as u32).map(move |c| [0, row, c]));
    std::iter::repeat_n([0; 3], text).chain(patches).collect()
}

impl Rotation {
    /// Computes the angles `position / theta^(2i / d_axis)` of all axes, one axis after the other.
    ///
    /// # Errors
    /// Faults of the device.
    pub fn new(
        positions: &[Position],
        axes: &[usize],
        theta: f64,
        device: &Device,
    ) -> Result<Rotation, WorkerFault> {
        let pairs = axes.iter().sum::<usize>() / 2;
        let mut cos = Vec::with_capacity(positions.len() * pairs);
        let mut sin = Vec::with_capacity(positions.len() * pairs);
        for position in positions {
            for (place, width) in position.iter().zip(axes) {
                for pair in 0..width / 2 {
                    let exponent = (2 * pair) as f64 / *width as f64;
                    let angle = f64::from(*place) * (1.0 / theta.powf(exponent));
                    cos.push(angle.cos() as f32);
                    sin.push(angle.sin() as f32);
                }
            }
        }
        let shape = (positions.len(), pairs);
        let cos = Tensor::from_vec(cos, shape, device)?;
        Ok(Rotation {
            cos,
            sin: Tensor::from_vec(sin, shape, device)?,
        })
    }

    /// The same with angles rounded to bf16, for a test that detects the difference.
    #[cfg(test)]
    pub(crate) fn in_bf16(
        positions: &[Position],
        axes: &[usize],
        theta: f64,
        device: &Device,
    ) -> Result<Rotation, WorkerFault> {
        let exact = Rotation::new(positions, axes, theta, device)?;
        let mut angles = Vec::new();
        for position in positions {
            for (place, width) in position.iter().zip(axes) {
                for pair in 0..width / 2 {
                    let frequency = 1.0 / theta.powf((2 * pair) as f64 / *width as f64);
                    angles.push((f64::from(*place) * frequency) as f32);
                }
            }
        }
        let angles = Tensor::from_vec(angles, exact.cos.shape(), device)?;
        let angles = angles.to_dtype(DType::BF16)?.to_dtype(DType::F32)?;
        Ok(Rotation {
            cos: angles.cos()?,
            sin: angles.sin()?,
        })
    }

    /// Rotates neighbouring pairs of values of (b, heads, s, d).
    ///
    /// # Errors
    /// Faults of the device.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor, WorkerFault> {
        let dtype = x.dtype();
        let x = x.contiguous()?.to_dtype(DType::F32)?;
        Ok(candle_nn::rotary_emb::rope_i(&x, &self.cos, &self.sin)?.to_dtype(dtype)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published head with 16 + 56 + 56 values, at the last position of a picture of 1024 and of 2048 pixels.
    #[test]
    fn cosines_and_sines_at_far_positions_are_within_a_millionth() {
        let (axes, theta) = ([16usize, 56, 56], 10000f64);
        for place in [63u32, 127] {
            let rotation =
                Rotation::new(&[[0, place, place]], &axes, theta, &Device::Cpu).expect("cpu");
            let cos: Vec<f32> = rotation
                .cos
                .flatten_all()
                .and_then(|t| t.to_vec1())
                .expect("f32");
            let sin: Vec<f32> = rotation
                .sin
                .flatten_all()
                .and_then(|t| t.to_vec1())
                .expect("f32");
            for pair in 0..28 {
                let angle = f64::from(place) * (-(2.0 * pair as f64 / 56.0) * theta.ln()).exp();
                for start in [8, 36] {
                    assert!((f64::from(cos[start + pair]) - angle.cos()).abs() <= 1e-6);
                    assert!((f64::from(sin[start + pair]) - angle.sin()).abs() <= 1e-6);
                }
            }
        }
    }

    #[test]
    fn the_first_position_is_not_rotated() {
        let rotation = Rotation::new(&[[0; 3]], &[4, 6, 6], 10000.0, &Device::Cpu).expect("cpu");
        let x = Tensor::arange(0f32, 16.0, &Device::Cpu).and_then(|x| x.reshape((1, 1, 1, 16)));
        let x = x.expect("sixteen values");
        let turned = rotation.apply(&x).expect("cpu");
        let pair = [turned, x].map(|t| {
            t.flatten_all()
                .and_then(|t| t.to_vec1::<f32>())
                .expect("f32")
        });
        assert_eq!(pair[0], pair[1]);
    }
}
