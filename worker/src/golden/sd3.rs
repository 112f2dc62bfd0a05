//! The parts of Stable Diffusion 3.5 beside the reference's.

use super::sheet::{Hand, Image, Sheet};
use crate::fault::Fault;
use crate::pipelines::Settings;
use crate::pipelines::encoders::Encoded;
use crate::pipelines::sd3::encoders::Sd3Encoders;
use crate::pipelines::sd3::files::Sd3Files;
use crate::pipelines::sd3::{Guided, Sd3};
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
    // A reference in half precision is judged by f32 on its own inputs.
    let wide = first.half().map(|_| load(model, Settings::default()));
    let wide = wide.transpose()?;
    for case in cases {
        measure(case, &ours, wide.as_ref(), hand)?;
    }
    Ok(())
}

/// Measures one case of a loaded model.
pub(super) fn measure(
    case: &Sheet,
    ours: &Sd3,
    wide: Option<&Sd3>,
    hand: Hand,
) -> Result<(), Fault> {
    for image in case.images()? {
        let part = Sd3Image { image, ours };
        part.compare(hand)?;
        if let Some(wide) = wide.filter(|_| case.case.cfg.is_none()) {
            part.beside(wide, hand)?;
        }
    }
    Ok(())
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
        image.tensor(hand, ("vae_out", "vae_out"), &picture, image.part())?;
        image.picture(hand, "image_u8", &picture)
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
        for (name, states) in [("clip_l", l), ("clip_g", g)] {
            image.encoded(hand, &format!("{name}.penultimate"), &states.penultimate)?;
            image.encoded(hand, &format!("{name}.pooled"), &states.pooled)?;
            image.encoded(hand, &format!("{name}.last"), &states.last)?;
        }
        image.encoded(hand, "t5_embeds", &held.t5(&ids("t5_ids")?)?)?;
        let whole = self.encode(image.prompt())?;
        image.encoded(hand, "context", &whole.text)?;
        image.encoded(hand, "pooled", &whole.pooled)?;
        if let Some(negative) = self.negative() {
            let whole = self.encode(negative)?;
            image.encoded(hand, "context_neg", &whole.text)?;
            image.encoded(hand, "pooled_neg", &whole.pooled)?;
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
            image.tensor(hand, (&latents, &latents), &after, image.part())?;
            before = image.golden(&latents)?;
        }
        Ok(())
    }

    /// One line for each of the evaluations.
    fn velocities(&self, hand: Hand, name: &str, ours: &Tensor) -> Result<(), Fault> {
        let image = &self.image;
        let prompts = image.sheet.case.prompts.len();
        for (row, velocity) in ours.chunk(ours.dim(0)?, 0)?.iter().enumerate() {
            let golden = image.golden_at(name, row * prompts + image.index)?;
            let part = if row == 0 {
                name.to_owned()
            } else {
                format!("{name}.prompted")
            };
            image.line(hand, &part, velocity, &golden)?;
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
            let velocity = self.ours.guide(&velocities, &by)?;
            latents = sigmas::euler(&latents, &velocity, pair[0], pair[1])?;
            let name = format!("latents.{i}");
            image.tensor(
                hand,
                (&format!("free.{name}"), &name),
                &latents,
                image.free(),
            )?;
        }
        let names = ("free.latents_final", "latents_final");
        image.tensor(hand, names, &latents, image.free())?;
        image.picture(hand, "free.image_u8", &self.ours.decode(&latents)?)
    }

    /// Each step of a reference in half precision, on that reference's inputs: ours and its own from f32.
    fn beside(&self, wide: &Sd3, hand: Hand) -> Result<(), Fault> {
        let image = &self.image;
        let need = |name: &str| -> Result<Tensor, Fault> {
            let absent = || Fault::Compute(format!("{name} in half precision"));
            image.half(name)?.ok_or_else(absent)
        };
        let by = Encoded {
            text: need("context")?,
            pooled: need("pooled")?,
        };
        let (our_by, wide_by) = (self.ours.condition(&by, None)?, wide.condition(&by, None)?);
        let dtype = image.sheet.settings().dtype; // the reference rounded its noise to it
        let start = need("latents_init")?;
        let mut before = start.to_dtype(dtype)?.to_dtype(start.dtype())?;
        for (i, sigma) in sigmas::shifted_twice(image.sheet.case.steps)
            .iter()
            .enumerate()
        {
            let name = format!("pred.{i}");
            if *sigma == 0.0 {
                break;
            }
            let truth = wide.predict(&before, *sigma, &wide_by)?;
            let ours = self.ours.predict(&before, *sigma, &our_by)?;
            image.beside(hand, &name, (&ours, &need(&name)?), &truth)?;
            before = need(&format!("latents.{i}"))?;
        }
        Ok(())
    }
}
