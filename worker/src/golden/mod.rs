//! Our parts beside the reference's: every case of a folder, every part, measured and held to its bar.
//!
//! A part is fed what the reference fed its own, so that an error is seen where it is made; only the
//! lines named `free` run from the first noise to the last byte on our own values.

pub mod case;
pub mod measure;

use crate::fault::Fault;
use crate::pipelines::flux::{Encoded, Flux};
use crate::pipelines::folder;
use crate::pixels;
use crate::sampling::{packing, sigmas};
use candle_core::{DType, Device, Tensor};
use case::{Case, Goldens, Meta};
use measure::{Bar, Distance};
use std::path::Path;

/// One part of one case.
#[derive(Debug, Clone)]
pub struct Line {
    /// `flux_base`.
    pub case: String,
    /// `pred.0`; of a batch `pred.0[1]`.
    pub part: String,
    /// Ours from the reference's.
    pub distance: Distance,
    /// What it may be.
    pub bar: Bar,
}

impl Line {
    /// Whether the part is within its bar.
    pub fn within(&self) -> bool {
        self.bar.holds(&self.distance)
    }
}

/// What was measured, and what could not be.
#[derive(Debug, Default)]
pub struct Report {
    /// Measured parts in order.
    pub lines: Vec<Line>,
    /// Cases of families that are not built yet; they count neither as passed nor as failed.
    pub not_built: Vec<String>,
}

/// Runs the chosen cases of a folder, all of them when none is named.
///
/// # Errors
/// Those of loading the model and of a case that does not exist or lacks a tensor.
pub fn run(
    folder: &Path,
    chosen: &[String],
    dtype: DType,
    hear: &mut dyn FnMut(&Line),
) -> Result<Report, Fault> {
    let meta = Meta::read(folder)?;
    let named = names(&meta, chosen, folder)?;
    let (built, not_built): (Vec<_>, Vec<_>) =
        named.into_iter().partition(|name| name.starts_with("flux"));
    let mut lines = Vec::new();
    if !built.is_empty() {
        let model = meta
            .model
            .as_ref()
            .map_or(folder.to_owned(), |model| folder.join(model));
        let flux = Flux::load(&folder::flux(&model)?, &Device::Cpu, dtype, &mut |_| {})?;
        let mut hand = |line: Line| {
            hear(&line);
            lines.push(line);
        };
        for name in &built {
            compare_case(folder, name, &meta.cases[name], &flux, dtype, &mut hand)?;
        }
    }
    Ok(Report { lines, not_built })
}

fn compare_case(
    folder: &Path,
    name: &str,
    case: &Case,
    flux: &Flux,
    dtype: DType,
    hand: Hand,
) -> Result<(), Fault> {
    let goldens = &Goldens::read(folder, name)?;
    (0..case.prompts.len()).try_for_each(|image| {
        Image {
            name,
            case,
            goldens,
            flux,
            image,
            dtype,
        }
        .compare(hand)
    })
}

fn names(meta: &Meta, chosen: &[String], folder: &Path) -> Result<Vec<String>, Fault> {
    if chosen.is_empty() {
        return Ok(meta.cases.keys().cloned().collect());
    }
    let known = |name: &String| {
        let name = name
            .trim_start_matches("golden_")
            .trim_end_matches(".safetensors")
            .to_owned();
        let file = folder.join("meta.json").display().to_string();
        let unknown = || Fault::configuration(file, &name, "is no case of this folder");
        meta.cases
            .contains_key(&name)
            .then(|| name.clone())
            .ok_or_else(unknown)
    };
    chosen.iter().map(known).collect()
}

/// One image of a case.
struct Image<'a> {
    name: &'a str,
    case: &'a Case,
    goldens: &'a Goldens,
    flux: &'a Flux,
    image: usize,
    dtype: DType,
}

type Hand<'h> = &'h mut dyn FnMut(Line);

impl Image<'_> {
    fn compare(&self, hand: Hand) -> Result<(), Fault> {
        self.tokens(hand)?;
        self.encoders(hand)?;
        self.steps(hand)?;
        self.free(hand)?;
        self.decoder(hand)
    }

    fn tokens(&self, hand: Hand) -> Result<(), Fault> {
        let prompt = &self.case.prompts[self.image];
        let ids = self.flux.ids(prompt, Some(self.case.t5_len))?;
        for (part, ours) in [("t5_ids", &ids.t5.ids), ("clip_ids", &ids.clip.ids)] {
            let golden = self.goldens.ids(part, self.image)?;
            let [ours, golden] = [ours, &golden].map(|ids| ids.iter().map(|id| f64::from(*id)));
            self.hand(hand, part, Distance::between(ours, golden), Bar::Equal);
        }
        Ok(())
    }

    fn encoders(&self, hand: Hand) -> Result<(), Fault> {
        let ids = |name| self.goldens.ids(name, self.image);
        let ours = self.flux.encode(&ids("t5_ids")?, &ids("clip_ids")?)?;
        self.tensor(hand, "t5_embeds", &ours.text, self.part())?;
        self.tensor(hand, "pooled", &ours.pooled, self.part())
    }

    /// Each step from the reference's latents, text and pooled state.
    fn steps(&self, hand: Hand) -> Result<(), Fault> {
        let by = Encoded {
            text: self.golden("t5_embeds")?,
            pooled: self.golden("pooled")?,
        };
        let (height, width) = (self.case.height as usize, self.case.width as usize);
        let by = self.flux.condition(&by, height, width)?;
        let levels = sigmas::even(self.case.steps);
        let [ours, golden] = [levels.clone(), self.goldens.shared("sigmas")?];
        let [ours, golden] = [&ours, &golden].map(|v| v.iter().map(|s| f64::from(*s)));
        self.hand(hand, "sigmas", Distance::between(ours, golden), Bar::Equal);
        let packed = packing::pack(&self.golden("latents_init")?)?;
        self.tensor(hand, "latents_packed", &packed, Bar::Equal)?;
        let mut before = self.golden("latents_packed")?;
        for (i, pair) in levels.windows(2).enumerate() {
            let velocity = self.flux.predict(&before, pair[0], &by)?;
            self.tensor(hand, &format!("pred.{i}"), &velocity, self.part())?;
            let after = sigmas::euler(&before, &velocity, pair[0], pair[1])?;
            let name = format!("latents.{i}");
            self.tensor(hand, &name, &after, self.part())?;
            before = self.golden(&name)?;
        }
        Ok(())
    }

    /// From the prompt and the first noise to the bytes, on our own values alone.
    fn free(&self, hand: Hand) -> Result<(), Fault> {
        let prompt = &self.case.prompts[self.image];
        let ids = self.flux.ids(prompt, Some(self.case.t5_len))?;
        let encoded = self.flux.encode(&ids.t5.ids, &ids.clip.ids)?;
        let (height, width) = (self.case.height as usize, self.case.width as usize);
        let by = self.flux.condition(&encoded, height, width)?;
        let start = self.golden("latents_init")?;
        let (_, _, rows, columns) = start.dims4()?;
        let mut tokens = packing::pack(&start)?;
        for (i, pair) in sigmas::even(self.case.steps).windows(2).enumerate() {
            let velocity = self.flux.predict(&tokens, pair[0], &by)?;
            tokens = sigmas::euler(&tokens, &velocity, pair[0], pair[1])?;
            self.tensor_as(
                hand,
                &format!("free.latents.{i}"),
                &format!("latents.{i}"),
                &tokens,
            )?;
        }
        let latents = packing::unpack(&tokens, rows, columns)?;
        self.tensor_as(hand, "free.latents_final", "latents_final", &latents)?;
        self.picture(hand, "free.image_u8", &self.flux.decode(&latents)?)
    }

    fn decoder(&self, hand: Hand) -> Result<(), Fault> {
        let picture = self.flux.decode(&self.golden("latents_final")?)?;
        self.tensor(hand, "vae_out", &picture, self.part())?;
        self.picture(hand, "image_u8", &picture)
    }

    fn part(&self) -> Bar {
        if self.dtype == DType::F32 {
            Bar::PART
        } else {
            Bar::HALF
        }
    }

    fn golden(&self, name: &str) -> Result<Tensor, Fault> {
        let (values, shape) = self.goldens.floats(name, self.image)?;
        Ok(Tensor::from_vec(values, shape, self.flux.device())?)
    }

    fn tensor_as(&self, hand: Hand, part: &str, name: &str, ours: &Tensor) -> Result<(), Fault> {
        let bar = if self.dtype == DType::F32 {
            Bar::FREE
        } else {
            Bar::HALF_FREE
        };
        self.hand(hand, part, self.distance(name, ours)?, bar);
        Ok(())
    }

    fn tensor(&self, hand: Hand, name: &str, ours: &Tensor, bar: Bar) -> Result<(), Fault> {
        self.hand(hand, name, self.distance(name, ours)?, bar);
        Ok(())
    }

    fn distance(&self, name: &str, ours: &Tensor) -> Result<Distance, Fault> {
        let (golden, _) = self.goldens.floats(name, self.image)?;
        let ours = ours.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let [ours, golden] = [&ours, &golden].map(|v| v.iter().map(|value| f64::from(*value)));
        Ok(Distance::between(ours, golden))
    }

    fn picture(&self, hand: Hand, part: &str, picture: &Tensor) -> Result<(), Fault> {
        let ours = pixels::bytes(picture)?;
        let golden = self.goldens.bytes("image_u8", self.image)?;
        let [ours, golden] = [&ours, golden].map(|v| v.iter().map(|byte| f64::from(*byte)));
        let bar = if self.dtype == DType::F32 {
            Bar::BYTES
        } else {
            Bar::HALF_FREE
        };
        self.hand(hand, part, Distance::between(ours, golden), bar);
        Ok(())
    }

    fn hand(&self, hand: Hand, part: &str, distance: Distance, bar: Bar) {
        let of_batch = self.case.prompts.len() > 1;
        let part = if of_batch {
            format!("{part}[{}]", self.image)
        } else {
            part.to_owned()
        };
        hand(Line {
            case: self.name.to_owned(),
            part,
            distance,
            bar,
        });
    }
}
