//! The trait of a family with a transformer, T5 and CLIPs: the parts that families do not share.

use crate::fault::WorkerFault;
use crate::pipelines::encoders::Encoded;
use crate::pipelines::folder::configuration::Described;
use crate::pipelines::folder::search::{FolderLayout, Shapes};
use crate::pipelines::parts::sizes::{ModelSizes, TransformerSizes};
use crate::pipelines::pipeline::JobParameters;
use crate::pipelines::text::{EncoderIds, TextEncoders};
use crate::weights::Section;
use candle_core::Tensor;
use ipc_protocol::about::GuidanceRange;

/// The limits of a model's sizes and steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrawingLimits {
    /// Default side of the picture, in pixels.
    pub default_side: u32,
    /// Shortest side, in pixels.
    pub min_side: u32,
    /// Longest side, in pixels.
    pub max_side: u32,
    /// Largest number of steps.
    pub max_steps: u32,
}

/// The tensor names and shapes in the reference's recordings of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordNames {
    /// Name of the states of all tokens, the input of the transformer.
    pub text: &'static str,
    /// Name of the ids for CLIP-L.
    pub clip_l_ids: &'static str,
    /// True if latents and velocities are sequences of tokens.
    pub is_packed: bool,
}

/// A family of models with a transformer over latents, text encoders and a decoder.
pub trait Architecture: Sized + Send + Sync + 'static {
    /// The sizes of the transformer.
    type Sizes: TransformerSizes;
    /// The transformer.
    type Transformer: Send;
    /// The inputs that are the same in all steps of a job.
    type Conditioning;

    /// The names of its files.
    const LAYOUT: &'static FolderLayout;
    /// The supported guidance, if any.
    const GUIDANCE: Option<GuidanceRange>;
    /// The choice of noise levels, for receipts.
    const SAMPLER: &'static str;
    /// The arrangement of the reference's recordings.
    const RECORD: RecordNames;

    /// The description of the published model.
    fn published() -> Described<Self::Sizes>;

    /// A few shapes that tell this transformer from others.
    fn shapes(sizes: &Self::Sizes) -> Shapes;

    /// Number of blocks of the transformer.
    fn blocks(sizes: &Self::Sizes) -> usize;

    /// The limits of a model.
    fn limits(described: &Described<Self::Sizes>) -> DrawingLimits;

    /// The memory of a token in the widest block.
    fn token_cost(sizes: &ModelSizes<Self::Sizes>) -> TokenCost;

    /// Loads the transformer.
    ///
    /// # Errors
    /// As [`Section::tensor`].
    fn load(
        section: &Section,
        sizes: &ModelSizes<Self::Sizes>,
    ) -> Result<Self::Transformer, WorkerFault>;

    /// Runs the text encoders and joins their states.
    ///
    /// # Errors
    /// [`WorkerFault::NotFinite`] if an encoder overflows; faults of the device.
    fn encode(encoders: &TextEncoders, ids: EncoderIds) -> Result<Encoded, WorkerFault>;

    /// Refuses unsupported guidance and negative prompts.
    ///
    /// # Errors
    /// [`WorkerFault::BadRequest`] with the field.
    fn check(job: &JobParameters) -> Result<(), WorkerFault>;

    /// Prepares the conditioning for latents of `plane` rows and columns. `away` is the negative prompt with the
    /// guidance; if the guidance is above 1, a step evaluates a batch of two.
    ///
    /// # Errors
    /// Faults of the device.
    fn condition(
        transformer: &Self::Transformer,
        prompt: &Encoded,
        away: Option<(&Encoded, f32)>,
        plane: (usize, usize),
    ) -> Result<Self::Conditioning, WorkerFault>;

    /// Predicts the velocities of latents (1, c, h, w) at noise level `sigma`: f32 (n, c, h, w). In a batch of
    /// two, the one without the prompt is first.
    ///
    /// # Errors
    /// Faults of the device.
    fn velocities(
        transformer: &Self::Transformer,
        latents: &Tensor,
        sigma: f32,
        by: &Self::Conditioning,
    ) -> Result<Tensor, WorkerFault>;

    /// Number of velocities that a step evaluates.
    fn evaluations(_: &Self::Conditioning) -> usize {
        1
    }

    /// Combines the velocities of [`Architecture::velocities`] to one.
    ///
    /// # Errors
    /// Faults of the device.
    fn guide(velocities: &Tensor, _: &Self::Conditioning) -> Result<Tensor, WorkerFault> {
        Ok(velocities.clone())
    }

    /// The noise levels of `steps` steps; the last one is 0.
    fn sigmas(steps: u32) -> Vec<f32>;
}

/// The memory of tokens in a transformer's widest block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenCost {
    /// Bytes per token.
    pub bytes: f64,
    /// Bytes per pair of tokens.
    pub scores: f64,
    /// Number of text tokens.
    pub text: f64,
}
