//! The layers of a decoder, as a kind of device computes them.

use crate::fault::WorkerFault;
use crate::weights::Section;

/// The layers of a decoder on one kind of device.
pub(super) trait Backend {
    /// A picture of features.
    type Features;
    /// A convolution with stride 1 that keeps the size of its input.
    type Convolution;
    /// A group norm.
    type Norm;

    /// Loads `weight` (outputs, inputs, side, side) and `bias` (outputs).
    ///
    /// # Errors
    /// As [`Section::tensor`].
    fn convolution(
        section: &Section,
        channels: (usize, usize),
        side: usize,
    ) -> Result<Self::Convolution, WorkerFault>;

    /// Loads `weight` and `bias` of `channels` values.
    ///
    /// # Errors
    /// As [`Section::tensor`].
    fn norm(section: &Section, channels: usize, groups: usize) -> Result<Self::Norm, WorkerFault>;

    /// Computes a convolution.
    ///
    /// # Errors
    /// Faults of the device, as for all operations here.
    fn convolved(
        &self,
        x: &Self::Features,
        by: &Self::Convolution,
    ) -> Result<Self::Features, WorkerFault>;

    /// Computes the sum of a convolution and `other`.
    fn convolved_onto(
        &self,
        other: &Self::Features,
        x: &Self::Features,
        by: &Self::Convolution,
    ) -> Result<Self::Features, WorkerFault>;

    /// Doubles every pixel in both directions, and computes a 3x3 convolution of that.
    fn enlarged(
        &self,
        x: &Self::Features,
        by: &Self::Convolution,
    ) -> Result<Self::Features, WorkerFault>;

    /// Normalises each group of channels.
    fn normed(&self, x: &Self::Features, by: &Self::Norm) -> Result<Self::Features, WorkerFault>;

    /// Normalises each group of channels, then computes `x * sigmoid(x)`.
    fn activated(&self, x: &Self::Features, by: &Self::Norm)
    -> Result<Self::Features, WorkerFault>;

    /// Computes the attention of every pixel to all pixels, from queries, keys and values.
    fn attended(&self, qkv: [Self::Features; 3]) -> Result<Self::Features, WorkerFault>;
}
