//! A body of `POST /sdapi/v1/txt2img`, made into a request that the model can draw.
//!
//! These clients are made for other models: they send 50 steps, a guidance and a negative prompt whatever the model. So
//! values out of its range are brought into it, and each change is a warning in the answer.

use ipc_protocol::request::ImageRequest;
use pool::{GuidanceRule, ModelSpec};

use super::lists::SAMPLER;
use crate::api::http::encoder::FileForm;
use crate::api::http::error::ApiError;
use crate::api::http::fields::{Fields, random_seed};
use crate::api::http::size;

/// Most pictures of a request.
const COUNT_MAX: i64 = 10;
/// Names of "no particular sampler", and of the only one.
const SAMPLERS: [&str; 4] = ["", "automatic", "euler", "k_euler"];
/// Flags for things that cannot be done.
const FLAGS: [&str; 3] = ["enable_hr", "restore_faces", "tiling"];

/// The order in a body.
#[derive(Debug)]
pub(in crate::api::http) struct SdapiOrder {
    /// The request for the pool.
    pub request: ImageRequest,
    /// The form of the files.
    pub form: FileForm,
    /// The negative prompt as it was sent.
    pub negative: String,
    /// Whether the answer has the pictures.
    pub send_images: bool,
    /// Parts of the order that were changed or have no effect, a sentence each.
    pub warnings: Vec<String>,
}

impl SdapiOrder {
    /// Reads a body for the model called `name`. `model` is missing if there is none; the pool refuses it then.
    ///
    /// # Errors
    /// The first field that is invalid.
    pub fn read(
        fields: &Fields,
        name: &str,
        model: Option<&ModelSpec>,
        max_pixels: u64,
    ) -> Result<Self, ApiError> {
        let mut warnings = Vec::new();
        let mut request = ImageRequest::new(fields.text("prompt")?.unwrap_or_default());
        request.model = Some(name.to_owned());
        request.count = count(fields)?;
        request.seed = fields.seed("seed")?.or_else(random_seed);
        // For `progress`.
        request.previews = true;
        let negative = fields
            .text("negative_prompt")?
            .unwrap_or_default()
            .to_owned();
        let mut form = FileForm::PNG;
        let asked = size::asked(fields, max_pixels)?;
        request.size = asked;
        let steps = fields.whole("steps", i64::MIN, i64::MAX)?;
        let scale = fields.number("cfg_scale")?;
        if let Some(model) = model {
            let drawn = asked.map(|asked| size::nearest(asked, model.sizes));
            form.scaled = asked.filter(|_| drawn != asked);
            if let (Some(asked), Some(drawn)) = (form.scaled, drawn) {
                warnings.push(size::scaled(name, asked, drawn));
            }
            request.size = drawn;
            request.steps = steps.map(|steps| in_steps(steps, name, model, &mut warnings));
            request.guidance = scale.and_then(|scale| guidance(scale, name, model, &mut warnings));
            request.negative = followed(&negative, request.guidance, name, model, &mut warnings);
        }
        warn_of_sampler(fields, &mut warnings)?;
        for flag in FLAGS {
            if fields.flag(flag)?.unwrap_or(false) {
                warnings.push(format!("{flag} has no effect"));
            }
        }
        Ok(Self {
            request,
            form,
            negative,
            send_images: fields.flag("send_images")?.unwrap_or(true),
            warnings,
        })
    }
}

/// The number of pictures: a batch's, times the number of batches.
fn count(fields: &Fields) -> Result<u32, ApiError> {
    let size = fields.whole("batch_size", 1, COUNT_MAX)?.unwrap_or(1);
    let batches = fields.whole("n_iter", 1, COUNT_MAX)?.unwrap_or(1);
    match size * batches {
        count if count <= COUNT_MAX => Ok(count as u32),
        count => {
            let message = format!(
                "batch_size = {size} times n_iter = {batches} are {count} pictures: ask for {COUNT_MAX} at most"
            );
            Err(ApiError::bad_value("batch_size", message))
        }
    }
}

/// The steps within the model's range.
fn in_steps(steps: i64, name: &str, model: &ModelSpec, warnings: &mut Vec<String>) -> u32 {
    let possible = steps.clamp(1, i64::from(model.max_steps));
    if possible != steps {
        let max = model.max_steps;
        warnings.push(format!(
            "{steps} steps are not from 1 to {max}, which {name} allows: {possible} were taken"
        ));
    }
    possible as u32
}

/// The guidance within the model's range; `None` leaves it to the model.
fn guidance(scale: f64, name: &str, model: &ModelSpec, warnings: &mut Vec<String>) -> Option<f32> {
    match model.guidance {
        GuidanceRule::None => {
            if scale > 1.0 {
                warnings.push(format!(
                    "CFG scale {scale} has no effect: {name} draws without guidance"
                ));
            }
            None
        }
        GuidanceRule::Scale { max, .. } => {
            let possible = scale.clamp(0.0, f64::from(max));
            if possible != scale {
                warnings.push(format!(
                    "CFG scale {scale} is not from 0 to {max}, which {name} allows: {possible} was taken"
                ));
            }
            Some(possible as f32)
        }
    }
}

/// The negative prompt, if the model follows one with this guidance.
fn followed(
    negative: &str,
    guidance: Option<f32>,
    name: &str,
    model: &ModelSpec,
    warnings: &mut Vec<String>,
) -> Option<String> {
    if negative.is_empty() {
        return None;
    }
    match model.guidance {
        GuidanceRule::None => {
            warnings.push(format!(
                "the negative prompt has no effect: {name} draws without guidance"
            ));
            None
        }
        GuidanceRule::Scale { default, .. } if guidance.unwrap_or(default) <= 1.0 => {
            warnings.push(format!(
                "the negative prompt has no effect: {name} follows it with a CFG scale above 1"
            ));
            None
        }
        GuidanceRule::Scale { .. } => Some(negative.to_owned()),
    }
}

fn warn_of_sampler(fields: &Fields, warnings: &mut Vec<String>) -> Result<(), ApiError> {
    for field in ["sampler_name", "scheduler"] {
        let name = fields.text(field)?.unwrap_or_default();
        // The schedule is the model's own.
        let is_known = SAMPLERS.contains(&name.to_ascii_lowercase().as_str());
        if !is_known {
            let shown: String = name.chars().take(80).collect();
            warnings.push(format!(
                "{field} {shown:?} has no effect: all models use {SAMPLER}"
            ));
        }
    }
    Ok(())
}
