//! The decoder of the autoencoder, with LDM's tensor names; shared by all families.
//!
//! Source: `src/flux/modules/autoencoder.py` in black-forest-labs/flux. The number of norm groups is
//! configurable here: 32 in the published models, fewer in models with few channels.

use crate::fault::WorkerFault;
use crate::pipelines::parts::attention::attention;
use crate::pipelines::parts::norms::GroupNorm;
use crate::pipelines::parts::sizes::{DecoderSizes, LatentSizes};
use crate::weights::Section;
use crate::work;
use candle_core::Tensor;
use candle_core::conv::CudnnFwdAlgo;

struct Conv {
    kernel: Tensor, // (out, in, side, side)
    bias: Tensor,   // (1, out, 1, 1)
    padding: usize,
}

impl Conv {
    fn load(
        section: &Section,
        inputs: usize,
        outputs: usize,
        side: usize,
    ) -> Result<Conv, WorkerFault> {
        let kernel = section.tensor("weight", &[outputs, inputs, side, side])?;
        let bias = section
            .tensor("bias", &[outputs])?
            .reshape((1, outputs, 1, 1))?;
        Ok(Conv {
            kernel,
            bias,
            padding: side / 2,
        })
    }

    /// Computes (b, out, h, w) from (b, in, h, w). On a GPU, the algorithm is one of cuDNN's that need little memory:
    /// its own choice may need several GiB at the size of the picture.
    fn forward(&self, x: &Tensor) -> Result<Tensor, WorkerFault> {
        let algorithm = Some(CudnnFwdAlgo::ImplicitPrecompGemm);
        let y = x.contiguous()?;
        let y = y.conv2d_with_algo(&self.kernel, self.padding, 1, 1, 1, algorithm)?;
        work::finished_one();
        Ok(y.broadcast_add(&self.bias)?)
    }
}

struct Residual {
    norm1: GroupNorm,
    conv1: Conv,
    norm2: GroupNorm,
    conv2: Conv,
    shortcut: Option<Conv>,
}

impl Residual {
    fn load(
        section: &Section,
        from: usize,
        to: usize,
        groups: usize,
    ) -> Result<Residual, WorkerFault> {
        let shortcut = || Conv::load(&section.at("nin_shortcut"), from, to, 1);
        Ok(Residual {
            norm1: GroupNorm::load(&section.at("norm1"), from, groups)?,
            conv1: Conv::load(&section.at("conv1"), from, to, 3)?,
            norm2: GroupNorm::load(&section.at("norm2"), to, groups)?,
            conv2: Conv::load(&section.at("conv2"), to, to, 3)?,
            shortcut: if from == to { None } else { Some(shortcut()?) },
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, WorkerFault> {
        let mut h = activated(&self.norm1, x)?;
        h = self.conv1.forward(&h)?;
        h = activated(&self.norm2, &h)?;
        h = self.conv2.forward(&h)?;
        match &self.shortcut {
            Some(conv) => Ok((conv.forward(x)? + h)?),
            None => Ok((x + h)?),
        }
    }
}

/// Normalises and activates. Each step frees the tensor before it, as large as the picture.
fn activated(norm: &GroupNorm, x: &Tensor) -> Result<Tensor, WorkerFault> {
    let normed = norm.forward(x)?;
    Ok(normed.silu()?)
}

struct Attention {
    norm: GroupNorm,
    q: Conv,
    k: Conv,
    v: Conv,
    out: Conv,
}

impl Attention {
    fn load(section: &Section, channels: usize, groups: usize) -> Result<Attention, WorkerFault> {
        let square = |name| Conv::load(&section.at(name), channels, channels, 1);
        let norm = GroupNorm::load(&section.at("norm"), channels, groups)?;
        Ok(Attention {
            norm,
            q: square("q")?,
            k: square("k")?,
            v: square("v")?,
            out: square("proj_out")?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, WorkerFault> {
        let (batch, channels, height, width) = x.dims4()?;
        let h = self.norm.forward(x)?;
        let row = |conv: &Conv| -> Result<Tensor, WorkerFault> {
            let y = conv
                .forward(&h)?
                .reshape((batch, 1, channels, height * width))?;
            Ok(y.transpose(2, 3)?.contiguous()?) // (b, 1, h*w, c)
        };
        let (q, k, v) = (row(&self.q)?, row(&self.k)?, row(&self.v)?);
        let mixed = attention((&q, &k, &v), 1.0 / (channels as f64).sqrt(), None)?;
        let mixed = mixed
            .transpose(2, 3)?
            .reshape((batch, channels, height, width))?;
        Ok((x + self.out.forward(&mixed)?)?)
    }
}

struct Level {
    blocks: Vec<Residual>,
    upsample: Option<Conv>,
}

/// The decoder of latents to pictures.
pub struct Decoder {
    conv_in: Conv,
    mid: (Residual, Attention, Residual),
    levels: Vec<Level>, // coarsest first
    norm_out: GroupNorm,
    conv_out: Conv,
    latent: LatentSizes,
}

impl Decoder {
    /// Loads `decoder.*`.
    ///
    /// # Errors
    /// As [`Section::tensor`].
    pub fn load(
        section: &Section,
        sizes: &DecoderSizes,
        latent: LatentSizes,
    ) -> Result<Decoder, WorkerFault> {
        let section = section.at("decoder");
        let widths: Vec<usize> = sizes.ch_mult.iter().map(|m| m * sizes.ch).collect();
        let groups = sizes.norm_groups;
        let (finest, coarsest) = (widths[0], widths[widths.len() - 1]);
        let mid = section.at("mid");
        let residual = |name| Residual::load(&mid.at(name), coarsest, coarsest, groups);
        Ok(Decoder {
            conv_in: Conv::load(&section.at("conv_in"), sizes.z_channels, coarsest, 3)?,
            mid: (
                residual("block_1")?,
                Attention::load(&mid.at("attn_1"), coarsest, groups)?,
                residual("block_2")?,
            ),
            levels: load_levels(&section.at("up"), &widths, sizes)?,
            norm_out: GroupNorm::load(&section.at("norm_out"), finest, groups)?,
            conv_out: Conv::load(&section.at("conv_out"), finest, 3, 3)?,
            latent,
        })
    }

    /// Decodes latents (b, z, h/8, w/8), as the transformer computes them, to a picture (b, 3, h, w) in about -1..1.
    ///
    /// # Errors
    /// Faults of the device.
    pub fn forward(&self, latents: &Tensor) -> Result<Tensor, WorkerFault> {
        let z = ((latents / self.latent.scale_factor)? + self.latent.shift_factor)?;
        let x = self.mid.0.forward(&self.conv_in.forward(&z)?)?;
        let mut x = self.mid.2.forward(&self.mid.1.forward(&x)?)?;
        for level in &self.levels {
            for block in &level.blocks {
                x = block.forward(&x)?;
            }
            if let Some(conv) = &level.upsample {
                let (_, _, height, width) = x.dims4()?;
                x = conv.forward(&x.upsample_nearest2d(height * 2, width * 2)?)?;
            }
        }
        self.conv_out.forward(&activated(&self.norm_out, &x)?)
    }
}

fn load_levels(
    up: &Section,
    widths: &[usize],
    sizes: &DecoderSizes,
) -> Result<Vec<Level>, WorkerFault> {
    let mut levels = Vec::with_capacity(widths.len());
    let mut from = widths[widths.len() - 1];
    for (i, width) in widths.iter().enumerate().rev() {
        let section = up.at(i);
        let mut blocks = Vec::with_capacity(sizes.num_res_blocks + 1);
        for block in 0..=sizes.num_res_blocks {
            let at = section.at("block").at(block);
            blocks.push(Residual::load(&at, from, *width, sizes.norm_groups)?);
            from = *width;
        }
        // Level 0 already has the picture's size.
        let conv = || Conv::load(&section.at("upsample.conv"), *width, *width, 3);
        let upsample = if i == 0 { None } else { Some(conv()?) };
        levels.push(Level { blocks, upsample });
    }
    Ok(levels)
}
