//! The parts of FLUX beside the reference's.

use super::measure::Bar;
use super::sheet::{Hand, Image, Sheet};
use crate::fault::Fault;
use crate::pipelines::Settings;
use crate::pipelines::encoders::Encoded;
use crate::pipelines::families::flux::Flux;
use crate::pipelines::families::flux::files::FluxFiles;
use crate::pipelines::families::flux::transformer::Conditioning;
use crate::sampling::{packing, sigmas};
use candle_core::Device;
use std::path::Path;

pub(super) fn load(model: &Path, settings: Settings) -> Result<Flux, Fault> {
    Flux::load(FluxFiles::open(model)?, &Device::Cpu, settings, &mut |_| {})
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
pub(super) fn measure(case: &Sheet, ours: &Flux, hand: Hand) -> Result<(), Fault> {
    let images = case.images()?.into_iter();
    images
        .map(|image| FluxImage { image, ours })
        .try_for_each(|part| part.compare(hand))
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
        image.decoded(hand, &picture)
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
        let sizes = self.ours.sizes();
        image.encoded(hand, "t5_embeds", &ours.text, sizes.t5.num_layers)?;
        image.encoded(hand, "pooled", &ours.pooled, sizes.clip.num_hidden_layers)
    }

    fn condition(&self, by: &Encoded) -> Result<Conditioning, Fault> {
        let case = self.image.sheet.case;
        let (height, width) = (case.height as usize, case.width as usize);
        self.ours.condition(by, height, width)
    }

    /// Returns the bar of a velocity.
    fn part(&self) -> Bar {
        let sizes = &self.ours.sizes().transformer;
        let blocks = sizes.depth + sizes.depth_single_blocks;
        self.image.part(Bar::HALF_VELOCITY, blocks)
    }

    /// Each step from the reference's latents, text and pooled state.
    fn steps(&self, hand: Hand) -> Result<(), Fault> {
        let image = &self.image;
        let by = self.condition(&Encoded {
            text: image.golden("t5_embeds")?,
            pooled: image.golden("pooled")?,
        })?;
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
            image.tensor(hand, (&pred, &pred), &velocity, self.part())?;
            let after = sigmas::euler(&before, &velocity, pair[0], pair[1])?;
            image.tensor(hand, (&latents, &latents), &after, self.part())?;
            let step = sigmas::euler(&before, &image.golden(&pred)?, pair[0], pair[1])?;
            image.tensor(hand, (&format!("step.{i}"), &latents), &step, Bar::PART)?;
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
        let by = self.condition(&self.ours.encode(&ids.t5.ids, &ids.clip.ids)?)?;
        let start = image.golden("latents_init")?;
        let (_, _, rows, columns) = start.dims4()?;
        let mut tokens = packing::pack(&start)?;
        for (i, pair) in sigmas::even(image.sheet.case.steps).windows(2).enumerate() {
            let velocity = self.ours.predict(&tokens, pair[0], &by)?;
            image.beside(hand, &format!("pred.{i}"), &velocity, image.index)?;
            tokens = sigmas::euler(&tokens, &velocity, pair[0], pair[1])?;
            let name = format!("latents.{i}");
            image.tensor(
                hand,
                (&format!("free.{name}"), &name),
                &tokens,
                image.free(),
            )?;
            image.beside(hand, &name, &tokens, image.index)?;
        }
        let latents = packing::unpack(&tokens, rows, columns)?;
        let names = ("free.latents_final", "latents_final");
        image.tensor(hand, names, &latents, image.free())?;
        image.free_picture(hand, &self.ours.decode(&latents)?)
    }
}
