//! The decoder's layers as operations of tensors (b, channels, h, w): on a GPU, and in f64.

use super::backend::Backend;
use crate::fault::WorkerFault;
use crate::pipelines::parts::attention::attention;
use crate::pipelines::parts::norms::GroupNorm;
use crate::weights::Section;
use crate::work;
use candle_core::Tensor;
use candle_core::conv::CudnnFwdAlgo;

/// Computes with tensors, a batch at a time.
pub(super) struct TensorBackend;

/// The weights of a convolution.
pub(super) struct TensorConvolution {
    kernel: Tensor, // (out, in, side, side)
    bias: Tensor,   // (1, out, 1, 1)
    padding: usize,
}

impl Backend for TensorBackend {
    type Features = Tensor;
    type Convolution = TensorConvolution;
    type Norm = GroupNorm;

    fn convolution(
        section: &Section,
        (inputs, outputs): (usize, usize),
        side: usize,
    ) -> Result<TensorConvolution, WorkerFault> {
        let bias = section.tensor("bias", &[outputs])?;
        Ok(TensorConvolution {
            kernel: section.tensor("weight", &[outputs, inputs, side, side])?,
            bias: bias.reshape((1, outputs, 1, 1))?,
            padding: side / 2,
        })
    }

    fn norm(section: &Section, channels: usize, groups: usize) -> Result<GroupNorm, WorkerFault> {
        GroupNorm::load(section, channels, groups)
    }

    /// On a GPU, the algorithm is one of cuDNN's that need little memory: its own choice may need several GiB at the
    /// size of the picture.
    fn convolved(&self, x: &Tensor, by: &TensorConvolution) -> Result<Tensor, WorkerFault> {
        let algorithm = Some(CudnnFwdAlgo::ImplicitPrecompGemm);
        let y = x.contiguous()?;
        let y = y.conv2d_with_algo(&by.kernel, by.padding, 1, 1, 1, algorithm)?;
        work::finished_one();
        Ok(y.broadcast_add(&by.bias)?)
    }

    fn convolved_onto(
        &self,
        other: &Tensor,
        x: &Tensor,
        by: &TensorConvolution,
    ) -> Result<Tensor, WorkerFault> {
        Ok((other + self.convolved(x, by)?)?)
    }

    fn enlarged(&self, x: &Tensor, by: &TensorConvolution) -> Result<Tensor, WorkerFault> {
        let (_, _, height, width) = x.dims4()?;
        self.convolved(&x.upsample_nearest2d(height * 2, width * 2)?, by)
    }

    fn normed(&self, x: &Tensor, by: &GroupNorm) -> Result<Tensor, WorkerFault> {
        by.forward(x)
    }

    fn activated(&self, x: &Tensor, by: &GroupNorm) -> Result<Tensor, WorkerFault> {
        let normed = by.forward(x)?;
        Ok(normed.silu()?)
    }

    fn attended(&self, qkv: [Tensor; 3]) -> Result<Tensor, WorkerFault> {
        let (batch, channels, height, width) = qkv[0].dims4()?;
        let row = |x: &Tensor| -> Result<Tensor, WorkerFault> {
            let y = x.reshape((batch, 1, channels, height * width))?;
            Ok(y.transpose(2, 3)?.contiguous()?) // (b, 1, h*w, c)
        };
        let [q, k, v] = &qkv;
        let (q, k, v) = (row(q)?, row(k)?, row(v)?);
        let mixed = attention((&q, &k, &v), 1.0 / (channels as f64).sqrt(), None)?;
        let mixed = mixed.transpose(2, 3)?;
        Ok(mixed.reshape((batch, channels, height, width))?)
    }
}
