//! The parts of Stable Diffusion 3.5 beside the reference's.

use super::measure::Bar;
use super::sheet::{Hand, Image, Sheet};
use crate::fault::Fault;
use crate::pipelines::Settings;
use crate::pipelines::encoders::Encoded;
use crate::pipelines::families::sd3::encoders::Sd3Encoders;
use crate::pipelines::families::sd3::files::Sd3Files;
use crate::pipelines::families::sd3::{Guided, Sd3};
use crate::sampling::sigmas;
use candle_core::{Device, Tensor};
use std::path::Path;

pub(super) fn load(model: &Path, settings: Settings) -> Result<Sd3, Fault> {
    Sd3::load(Sd3Files::open(model)?, &Device::Cpu, settings, &mut |_| {})
}

/// Measures all cases of this family.
pub(super) fn compare(model: &Path, cases: &[Sheet], hand: Hand) -> Result<(), Fault> {
    let Some(first) = cases.first() else {
        return Ok(());
    };
    let ours = load(model, first.settings())?;
    cases.iter().try_for_each(|case| measure(case, &ours, hand))
}

/// Measures one case of a loaded model.
pub(super) fn measure(case: &Sheet, ours: &Sd3, hand: Hand) -> Result<(), Fault> {
    let images = case.images()?.into_iter();
    images
        .map(|image| Sd3Image { image, ours })
        .try_for_each(|part| part.compare(hand))
}

struct Sd3Image<'a> {
    image: Image<'a>,
    ours: &'a Sd3,
}

impl Sd3Image<'_> {
    fn compare(&self, hand: Hand) -> Result<(), Fault> {
        self.encoders(hand)?;
        self.steps(hand)?;
        self.free(hand)?;
        let image = &self.image;
        let picture = self.ours.decode(&image.golden("latents_final")?)?;
        image.decoded(hand, &picture)
    }

    fn held(&self) -> Result<&Sd3Encoders, Fault> {
        self.ours.encoders().held()
    }

    fn encode(&self, prompt: &str) -> Result<Encoded, Fault> {
        let length = Some(self.image.sheet.case.t5_len);
        self.held()?
            .encode(&self.ours.tokens().ids(prompt, length)?)
    }

    /// The prompt to lead away from, where the case has one.
    fn negative(&self) -> Option<&str> {
        let negative = self.image.sheet.case.negative.as_ref()?;
        negative.get(self.image.index).map(String::as_str)
    }

    fn encoders(&self, hand: Hand) -> Result<(), Fault> {
        let image = &self.image;
        let length = Some(image.sheet.case.t5_len);
        let ids = self.ours.tokens().ids(image.prompt(), length)?;
        image.ids(hand, "t5_ids", &ids.t5.ids)?;
        image.ids(hand, "clip_l_ids", &ids.clip_l.ids)?;
        image.ids(hand, "clip_g_ids", &ids.clip_g.ids)?;
        let (held, ids) = (self.held()?, |name| image.goldens.ids(name, image.index));
        let (l, g) = (
            held.clip_l(&ids("clip_l_ids")?)?,
            held.clip_g(&ids("clip_g_ids")?)?,
        );
        let sizes = self.ours.sizes();
        let layers = [&sizes.clip_l, &sizes.clip_g].map(|clip| clip.num_hidden_layers);
        let clips = [("clip_l", l), ("clip_g", g)].into_iter().zip(layers);
        for ((name, states), blocks) in clips {
            let part = |part: &str| format!("{name}.{part}");
            image.encoded(hand, &part("penultimate"), &states.penultimate, blocks)?;
            image.encoded(hand, &part("pooled"), &states.pooled, blocks)?;
            image.encoded(hand, &part("last"), &states.last, blocks)?;
        }
        let deepest = layers[0].max(layers[1]);
        let (t5, layers) = (held.t5(&ids("t5_ids")?)?, sizes.t5.num_layers);
        image.encoded(hand, "t5_embeds", &t5, layers)?;
        let whole = self.encode(image.prompt())?;
        let all = layers.max(deepest);
        image.encoded(hand, "context", &whole.text, all)?;
        image.encoded(hand, "pooled", &whole.pooled, deepest)?;
        if let Some(negative) = self.negative() {
            let whole = self.encode(negative)?;
            image.encoded(hand, "context_neg", &whole.text, all)?;
            image.encoded(hand, "pooled_neg", &whole.pooled, deepest)?;
        }
        Ok(())
    }

    /// Conditions a model by a prompt and the case's guidance.
    fn guided(&self, prompt: &Encoded, negative: Option<&Encoded>) -> Result<Guided, Fault> {
        let guidance = self.image.sheet.case.cfg.unwrap_or_default() as f32;
        self.ours.condition(prompt, negative.map(|n| (n, guidance)))
    }

    /// Each step from the reference's latents and prompt.
    fn steps(&self, hand: Hand) -> Result<(), Fault> {
        let image = &self.image;
        let read = |text: &str, pooled: &str| -> Result<Encoded, Fault> {
            let (text, pooled) = (image.golden(text)?, image.golden(pooled)?);
            Ok(Encoded { text, pooled })
        };
        let negative = self.negative().map(|_| read("context_neg", "pooled_neg"));
        let negative = negative.transpose()?;
        let by = self.guided(&read("context", "pooled")?, negative.as_ref())?;
        let levels = sigmas::shifted_twice(image.sheet.case.steps);
        image.levels(hand, &levels)?;
        let mut before = image.golden("latents_init")?;
        for (i, pair) in levels.windows(2).enumerate() {
            let velocities = self.ours.predict(&before, pair[0], &by)?;
            let (pred, latents) = (format!("pred.{i}"), format!("latents.{i}"));
            self.velocities(hand, &pred, &velocities)?;
            let velocity = self.ours.guide(&velocities, &by)?;
            let after = sigmas::euler(&before, &velocity, pair[0], pair[1])?;
            let bar = self.part().times(image.stretch());
            image.tensor(hand, (&latents, &latents), &after, bar)?;
            let step = self.ours.guide(&self.golden_velocities(&pred, &by)?, &by)?;
            let step = sigmas::euler(&before, &step, pair[0], pair[1])?;
            image.tensor(hand, (&format!("step.{i}"), &latents), &step, Bar::PART)?;
            before = image.golden(&latents)?;
        }
        Ok(())
    }

    /// Returns the bar of a velocity.
    fn part(&self) -> Bar {
        let blocks = self.ours.sizes().transformer.depth;
        self.image.part(Bar::HALF_VELOCITY, blocks)
    }

    /// The row of the golden's batch of an evaluation: 0 for the only or negative one, 1 for the prompted.
    fn row(&self, evaluation: usize) -> usize {
        evaluation * self.image.sheet.case.prompts.len() + self.image.index
    }

    /// The reference's velocities of all evaluations.
    fn golden_velocities(&self, name: &str, by: &Guided) -> Result<Tensor, Fault> {
        let rows = (0..by.evaluations()).map(|nth| self.image.golden_at(name, self.row(nth)));
        Ok(Tensor::cat(&rows.collect::<Result<Vec<_>, _>>()?, 0)?)
    }

    /// One line for each of the evaluations.
    fn velocities(&self, hand: Hand, name: &str, ours: &Tensor) -> Result<(), Fault> {
        let image = &self.image;
        for (nth, velocity) in ours.chunk(ours.dim(0)?, 0)?.iter().enumerate() {
            let part = if nth == 0 {
                name.to_owned()
            } else {
                format!("{name}.prompted")
            };
            image.row(hand, (&part, name), (velocity, self.row(nth)), self.part())?;
        }
        Ok(())
    }

    /// From the prompt and the first noise to the bytes, on our own values alone.
    fn free(&self, hand: Hand) -> Result<(), Fault> {
        let image = &self.image;
        let negative = self
            .negative()
            .map(|prompt| self.encode(prompt))
            .transpose()?;
        let by = self.guided(&self.encode(image.prompt())?, negative.as_ref())?;
        let mut latents = image.golden("latents_init")?;
        let levels = sigmas::shifted_twice(image.sheet.case.steps);
        for (i, pair) in levels.windows(2).enumerate() {
            let velocities = self.ours.predict(&latents, pair[0], &by)?;
            for (nth, velocity) in velocities.chunk(velocities.dim(0)?, 0)?.iter().enumerate() {
                image.beside(hand, &format!("pred.{i}"), velocity, self.row(nth))?;
            }
            let velocity = self.ours.guide(&velocities, &by)?;
            latents = sigmas::euler(&latents, &velocity, pair[0], pair[1])?;
            let name = format!("latents.{i}");
            image.tensor(
                hand,
                (&format!("free.{name}"), &name),
                &latents,
                image.free(),
            )?;
            image.beside(hand, &name, &latents, image.index)?;
        }
        let names = ("free.latents_final", "latents_final");
        image.tensor(hand, names, &latents, image.free())?;
        image.free_picture(hand, &self.ours.decode(&latents)?)
    }
}
