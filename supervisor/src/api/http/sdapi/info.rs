//! The field `info` of an answer: the values of each picture, and its text as in A1111's files.

use std::sync::Arc;

use ipc_protocol::units::PictureSize;
use pool::AcceptedJobs;
use serde_json::{Value, json};

use super::lists::{SAMPLER, short_hash};
use super::order::SdapiOrder;
use crate::driver::handle::FinishedPicture;

/// The facts of an answer.
#[derive(Debug)]
pub(super) struct DrawingInfo<'a> {
    pub order: &'a SdapiOrder,
    /// The jobs; `None` if the request was ended before it became any.
    pub accepted: Option<&'a AcceptedJobs>,
    /// The finished pictures, in the order of their seeds.
    pub pictures: &'a [Arc<FinishedPicture>],
}

impl DrawingInfo<'_> {
    /// The object; the answer has it as a text.
    pub fn value(&self) -> Value {
        let prompt = &self.order.request.prompt;
        let negative = &self.order.negative;
        let request = &self.order.request;
        let size = self.size();
        let all = |text: &str| vec![text.to_owned(); self.pictures.len()];
        let seeds: Vec<u64> = self
            .pictures
            .iter()
            .map(|picture| picture.facts.seed)
            .collect();
        let infotexts: Vec<String> = match self.accepted {
            Some(jobs) => self
                .pictures
                .iter()
                .map(|picture| self.infotext(jobs, picture))
                .collect(),
            None => Vec::new(),
        };
        json!({
            "prompt": prompt,
            "all_prompts": all(prompt),
            "negative_prompt": negative,
            "all_negative_prompts": all(negative),
            "seed": seeds.first().copied().or(request.seed),
            "all_seeds": seeds,
            "width": size.map(|size| size.width),
            "height": size.map(|size| size.height),
            "sampler_name": SAMPLER,
            "cfg_scale": self.accepted.map_or(0.0, |jobs| jobs.guidance),
            "steps": self.accepted.map(|jobs| jobs.steps).or(request.steps),
            "batch_size": request.count,
            "sd_model_name": request.model,
            "sd_model_hash": self.hash(),
            "index_of_first_image": 0,
            "infotexts": infotexts,
            "extra_generation_params": {},
            "styles": [],
        })
    }

    /// The size of the files.
    fn size(&self) -> Option<PictureSize> {
        let drawn = self.accepted.map(|jobs| jobs.size);
        self.order.form.scaled.or(drawn).or(self.order.request.size)
    }

    fn hash(&self) -> Option<&str> {
        short_hash(&self.pictures.first()?.model.digest)
    }

    /// Prompt, negative prompt and values of one picture, a line each; then the warnings, as one more value.
    fn infotext(&self, jobs: &AcceptedJobs, picture: &FinishedPicture) -> String {
        let AcceptedJobs {
            steps,
            guidance,
            model,
            ..
        } = jobs;
        let remarks = picture.reading.remarks(model.as_str());
        let warnings: Vec<String> = self.order.warnings.iter().cloned().chain(remarks).collect();
        let (seed, size) = (
            picture.facts.seed,
            self.order.form.scaled.unwrap_or(jobs.size),
        );
        let mut text = self.order.request.prompt.clone();
        if !self.order.negative.is_empty() {
            text += &format!("\nNegative prompt: {}", self.order.negative);
        }
        text += &format!(
            "\nSteps: {steps}, Sampler: {SAMPLER}, CFG scale: {guidance}, Seed: {seed}, Size: {size}"
        );
        if let Some(hash) = self.hash() {
            text += &format!(", Model hash: {hash}");
        }
        text += &format!(", Model: {model}");
        if !warnings.is_empty() {
            // Values with commas are in quotes.
            text += &format!(", Warnings: {}", Value::from(warnings.join("; ")));
        }
        text
    }
}
