//! Pictures with any number of channels.

use crate::workspace::{Buffer, Workspace};

/// The number of channels of a pixel is padded to a multiple of this: one or two vectors of the usual widths.
pub(crate) const WIDTH: usize = 16;

/// A picture of f32 values in the order row, column, channel. Each pixel has [`Frame::stride`] values; those after the
/// last channel are zero.
#[derive(Debug)]
pub struct Frame {
    /// In pixels.
    pub height: usize,
    /// In pixels.
    pub width: usize,
    /// Number of channels.
    pub channels: usize,
    /// `height * width * stride` values.
    pub values: Buffer,
}

impl Frame {
    /// Number of values of each pixel in a picture with `channels` channels.
    pub fn stride(channels: usize) -> usize {
        channels.next_multiple_of(WIDTH)
    }

    /// Copies values in the order channel, row, column.
    pub fn from_planes(
        planes: &[f32],
        (height, width): (usize, usize),
        workspace: &Workspace,
    ) -> Frame {
        let plane = height * width;
        let channels = planes.len() / plane.max(1);
        let stride = Frame::stride(channels);
        let mut values = workspace.buffer(plane * stride);
        for (i, pixel) in values.chunks_mut(stride).enumerate() {
            pixel.fill(0.0);
            for (value, plane) in pixel.iter_mut().zip(planes.chunks(plane)) {
                *value = plane[i];
            }
        }
        Frame {
            height,
            width,
            channels,
            values,
        }
    }

    /// The values in the order channel, row, column.
    pub fn to_planes(&self) -> Vec<f32> {
        let stride = Frame::stride(self.channels);
        let plane = |channel: usize| self.values.iter().skip(channel).step_by(stride);
        (0..self.channels).flat_map(plane).copied().collect()
    }
}

/// The picture that a convolution reads.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// A picture as it is.
    Plain(&'a Frame),
    /// A picture with every pixel doubled in both directions.
    Doubled(&'a Frame),
}

impl<'a> Source<'a> {
    pub(crate) fn frame(self) -> &'a Frame {
        match self {
            Source::Plain(frame) | Source::Doubled(frame) => frame,
        }
    }

    /// Pixels of the source for each pixel of the picture, per side.
    pub(crate) fn scale(self) -> usize {
        match self {
            Source::Plain(_) => 1,
            Source::Doubled(_) => 2,
        }
    }
}
