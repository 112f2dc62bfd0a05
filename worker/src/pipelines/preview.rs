//! Previews of latents: a linear map of channels to RGB, or the decoder.

use crate::fault::Fault;
use crate::pipelines::parts::autoencoder::PIXELS_PER_LATENT;
use crate::pipelines::pipeline::Rgb8;
use crate::pixels;
use candle_core::Tensor;
use serde::Deserialize;

/// Channels of the latents of both families.
pub const CHANNELS: usize = 16;

/// `rgb = latents * weights + bias`, colours in -1..1 as a decoder gives them.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Colours {
    /// Red, green and blue of each channel.
    pub weights: [[f32; 3]; CHANNELS],
    /// Red, green and blue of latents that are zero.
    pub bias: [f32; 3],
}

impl Colours {
    /// A picture of one pixel for each latent of (1, 16, h, w).
    ///
    /// # Errors
    /// The device's faults; latents of another number of channels.
    pub fn of(&self, latents: &Tensor) -> Result<Rgb8, Fault> {
        let (_, channels, rows, columns) = latents.dims4()?;
        let device = latents.device();
        let weights = Tensor::new(&self.weights, device)?.t()?.contiguous()?; // (3, 16)
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

/// A picture (1, 3, 8h, 8w) in about -1..1 as a preview of it: the means of its blocks of 8x8.
///
/// # Errors
/// The device's faults.
pub fn of_picture(picture: &Tensor) -> Result<Rgb8, Fault> {
    let small = picture.avg_pool2d(PIXELS_PER_LATENT)?;
    let (_, _, rows, columns) = small.dims4()?;
    Ok(Rgb8 {
        width: columns as u32,
        height: rows as u32,
        bytes: pixels::bytes(&small)?,
    })
}

/// FLUX.1's autoencoder. Source: `latent-preview.h` in leejet/stable-diffusion.cpp (MIT licence).
pub const FLUX: Colours = Colours {
    weights: [
        [-0.041168, 0.019917, 0.097253],
        [0.028096, 0.026730, 0.129576],
        [0.065618, -0.067950, -0.014651],
        [-0.012998, -0.014762, 0.081251],
        [0.078567, 0.059296, -0.024687],
        [-0.015987, -0.003697, 0.005012],
        [0.033605, 0.138999, 0.068517],
        [-0.024450, -0.063567, -0.030101],
        [-0.040194, -0.016710, 0.127185],
        [0.112681, 0.088764, -0.041940],
        [-0.023498, 0.093664, 0.025543],
        [0.082899, 0.048320, 0.007491],
        [0.075712, 0.074139, 0.081965],
        [-0.143501, 0.018263, -0.136138],
        [-0.025767, -0.082035, -0.040023],
        [-0.111849, -0.055589, -0.032361],
    ],
    bias: [0.024600, -0.006937, -0.008089],
};

/// Stable Diffusion 3's autoencoder. Source: as [`FLUX`], which took it from `sd3_impls.py` in
/// Stability-AI/sd3.5.
pub const SD3: Colours = Colours {
    weights: [
        [-0.0645, 0.0177, 0.1052],
        [0.0028, 0.0312, 0.0650],
        [0.1848, 0.0762, 0.0360],
        [0.0944, 0.0360, 0.0889],
        [0.0897, 0.0506, -0.0364],
        [-0.0020, 0.1203, 0.0284],
        [0.0855, 0.0118, 0.0283],
        [-0.0539, 0.0658, 0.1047],
        [-0.0057, 0.0116, 0.0700],
        [-0.0412, 0.0281, -0.0039],
        [0.1106, 0.1171, 0.1220],
        [-0.0248, 0.0682, -0.0481],
        [0.0815, 0.0846, 0.1207],
        [-0.0120, -0.0055, -0.0867],
        [-0.0749, -0.0634, -0.0456],
        [-0.1418, -0.1457, -0.1259],
    ],
    bias: [0.0; 3],
};

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn each_latent_becomes_one_pixel_of_the_colours_of_its_channels() {
        let mut weights = [[0.0; 3]; CHANNELS];
        (weights[0], weights[5]) = ([1.0, 0.0, 0.0], [0.0, 0.0, -1.0]);
        let colours = Colours {
            weights,
            bias: [0.0, -1.0, 0.0],
        };
        let mut values = vec![0f32; CHANNELS * 2];
        (values[0], values[2 * 5 + 1]) = (1.0, 1.0);
        let latents = Tensor::from_vec(values, (1, CHANNELS, 1, 2), &Device::Cpu).expect("fits");
        let seen = colours.of(&latents).expect("f32 on the processor");
        assert_eq!((seen.width, seen.height), (2, 1));
        assert_eq!(seen.bytes, [255, 0, 128, 128, 0, 0]);
    }
}
