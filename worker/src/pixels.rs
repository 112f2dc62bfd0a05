//! Converts a decoder's values in -1..1 to bytes.

use crate::fault::WorkerFault;
use candle_core::{DType, Device, Tensor};

/// Converts a picture of shape (1, 3, h, w) to RGB bytes, row by row.
///
/// A byte is `(x / 2 + 0.5)` clamped to 0..1, times 255, rounded half to even, as in `VaeImageProcessor` of
/// diffusers with NumPy's `round`. Truncation would make two bytes of five darker by one.
///
/// # Errors
/// Faults of the device; a tensor of another shape.
pub fn bytes(picture: &Tensor) -> Result<Vec<u8>, WorkerFault> {
    let picture = picture.squeeze(0)?.permute((1, 2, 0))?; // (h, w, 3)
    let picture = picture.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    let values = picture.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.into_iter().map(byte).collect())
}

fn byte(value: f32) -> u8 {
    ((value / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_clamped_and_halves_round_to_even() {
        assert_eq!([-7.0, -1.0, 0.0, 1.0, 7.0].map(byte), [0, 0, 128, 255, 255]);
        let halves = [0.5f32, 1.5, 2.5, 3.5].map(|b| (b / 255.0 - 0.5) * 2.0);
        let close: Vec<bool> = halves
            .iter()
            .zip([0, 2, 2, 4])
            .map(|(v, e)| byte(*v).abs_diff(e) <= 1)
            .collect();
        assert_eq!(close, [true; 4]);
    }

    #[test]
    fn channels_are_interleaved_row_by_row() {
        let values = vec![-1f32, 1.0, -1.0, 1.0, 1.0, -1.0];
        let picture = Tensor::from_vec(values, (1, 3, 1, 2), &Device::Cpu).expect("the shape fits");
        assert_eq!(
            bytes(&picture).expect("f32 on the processor"),
            [0, 0, 255, 255, 255, 0]
        );
    }
}
