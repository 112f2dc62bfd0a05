//! The blocks of a decoder and their order, on any kind of device.
//!
//! A value is dropped as soon as it is not needed: each has the size of the picture.

use super::backend::Backend;
use crate::fault::WorkerFault;
use crate::pipelines::parts::sizes::DecoderSizes;
use crate::weights::Section;

struct Residual<B: Backend> {
    norm1: B::Norm,
    conv1: B::Convolution,
    norm2: B::Norm,
    conv2: B::Convolution,
    shortcut: Option<B::Convolution>,
}

impl<B: Backend> Residual<B> {
    fn load(
        section: &Section,
        from: usize,
        to: usize,
        groups: usize,
    ) -> Result<Residual<B>, WorkerFault> {
        let shortcut = || B::convolution(&section.at("nin_shortcut"), (from, to), 1);
        Ok(Residual {
            norm1: B::norm(&section.at("norm1"), from, groups)?,
            conv1: B::convolution(&section.at("conv1"), (from, to), 3)?,
            norm2: B::norm(&section.at("norm2"), to, groups)?,
            conv2: B::convolution(&section.at("conv2"), (to, to), 3)?,
            shortcut: if from == to { None } else { Some(shortcut()?) },
        })
    }

    fn forward(&self, backend: &B, x: B::Features) -> Result<B::Features, WorkerFault> {
        let mut h = backend.activated(&x, &self.norm1)?;
        h = backend.convolved(&h, &self.conv1)?;
        let x = match &self.shortcut {
            Some(shortcut) => backend.convolved(&x, shortcut)?,
            None => x,
        };
        h = backend.activated(&h, &self.norm2)?;
        backend.convolved_onto(&x, &h, &self.conv2)
    }
}

struct Attention<B: Backend> {
    norm: B::Norm,
    qkv: [B::Convolution; 3],
    out: B::Convolution,
}

impl<B: Backend> Attention<B> {
    fn load(section: &Section, channels: usize, groups: usize) -> Result<Self, WorkerFault> {
        let square = |name| B::convolution(&section.at(name), (channels, channels), 1);
        Ok(Attention {
            norm: B::norm(&section.at("norm"), channels, groups)?,
            qkv: [square("q")?, square("k")?, square("v")?],
            out: square("proj_out")?,
        })
    }

    fn forward(&self, backend: &B, x: &B::Features) -> Result<B::Features, WorkerFault> {
        let h = backend.normed(x, &self.norm)?;
        let [q, k, v] = &self.qkv;
        let of = |conv| backend.convolved(&h, conv);
        let mixed = backend.attended([of(q)?, of(k)?, of(v)?])?;
        backend.convolved_onto(x, &mixed, &self.out)
    }
}

struct Level<B: Backend> {
    blocks: Vec<Residual<B>>,
    upsample: Option<B::Convolution>,
}

/// The blocks of a decoder.
pub(super) struct Graph<B: Backend> {
    conv_in: B::Convolution,
    mid: (Residual<B>, Attention<B>, Residual<B>),
    levels: Vec<Level<B>>, // coarsest first
    norm_out: B::Norm,
    conv_out: B::Convolution,
}

impl<B: Backend> Graph<B> {
    /// Loads all blocks.
    ///
    /// # Errors
    /// As [`Section::tensor`].
    pub(super) fn load(section: &Section, sizes: &DecoderSizes) -> Result<Graph<B>, WorkerFault> {
        let widths: Vec<usize> = sizes.ch_mult.iter().map(|m| m * sizes.ch).collect();
        let groups = sizes.norm_groups;
        let (finest, coarsest) = (widths[0], widths[widths.len() - 1]);
        let mid = section.at("mid");
        let residual = |name| Residual::load(&mid.at(name), coarsest, coarsest, groups);
        Ok(Graph {
            conv_in: B::convolution(&section.at("conv_in"), (sizes.z_channels, coarsest), 3)?,
            mid: (
                residual("block_1")?,
                Attention::load(&mid.at("attn_1"), coarsest, groups)?,
                residual("block_2")?,
            ),
            levels: load_levels(&section.at("up"), &widths, sizes)?,
            norm_out: B::norm(&section.at("norm_out"), finest, groups)?,
            conv_out: B::convolution(&section.at("conv_out"), (finest, 3), 3)?,
        })
    }

    /// Computes the features of a picture from those of its latents.
    ///
    /// # Errors
    /// Faults of the device.
    pub(super) fn forward(
        &self,
        backend: &B,
        latents: &B::Features,
    ) -> Result<B::Features, WorkerFault> {
        let (first, attention, second) = &self.mid;
        let mut x = first.forward(backend, backend.convolved(latents, &self.conv_in)?)?;
        x = attention.forward(backend, &x)?;
        x = second.forward(backend, x)?;
        for level in &self.levels {
            for block in &level.blocks {
                x = block.forward(backend, x)?;
            }
            if let Some(conv) = &level.upsample {
                x = backend.enlarged(&x, conv)?;
            }
        }
        x = backend.activated(&x, &self.norm_out)?;
        backend.convolved(&x, &self.conv_out)
    }
}

fn load_levels<B: Backend>(
    up: &Section,
    widths: &[usize],
    sizes: &DecoderSizes,
) -> Result<Vec<Level<B>>, WorkerFault> {
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
        let conv = || B::convolution(&section.at("upsample.conv"), (*width, *width), 3);
        let upsample = if i == 0 { None } else { Some(conv()?) };
        levels.push(Level { blocks, upsample });
    }
    Ok(levels)
}
