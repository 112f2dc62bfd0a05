//! The joint blocks of the MMDiT: two streams with joint attention.
//!
//! Source: Esser et al., arXiv:2403.03206, and `mmditx.py` in Stability-AI/sd3.5, which defines the tensor names.
//! The last block uses only queries, keys and values of the prompt's stream, normalised like all others.

use super::sizes::MmditSizes;
use crate::fault::WorkerFault;
use crate::pipelines::parts::activation::gelu_tanh;
use crate::pipelines::parts::heads::{Heads, QueryKeyNorm};
use crate::pipelines::parts::layers::{Linear, within_half};
use crate::pipelines::parts::modulation::{Modulation, gated, modulate_last, modulations};
use crate::pipelines::parts::norms::{LayerNorm, RmsNorm};
use crate::weights::Section;
use candle_core::Tensor;

const EPSILON: f32 = 1e-6;

/// The first half of a stream, up to the attention.
struct StreamEntry {
    modulation: Linear,
    norm: LayerNorm,
    qkv: Linear,
    heads_norm: QueryKeyNorm,
    heads: usize,
}

impl StreamEntry {
    /// Loads it with a modulation of `rows` rows.
    fn load(
        section: &Section,
        sizes: &MmditSizes,
        rows: usize,
    ) -> Result<StreamEntry, WorkerFault> {
        let width = sizes.hidden_size();
        let attention = section.at("attn");
        let norm = |name| RmsNorm::load(&attention.at(name), "weight", sizes.head_size);
        Ok(StreamEntry {
            modulation: Linear::load(&section.at("adaLN_modulation.1"), width, rows * width)?,
            norm: LayerNorm::plain(width, EPSILON, section.dtype(), section.device())?,
            qkv: Linear::load(&attention.at("qkv"), width, 3 * width)?,
            heads_norm: QueryKeyNorm {
                query: norm("ln_q")?,
                key: norm("ln_k")?,
            },
            heads: sizes.depth,
        })
    }

    /// Computes the heads of the normalised and modulated stream (b, s, hidden).
    fn heads(&self, modulated: &Tensor) -> Result<Heads, WorkerFault> {
        Heads::split(&self.qkv.forward(modulated)?, &self.heads_norm, self.heads)
    }
}

/// A stream that continues after the attention.
struct JointStream {
    entry: StreamEntry,
    proj: Linear,
    mlp: (Linear, Linear),
}

impl JointStream {
    fn load(section: &Section, sizes: &MmditSizes) -> Result<JointStream, WorkerFault> {
        let (width, mlp) = (sizes.hidden_size(), 4 * sizes.hidden_size());
        Ok(JointStream {
            entry: StreamEntry::load(section, sizes, 6)?,
            proj: Linear::load(&section.at("attn.proj"), width, width)?,
            mlp: (
                Linear::load(&section.at("mlp.fc1"), width, mlp)?,
                Linear::load(&section.at("mlp.fc2"), mlp, width)?,
            ),
        })
    }

    /// Computes the heads for the attention, and the modulations of the rest of the block.
    fn enter(&self, x: &Tensor, vector: &Tensor) -> Result<(Heads, Vec<Modulation>), WorkerFault> {
        let by = modulations(&self.entry.modulation, vector)?;
        let h = self.entry.norm.modulated(x, &by[0].shift, &by[0].scale)?;
        Ok((self.entry.heads(&h)?, by))
    }

    /// Adds the result of the attention, then that of the MLP.
    fn leave(&self, x: &Tensor, mixed: &Tensor, by: &[Modulation]) -> Result<Tensor, WorkerFault> {
        let x = gated(x, &by[0].gate, &self.proj.forward(mixed)?)?;
        let h = self.entry.norm.modulated(&x, &by[1].shift, &by[1].scale)?;
        let h = self.mlp.1.forward(&gelu_tanh(&self.mlp.0.forward(&h)?)?)?;
        within_half(gated(&x, &by[1].gate, &h)?)
    }
}

/// The prompt's stream in a block.
enum Prompt {
    /// It continues to the next block.
    Goes(JointStream),
    /// It ends in this block.
    Ends(StreamEntry),
}

/// A joint block.
pub(super) struct JointBlock {
    image: JointStream,
    prompt: Prompt,
}

impl JointBlock {
    /// Loads `joint_blocks.N`. In the `last` block, the prompt's stream ends.
    ///
    /// # Errors
    /// As [`Section::tensor`].
    pub(super) fn load(
        section: &Section,
        sizes: &MmditSizes,
        last: bool,
    ) -> Result<JointBlock, WorkerFault> {
        let context = section.at("context_block");
        Ok(JointBlock {
            image: JointStream::load(&section.at("x_block"), sizes)?,
            prompt: if last {
                Prompt::Ends(StreamEntry::load(&context, sizes, 2)?)
            } else {
                Prompt::Goes(JointStream::load(&context, sizes)?)
            },
        })
    }

    /// Computes (image, prompt) from (image, prompt, vector): (b, s_img, hidden), (b, s_txt, hidden), (b, hidden).
    /// The last block returns the prompt unchanged.
    ///
    /// # Errors
    /// Faults of the device.
    pub(super) fn forward(
        &self,
        (image, prompt): (&Tensor, &Tensor),
        vector: &Tensor,
    ) -> Result<(Tensor, Tensor), WorkerFault> {
        let (patches, words) = (image.dim(1)?, prompt.dim(1)?);
        let (image_heads, image_by) = self.image.enter(image, vector)?;
        let (prompt_heads, prompt_by) = match &self.prompt {
            Prompt::Goes(stream) => stream.enter(prompt, vector)?,
            Prompt::Ends(entry) => {
                let h = modulate_last(&entry.norm, prompt, &entry.modulation, vector)?;
                (entry.heads(&h)?, Vec::new())
            }
        };
        let mixed = Heads::joined(&image_heads, &prompt_heads)?.attend()?; // (b, s, hidden)
        let image = self
            .image
            .leave(image, &mixed.narrow(1, 0, patches)?, &image_by)?;
        let prompt = match &self.prompt {
            Prompt::Goes(stream) => {
                stream.leave(prompt, &mixed.narrow(1, patches, words)?, &prompt_by)?
            }
            Prompt::Ends(_) => prompt.clone(),
        };
        Ok((image, prompt))
    }

    /// The norms of the prompt's queries and keys, for a test that removes them.
    #[cfg(test)]
    pub(super) fn prompt_norm(&mut self) -> &mut QueryKeyNorm {
        match &mut self.prompt {
            Prompt::Goes(stream) => &mut stream.entry.heads_norm,
            Prompt::Ends(entry) => &mut entry.heads_norm,
        }
    }
}
