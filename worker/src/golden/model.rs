//! Compares the parts of one model with the reference's, for any architecture.

use super::measure::Tolerance;
use super::measured_case::{LineSink, MeasuredCase, MeasuredImage};
use crate::fault::WorkerFault;
use crate::pipelines::ComputeSettings;
use crate::pipelines::architecture::Architecture;
use crate::pipelines::encoders::Encoded;
use crate::pipelines::families;
use crate::pipelines::model::LoadedModel;
use crate::pipelines::text::PromptIds;
use crate::sampling::{packing, sigmas};
use candle_core::{Device, Tensor};
use ipc_protocol::family::Family;
use ipc_protocol::units::PictureSize;
use std::path::Path;

/// Measures all cases of a family.
pub(super) type Compare = fn(&Path, &[MeasuredCase], LineSink) -> Result<(), WorkerFault>;

/// An architecture with the function that measures it.
pub(super) fn of<A: Architecture>() -> (Family, Compare) {
    (A::LAYOUT.family, compare::<A>)
}

pub(super) fn load<A: Architecture>(
    model: &Path,
    settings: ComputeSettings,
    device: &Device,
) -> Result<LoadedModel<A>, WorkerFault> {
    let files = families::files::<A>(model)?;
    LoadedModel::load(files, device, settings, &mut |_| {})
}

fn compare<A: Architecture>(
    model: &Path,
    cases: &[MeasuredCase],
    sink: LineSink,
) -> Result<(), WorkerFault> {
    let Some(first) = cases.first() else {
        return Ok(());
    };
    let ours = load::<A>(model, first.settings(), first.device())?;
    cases.iter().try_for_each(|case| measure(case, &ours, sink))
}

/// Measures one case of a loaded model.
pub(super) fn measure<A: Architecture>(
    case: &MeasuredCase,
    ours: &LoadedModel<A>,
    sink: LineSink,
) -> Result<(), WorkerFault> {
    let images = case.images()?.into_iter();
    images
        .map(|image| ModelImage { image, ours })
        .try_for_each(|part| part.compare(sink))
}

struct ModelImage<'a, A: Architecture> {
    image: MeasuredImage<'a>,
    ours: &'a LoadedModel<A>,
}

impl<A: Architecture> ModelImage<'_, A> {
    fn compare(&self, sink: LineSink) -> Result<(), WorkerFault> {
        self.encoders(sink)?;
        self.steps(sink)?;
        self.free(sink)?;
        let image = &self.image;
        let picture = self.ours.decode(&image.golden("latents_final")?)?;
        image.decoded(sink, &picture)
    }

    fn ids(&self, prompt: &str) -> Result<PromptIds, WorkerFault> {
        let length = Some(self.image.measured.case.t5_len);
        self.ours.tokenizers().ids(prompt, length)
    }

    fn encode(&self, prompt: &str) -> Result<Encoded, WorkerFault> {
        self.ours.encode(self.ids(prompt)?.for_encoders())
    }

    /// The negative prompt, if the case has one.
    fn negative(&self) -> Option<&str> {
        let negative = self.image.measured.case.negative.as_ref()?;
        negative.get(self.image.index).map(String::as_str)
    }

    fn encoders(&self, sink: LineSink) -> Result<(), WorkerFault> {
        let (image, sizes) = (&self.image, &self.ours.sizes().encoders);
        let ids = self.ids(image.prompt())?;
        image.ids(sink, "t5_ids", &ids.t5.ids)?;
        image.ids(sink, A::RECORD.clip_l_ids, &ids.clip_l.ids)?;
        let mut deepest = sizes.clip_l.num_hidden_layers;
        let t5_layers = sizes.t5.num_layers;
        let mut all = t5_layers;
        if let (Some(clip_g), Some(ids)) = (&sizes.clip_g, &ids.clip_g) {
            image.ids(sink, "clip_g_ids", &ids.ids)?;
            deepest = deepest.max(clip_g.num_hidden_layers);
            all = all.max(deepest);
            self.states(sink, t5_layers)?;
        }
        let prompts = [("", Some(image.prompt())), ("_neg", self.negative())];
        for (end, prompt) in prompts {
            let Some(prompt) = prompt else { continue };
            let whole = self.encode(prompt)?;
            let text = format!("{}{end}", A::RECORD.text);
            image.encoded(sink, &text, &whole.text, all)?;
            image.encoded(sink, &format!("pooled{end}"), &whole.pooled, deepest)?;
        }
        Ok(())
    }

    /// Measures the states of each encoder with the reference's ids, if they are recorded separately.
    fn states(&self, sink: LineSink, t5_layers: usize) -> Result<(), WorkerFault> {
        let image = &self.image;
        let (held, sizes) = (self.ours.encoders().held()?, &self.ours.sizes().encoders);
        let ids = |name| image.goldens.ids(name, image.index);
        let l = held.clip_l(&ids(A::RECORD.clip_l_ids)?)?;
        let g = held.clip_g(&ids("clip_g_ids")?)?;
        let clips = [
            ("clip_l", l, Some(&sizes.clip_l)),
            ("clip_g", g, sizes.clip_g.as_ref()),
        ];
        for (name, states, clip) in clips {
            let blocks = clip.map_or(0, |clip| clip.num_hidden_layers);
            let part = |part: &str| format!("{name}.{part}");
            image.encoded(sink, &part("penultimate"), &states.penultimate, blocks)?;
            image.encoded(sink, &part("pooled"), &states.pooled, blocks)?;
            image.encoded(sink, &part("last"), &states.last, blocks)?;
        }
        image.encoded(sink, "t5_embeds", &held.t5(&ids("t5_ids")?)?, t5_layers)
    }

    /// Prepares the conditioning for a prompt and the case's guidance.
    fn condition(
        &self,
        prompt: &Encoded,
        negative: Option<&Encoded>,
    ) -> Result<A::Conditioning, WorkerFault> {
        let case = self.image.measured.case;
        let guidance = case.cfg.unwrap_or_default() as f32;
        let size = PictureSize {
            width: case.width,
            height: case.height,
        };
        let away = negative.map(|negative| (negative, guidance));
        self.ours.condition(prompt, away, size)
    }

    /// The tolerance of a velocity.
    fn part(&self) -> Tolerance {
        let blocks = A::blocks(&self.ours.sizes().transformer);
        self.image.part(Tolerance::HALF_VELOCITY, blocks)
    }

    /// The row of an evaluation in the golden's batch: 0 for the only or the negative one, 1 for the one with the prompt.
    fn row(&self, evaluation: usize) -> usize {
        evaluation * self.image.measured.case.prompts.len() + self.image.index
    }

    /// Converts latents or velocities (1, c, h, w) to the recorded shape.
    fn recorded(&self, values: &Tensor) -> Result<Tensor, WorkerFault> {
        match A::RECORD.is_packed {
            true => packing::pack(values),
            false => Ok(values.clone()),
        }
    }

    /// Converts recorded latents or velocities of a row of the batch to (1, c, h, w).
    fn golden_at(&self, name: &str, row: usize) -> Result<Tensor, WorkerFault> {
        let recorded = self.image.golden_at(name, row)?;
        if !A::RECORD.is_packed {
            return Ok(recorded);
        }
        let (_, _, rows, columns) = self.image.golden("latents_init")?.dims4()?;
        packing::unpack(&recorded, rows, columns)
    }

    /// Measures each step from the reference's latents and prompt.
    fn steps(&self, sink: LineSink) -> Result<(), WorkerFault> {
        let image = &self.image;
        let read = |end: &str| -> Result<Encoded, WorkerFault> {
            let text = image.golden(&format!("{}{end}", A::RECORD.text))?;
            let pooled = image.golden(&format!("pooled{end}"))?;
            Ok(Encoded { text, pooled })
        };
        let negative = self.negative().map(|_| read("_neg")).transpose()?;
        let by = self.condition(&read("")?, negative.as_ref())?;
        let levels = A::sigmas(image.measured.case.steps);
        image.levels(sink, &levels)?;
        let mut before = image.golden("latents_init")?;
        if A::RECORD.is_packed {
            let packed = self.recorded(&before)?;
            let names = ("latents_packed", "latents_packed");
            image.tensor(sink, names, &packed, Tolerance::Equal)?;
        }
        for (i, pair) in levels.windows(2).enumerate() {
            let velocities = self.ours.predict(&before, pair[0], &by)?;
            let (pred, latents) = (format!("pred.{i}"), format!("latents.{i}"));
            self.velocities(sink, &pred, &velocities)?;
            let velocity = A::guide(&velocities, &by)?;
            let after = sigmas::euler(&before, &velocity, pair[0], pair[1])?;
            let bar = self.part().times(image.stretch());
            image.tensor(sink, (&latents, &latents), &self.recorded(&after)?, bar)?;
            let step = A::guide(&self.golden_velocities(&pred, &by)?, &by)?;
            let step = self.recorded(&sigmas::euler(&before, &step, pair[0], pair[1])?)?;
            image.tensor(
                sink,
                (&format!("step.{i}"), &latents),
                &step,
                Tolerance::PART,
            )?;
            before = self.golden_at(&latents, image.index)?;
        }
        Ok(())
    }

    /// The reference's velocities of all evaluations.
    fn golden_velocities(&self, name: &str, by: &A::Conditioning) -> Result<Tensor, WorkerFault> {
        let rows = (0..A::evaluations(by)).map(|nth| self.golden_at(name, self.row(nth)));
        Ok(Tensor::cat(&rows.collect::<Result<Vec<_>, _>>()?, 0)?)
    }

    /// Measures each of the evaluations.
    fn velocities(&self, sink: LineSink, name: &str, ours: &Tensor) -> Result<(), WorkerFault> {
        for (nth, velocity) in ours.chunk(ours.dim(0)?, 0)?.iter().enumerate() {
            let part = if nth == 0 {
                name.to_owned()
            } else {
                format!("{name}.prompted")
            };
            let ours = (&self.recorded(velocity)?, self.row(nth));
            self.image.row(sink, (&part, name), ours, self.part())?;
        }
        Ok(())
    }

    /// Measures the whole way from the prompt and the initial noise to the bytes, with our values only.
    fn free(&self, sink: LineSink) -> Result<(), WorkerFault> {
        let image = &self.image;
        let negative = self.negative().map(|prompt| self.encode(prompt));
        let negative = negative.transpose()?;
        let by = self.condition(&self.encode(image.prompt())?, negative.as_ref())?;
        let mut latents = image.golden("latents_init")?;
        let levels = A::sigmas(image.measured.case.steps);
        for (i, pair) in levels.windows(2).enumerate() {
            let velocities = self.ours.predict(&latents, pair[0], &by)?;
            for (nth, velocity) in velocities.chunk(velocities.dim(0)?, 0)?.iter().enumerate() {
                let velocity = self.recorded(velocity)?;
                image.beside(sink, &format!("pred.{i}"), &velocity, self.row(nth))?;
            }
            let velocity = A::guide(&velocities, &by)?;
            latents = sigmas::euler(&latents, &velocity, pair[0], pair[1])?;
            let (name, recorded) = (format!("latents.{i}"), self.recorded(&latents)?);
            let names = (format!("free.{name}"), name);
            image.tensor(sink, (&names.0, &names.1), &recorded, image.free())?;
            image.beside(sink, &names.1, &recorded, image.index)?;
        }
        let names = ("free.latents_final", "latents_final");
        image.tensor(sink, names, &latents, image.free())?;
        image.free_picture(sink, &self.ours.decode(&latents)?)
    }
}
