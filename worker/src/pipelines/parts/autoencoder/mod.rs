//! The decoder of the autoencoder, with LDM's tensor names; shared by all families.
//!
//! Source: `src/flux/modules/autoencoder.py` in black-forest-labs/flux. The number of norm groups is
//! configurable here: 32 in the published models, fewer in models with few channels.

mod backend;
mod graph;
mod host;
mod tensors;

use crate::fault::WorkerFault;
use crate::pipelines::parts::sizes::{DecoderSizes, LatentSizes};
use crate::weights::Section;
use candle_core::{DType, Tensor};
use graph::Graph;
use host::HostBackend;
use tensors::TensorBackend;

/// The decoder of latents to pictures.
pub struct Decoder {
    blocks: Blocks,
    latent: LatentSizes,
}

/// The blocks, for the kind of device that computes them.
enum Blocks {
    Host(Box<Graph<HostBackend>>),
    Tensors(Box<Graph<TensorBackend>>),
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
        // Kernels keep weights in an order of their own, so only tensors load without values.
        let is_host =
            section.device().is_cpu() && section.dtype() == DType::F32 && section.has_values();
        if !is_host {
            return Decoder::of_tensors(section, sizes, latent);
        }
        let graph = Graph::load(&section.at("decoder"), sizes)?;
        let blocks = Blocks::Host(Box::new(graph));
        Ok(Decoder { blocks, latent })
    }

    /// Loads `decoder.*` to compute it with tensor operations on any device, for comparisons.
    ///
    /// # Errors
    /// As [`Section::tensor`].
    pub fn of_tensors(
        section: &Section,
        sizes: &DecoderSizes,
        latent: LatentSizes,
    ) -> Result<Decoder, WorkerFault> {
        let graph = Graph::load(&section.at("decoder"), sizes)?;
        let blocks = Blocks::Tensors(Box::new(graph));
        Ok(Decoder { blocks, latent })
    }

    /// Decodes latents (b, z, h/8, w/8), as the transformer computes them, to a picture (b, 3, h, w) in about -1..1.
    ///
    /// # Errors
    /// Faults of the device.
    pub fn forward(&self, latents: &Tensor) -> Result<Tensor, WorkerFault> {
        let z = ((latents / self.latent.scale_factor)? + self.latent.shift_factor)?;
        match &self.blocks {
            Blocks::Host(graph) => host::decode(graph, &z),
            Blocks::Tensors(graph) => graph.forward(&TensorBackend, &z),
        }
    }
}
