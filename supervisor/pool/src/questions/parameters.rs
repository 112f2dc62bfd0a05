//! Resolves a request against its model: defaults filled in, everything else checked.

use ipc_protocol::failure::{Failure, Field};
use ipc_protocol::request::ImageRequest;

use crate::words::action::Parameters;
use crate::words::registry::{GuidanceRule, ModelSpec};
use crate::words::settings::Settings;

/// Fills in what the request leaves open, and checks the rest against the model.
pub(crate) fn resolve(
    spec: &ModelSpec,
    settings: &Settings,
    request: &ImageRequest,
    entropy: u64,
) -> Result<Parameters, Failure> {
    let bad = |field, message: String| Err(Failure::bad_value(field, message));
    let key = &spec.key;
    let (bytes, max) = (request.prompt.len(), settings.prompt_bytes);
    if bytes > max {
        return bad(
            Field::Prompt,
            format!("{bytes} bytes are more than the {max} allowed"),
        );
    }
    if request.prompt.trim().is_empty() && !spec.empty_prompt {
        return bad(Field::Prompt, "is empty".into());
    }
    let size = request.size.unwrap_or(spec.default_size);
    if let Err(why) = spec.sizes.check(size, settings.max_pixels) {
        return bad(Field::Size, why);
    }
    let steps = request.steps.unwrap_or(spec.default_steps);
    if !(1..=spec.max_steps).contains(&steps) {
        let max = spec.max_steps;
        return bad(
            Field::Steps,
            format!("{steps} is not from 1 to {max}, which {key} allows"),
        );
    }
    let guidance = check_guidance(spec, request.guidance)?;
    let negative = check_negative(spec, settings, request.negative.as_deref(), guidance)?;
    if request.timeout_ms == Some(0) {
        return bad(Field::Timeout, "0 ms leave no time to draw".into());
    }
    Ok(Parameters {
        prompt: request.prompt.as_str().into(),
        negative: negative.map(Into::into),
        size,
        steps,
        guidance,
        seed: request.seed.unwrap_or(entropy),
        previews: request.previews,
    })
}

fn check_guidance(spec: &ModelSpec, wanted: Option<f32>) -> Result<f32, Failure> {
    let key = &spec.key;
    let bad = |message: String| Err(Failure::bad_value(Field::Guidance, message));
    match (spec.guidance, wanted) {
        (GuidanceRule::None, None) => Ok(0.0),
        (GuidanceRule::None, Some(scale)) if (0.0..=1.0).contains(&scale) => Ok(0.0),
        (GuidanceRule::None, Some(scale)) => bad(format!(
            "{scale} is not possible: {key} draws without guidance, 0 to 1 mean none"
        )),
        (GuidanceRule::Scale { default, .. }, None) => Ok(default),
        (GuidanceRule::Scale { max, .. }, Some(scale)) if (0.0..=max).contains(&scale) => Ok(scale),
        (GuidanceRule::Scale { max, .. }, Some(scale)) => bad(format!(
            "{scale} is not from 0 to {max}, which {key} allows"
        )),
    }
}

fn check_negative<'a>(
    spec: &ModelSpec,
    settings: &Settings,
    negative: Option<&'a str>,
    guidance: f32,
) -> Result<Option<&'a str>, Failure> {
    let Some(text) = negative.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let key = &spec.key;
    let bad = |message: String| Err(Failure::bad_value(Field::Negative, message));
    match spec.guidance {
        GuidanceRule::None => bad(format!(
            "{key} draws without guidance, so a negative prompt means nothing to it"
        )),
        GuidanceRule::Scale { .. } if guidance <= 1.0 => bad(format!(
            "a negative prompt needs a guidance above 1, not {guidance}"
        )),
        GuidanceRule::Scale { .. } if text.len() > settings.prompt_bytes => bad(format!(
            "{} bytes are more than the {} allowed",
            text.len(),
            settings.prompt_bytes
        )),
        GuidanceRule::Scale { .. } => Ok(Some(text)),
    }
}
