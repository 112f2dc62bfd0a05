//! Previews of latents: a linear map of channels to RGB, or the decoder.

use crate::fault::WorkerFault;
use crate::pipelines::pipeline::Rgb8;
use crate::pixels;
use candle_core::Tensor;
use serde::Deserialize;
use std::borrow::Cow;

/// A linear map of latents to colours in -1..1, as a decoder outputs them: `rgb = latents * weights + bias`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Colours {
    /// Weights of red, green and blue for each channel.
    pub weights: Cow<'static, [[f32; 3]]>,
    /// Red, green and blue of latents that are zero.
    pub bias: [f32; 3],
}

impl Colours {
    /// Checks the number of channels.
    ///
    /// # Errors
    /// [`WorkerFault::Configuration`] with the key.
    pub fn check(&self, file: &str, channels: usize) -> Result<(), WorkerFault> {
        if self.weights.len() == channels {
            return Ok(());
        }
        let what = format!("has {} rows for {channels} channels", self.weights.len());
        Err(WorkerFault::configuration(file, "preview.weights", what))
    }

    /// Computes a picture with one pixel per latent value of (1, c, h, w).
    ///
    /// # Errors
    /// Faults of the device; latents with another number of channels.
    pub fn of(&self, latents: &Tensor) -> Result<Rgb8, WorkerFault> {
        let (_, channels, rows, columns) = latents.dims4()?;
        let device = latents.device();
        let values: Vec<f32> = self.weights.iter().flatten().copied().collect();
        let weights = Tensor::from_vec(values, (self.weights.len(), 3), device)?;
        let weights = weights.t()?.contiguous()?; // (3, c)
        let bias = Tensor::new(&self.bias, device)?.unsqueeze(1)?; // (3, 1)
        let flat = latents.contiguous()?.reshape((channels, rows * columns))?;
        let picture = weights.matmul(&flat)?.broadcast_add(&bias)?; // (3, h * w)
        Ok(Rgb8 {
            width: columns as u32,
            height: rows as u32,
            bytes: pixels::bytes(&picture.reshape((1, 3, rows, columns))?)?,
        })
    }
}

/// Shrinks a picture (1, 3, H, W) in about -1..1 to a preview: each pixel is the mean of `downscale` x `downscale`
/// pixels.
///
/// # Errors
/// Faults of the device.
pub fn of_picture(picture: &Tensor, downscale: usize) -> Result<Rgb8, WorkerFault> {
    let small = picture.avg_pool2d(downscale)?;
    let (_, _, rows, columns) = small.dims4()?;
    Ok(Rgb8 {
        width: columns as u32,
        height: rows as u32,
        bytes: pixels::bytes(&small)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn each_latent_value_becomes_one_pixel_with_the_colours_of_its_channels() {
        let mut weights = [[0.0; 3]; 16];
        (weights[0], weights[5]) = ([1.0, 0.0, 0.0], [0.0, 0.0, -1.0]);
        let colours = Colours {
            weights: weights.to_vec().into(),
            bias: [0.0, -1.0, 0.0],
        };
        let mut values = vec![0f32; 16 * 2];
        (values[0], values[2 * 5 + 1]) = (1.0, 1.0);
        let latents = Tensor::from_vec(values, (1, 16, 1, 2), &Device::Cpu).expect("fits");
        let seen = colours.of(&latents).expect("f32 on the processor");
        assert_eq!((seen.width, seen.height), (2, 1));
        assert_eq!(seen.bytes, [255, 0, 128, 128, 0, 0]);
    }
}
