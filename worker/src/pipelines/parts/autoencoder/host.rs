//! The decoder's layers as kernels of the host's processor, in f32.

use super::backend::Backend;
use super::graph::Graph;
use crate::fault::WorkerFault;
use crate::pipelines::parts::attention::attention;
use crate::pipelines::parts::norms::GroupNorm;
use crate::weights::Section;
use crate::work;
use candle_core::{Device, Tensor};
use kernels::{Convolution, Frame, InstructionSet, PictureNorm, Source, Workspace};

/// Computes with kernels, one picture at a time.
pub(super) struct HostBackend {
    workspace: Workspace,
}

/// Decodes latents (b, z, h/8, w/8) to a picture (b, 3, h, w).
///
/// # Errors
/// None that are expected on the host.
pub(super) fn decode(graph: &Graph<HostBackend>, latents: &Tensor) -> Result<Tensor, WorkerFault> {
    let (batch, _, rows, columns) = latents.dims4()?;
    let workspace = Workspace::new(InstructionSet::detect());
    let backend = HostBackend { workspace };
    let mut pictures = Vec::with_capacity(batch);
    for latents in latents.chunk(batch, 0)? {
        let values = floats(&latents)?;
        let frame = Frame::from_planes(&values, (rows, columns), &backend.workspace);
        let picture = graph.forward(&backend, &frame)?;
        let shape = (1, picture.channels, picture.height, picture.width);
        pictures.push(Tensor::from_vec(picture.to_planes(), shape, &Device::Cpu)?);
    }
    Ok(Tensor::cat(&pictures, 0)?)
}

fn floats(x: &Tensor) -> Result<Vec<f32>, WorkerFault> {
    Ok(x.flatten_all()?.to_vec1()?)
}

impl HostBackend {
    fn computed(
        &self,
        source: Source<'_>,
        by: &Convolution,
        added: Option<&Frame>,
    ) -> Result<Frame, WorkerFault> {
        let result = by.forward(source, added, &self.workspace);
        work::finished_one();
        Ok(result)
    }
}

impl Backend for HostBackend {
    type Features = Frame;
    type Convolution = Convolution;
    type Norm = PictureNorm;

    fn convolution(
        section: &Section,
        (inputs, outputs): (usize, usize),
        side: usize,
    ) -> Result<Convolution, WorkerFault> {
        let weights = floats(&section.tensor("weight", &[outputs, inputs, side, side])?)?;
        let bias = floats(&section.tensor("bias", &[outputs])?)?;
        Ok(Convolution::new(inputs, &weights, &bias))
    }

    fn norm(section: &Section, channels: usize, groups: usize) -> Result<PictureNorm, WorkerFault> {
        Ok(PictureNorm {
            scale: floats(&section.tensor("weight", &[channels])?)?,
            shift: floats(&section.tensor("bias", &[channels])?)?,
            groups,
            epsilon: GroupNorm::EPSILON,
        })
    }

    fn convolved(&self, x: &Frame, by: &Convolution) -> Result<Frame, WorkerFault> {
        self.computed(Source::Plain(x), by, None)
    }

    fn convolved_onto(
        &self,
        other: &Frame,
        x: &Frame,
        by: &Convolution,
    ) -> Result<Frame, WorkerFault> {
        self.computed(Source::Plain(x), by, Some(other))
    }

    fn enlarged(&self, x: &Frame, by: &Convolution) -> Result<Frame, WorkerFault> {
        self.computed(Source::Doubled(x), by, None)
    }

    fn normed(&self, x: &Frame, by: &PictureNorm) -> Result<Frame, WorkerFault> {
        Ok(by.forward(x, false, &self.workspace))
    }

    fn activated(&self, x: &Frame, by: &PictureNorm) -> Result<Frame, WorkerFault> {
        Ok(by.forward(x, true, &self.workspace))
    }

    /// The values after the last channel are zero, so they change no product.
    fn attended(&self, qkv: [Frame; 3]) -> Result<Frame, WorkerFault> {
        let [height, width, channels] = [qkv[0].height, qkv[0].width, qkv[0].channels];
        let shape = (1, 1, height * width, Frame::stride(channels));
        let [q, k, v] = qkv.map(|frame| Tensor::from_slice(&frame.values, shape, &Device::Cpu));
        let (q, k, v) = (q?, k?, v?);
        let mixed = attention((&q, &k, &v), 1.0 / (channels as f64).sqrt(), None)?;
        let mixed = floats(&mixed)?;
        let mut values = self.workspace.buffer(mixed.len());
        values.copy_from_slice(&mixed);
        Ok(Frame {
            height,
            width,
            channels,
            values,
        })
    }
}
