//! What a family with a transformer, T5 and CLIPs adds to the shared pipeline.

use crate::fault::WorkerFault;
use crate::pipelines::encoders::Encoded;
use crate::pipelines::folder::configuration::{Described, TransformerSizes};
use crate::pipelines::folder::search::{FolderLayout, Shapes};
use crate::pipelines::need::TokenCost;
use crate::pipelines::parts::sizes::ModelSizes;
use crate::pipelines::pipeline::JobParameters;
use crate::pipelines::text::{EncoderIds, TextEncoders};
use crate::weights::Section;
use candle_core::Tensor;
use ipc_protocol::about::GuidanceRange;

/// Sizes and steps that a model draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrawingLimits {
    /// Side of the picture where a request names no size, in pixels.
    pub default_side: u32,
    /// Shortest side.
    pub min_side: u32,
    /// Longest side.
    pub max_side: u32,
    /// Most steps.
    pub max_steps: u32,
}

/// How the reference's recordings of a family name and arrange what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordNames {
    /// The states of all tokens that the transformer is given.
    pub text: &'static str,
    /// The ids for CLIP-L.
    pub clip_l_ids: &'static str,
    /// Whether latents and velocities are rows of tokens.
    pub is_packed: bool,
}

/// A family whose models are a transformer over latents, text encoders and a decoder.
pub trait Architecture: Sized + Send + Sync + 'static {
    /// Sizes of the transformer.
    type Sizes: TransformerSizes;
    /// The transformer.
    type Transformer: Send;
    /// What stays the same over the steps of a job.
    type Conditioning;

    /// How it names its files.
    const LAYOUT: &'static FolderLayout;
    /// Guidance that it can follow, where it was trained with any.
    const GUIDANCE: Option<GuidanceRange>;
    /// How its noise levels are chosen, for receipts.
    const SAMPLER: &'static str;
    /// How recordings of it are arranged.
    const RECORD: RecordNames;

    /// The published model.
    fn published() -> Described<Self::Sizes>;

    /// A few shapes by which a file is told to hold this transformer and not another one's.
    fn shapes(sizes: &Self::Sizes) -> Shapes;

    /// Blocks of the transformer.
    fn blocks(sizes: &Self::Sizes) -> usize;

    /// What a model draws.
    fn limits(described: &Described<Self::Sizes>) -> DrawingLimits;

    /// What a token takes in the widest block.
    fn token_cost(sizes: &ModelSizes<Self::Sizes>) -> TokenCost;

    /// Loads the transformer.
    ///
    /// # Errors
    /// As [`Section::tensor`].
    fn load(
        section: &Section,
        sizes: &ModelSizes<Self::Sizes>,
    ) -> Result<Self::Transformer, WorkerFault>;

    /// Runs the encoders and joins their states.
    ///
    /// # Errors
    /// [`WorkerFault::NotFinite`] when one overflows; the device's faults.
    fn encode(encoders: &TextEncoders, ids: EncoderIds) -> Result<Encoded, WorkerFault>;

    /// Refuses guidance and negative prompts that the family cannot follow.
    ///
    /// # Errors
    /// [`WorkerFault::BadRequest`] naming the field.
    fn check(job: &JobParameters) -> Result<(), WorkerFault>;

    /// Prepares the transformer for latents of `plane` rows and columns; with a prompt to lead `away` from and a
    /// guidance above 1 it evaluates a batch of two.
    ///
    /// # Errors
    /// The device's faults.
    fn condition(
        transformer: &Self::Transformer,
        prompt: &Encoded,
        away: Option<(&Encoded, f32)>,
        plane: (usize, usize),
    ) -> Result<Self::Conditioning, WorkerFault>;

    /// Velocities of latents (1, c, h, w) at noise level `sigma`: f32 (n, c, h, w); of a batch of two the one
    /// without the prompt first.
    ///
    /// # Errors
    /// The device's faults.
    fn velocities(
        transformer: &Self::Transformer,
        latents: &Tensor,
        sigma: f32,
        by: &Self::Conditioning,
    ) -> Result<Tensor, WorkerFault>;

    /// Velocities that a step evaluates.
    fn evaluations(_: &Self::Conditioning) -> usize {
        1
    }

    /// One velocity of those that [`Architecture::velocities`] gives.
    ///
    /// # Errors
    /// The device's faults.
    fn guide(velocities: &Tensor, _: &Self::Conditioning) -> Result<Tensor, WorkerFault> {
        Ok(velocities.clone())
    }

    /// Noise levels of `steps` steps, the last one 0.
    fn sigmas(steps: u32) -> Vec<f32>;
}
