//! The parts of FLUX beside the reference's.

use super::measure::Bar;
use super::sheet::{Hand, Image, Sheet};
use crate::fault::Fault;
use crate::pipelines::encoders::Encoded;
use crate::pipelines::flux::Flux;
use crate::pipelines::flux::transformer::Conditioning;
use crate::pipelines::{Settings, folder};
use crate::sampling::{packing, sigmas};
use candle_core::Device;
use std::path::Path;

fn load(model: &Path, settings: Settings) -> Result<Flux, Fault> {
    Flux::load(folder::flux(model)?, &Device::Cpu, settings, &mut |_| {})
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
        for image in case.images()? {
            let part = FluxImage { image, ours: &ours };
            part.compare(hand)?;
            if let Some(wide) = &wide {
                part.beside(wide, hand)?;
            }
        }
    }
    Ok(())
}

struct FluxImage<'a> {
    image: Image<'a>,
    ours: &'a Flux,
}

impl FluxImage<'_> {
    fn compare(&self, hand: Hand) -> Result<(), Fault> {
        self.encoders(hand)?;
        self.steps(hand)?;
        self.free(hand)?;
        let image = &self.image;
        let picture = self.ours.decode(&image.golden("latents_final")?)?;
        image.tensor(hand, ("vae_out", "vae_out"), &picture, image.part())?;
        image.picture(hand, "image_u8", &picture)
    }

    fn encoders(&self, hand: Hand) -> Result<(), Fault> {
        let image = &self.image;
        let ids = self
            .ours
            .ids(image.prompt(), Some(image.sheet.case.t5_len))?;
        image.ids(hand, "t5_ids", &ids.t5.ids)?;
        image.ids(hand, "clip_ids", &ids.clip.ids)?;
        let ids = |name| image.goldens.ids(name, image.index);
        let ours = self.ours.encode(&ids("t5_ids")?, &ids("clip_ids")?)?;
        image.encoded(hand, "t5_embeds", &ours.text)?;
        image.encoded(hand, "pooled", &ours.pooled)
    }

    fn condition(&self, model: &Flux, by: &Encoded) -> Result<Conditioning, Fault> {
        let case = self.image.sheet.case;
        model.condition(by, case.height as usize, case.width as usize)
    }

    /// Each step from the reference's latents, text and pooled state.
    fn steps(&self, hand: Hand) -> Result<(), Fault> {
        let image = &self.image;
        let by = self.condition(
            self.ours,
            &Encoded {
                text: image.golden("t5_embeds")?,
                pooled: image.golden("pooled")?,
            },
        )?;
        let levels = sigmas::even(image.sheet.case.steps);
        image.levels(hand, &levels)?;
        let packed = packing::pack(&image.golden("latents_init")?)?;
        image.tensor(
            hand,
            ("latents_packed", "latents_packed"),
            &packed,
            Bar::Equal,
        )?;
        let mut before = image.golden("latents_packed")?;
        for (i, pair) in levels.windows(2).enumerate() {
            let velocity = self.ours.predict(&before, pair[0], &by)?;
            let (pred, latents) = (format!("pred.{i}"), format!("latents.{i}"));
            image.tensor(hand, (&pred, &pred), &velocity, image.part())?;
            let after = sigmas::euler(&before, &velocity, pair[0], pair[1])?;
            image.tensor(hand, (&latents, &latents), &after, image.part())?;
            before = image.golden(&latents)?;
        }
        Ok(())
    }

    /// From the prompt and the first noise to the bytes, on our own values alone.
    fn free(&self, hand: Hand) -> Result<(), Fault> {
        let image = &self.image;
        let ids = self
            .ours
            .ids(image.prompt(), Some(image.sheet.case.t5_len))?;
        let by = self.condition(self.ours, &self.ours.encode(&ids.t5.ids, &ids.clip.ids)?)?;
        let start = image.golden("latents_init")?;
        let (_, _, rows, columns) = start.dims4()?;
        let mut tokens = packing::pack(&start)?;
        for (i, pair) in sigmas::even(image.sheet.case.steps).windows(2).enumerate() {
            let velocity = self.ours.predict(&tokens, pair[0], &by)?;
            tokens = sigmas::euler(&tokens, &velocity, pair[0], pair[1])?;
            let name = format!("latents.{i}");
            image.tensor(
                hand,
                (&format!("free.{name}"), &name),
                &tokens,
                image.free(),
            )?;
        }
        let latents = packing::unpack(&tokens, rows, columns)?;
        let names = ("free.latents_final", "latents_final");
        image.tensor(hand, names, &latents, image.free())?;
        image.picture(hand, "free.image_u8", &self.ours.decode(&latents)?)
    }

    /// Each step of a reference in half precision, on that reference's inputs: ours and its own from f32.
    fn beside(&self, wide: &Flux, hand: Hand) -> Result<(), Fault> {
        let image = &self.image;
        let need = |name: &str| -> Result<_, Fault> {
            let absent = || Fault::Compute(format!("{name} in half precision"));
            image.half(name)?.ok_or_else(absent)
        };
        let by = Encoded {
            text: need("t5_embeds")?,
            pooled: need("pooled")?,
        };
        let (our_by, wide_by) = (self.condition(self.ours, &by)?, self.condition(wide, &by)?);
        let mut before = need("latents_packed")?;
        for (i, sigma) in sigmas::even(image.sheet.case.steps).iter().enumerate() {
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
