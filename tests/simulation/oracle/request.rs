//! The values that a request may have, field by field.

use ipc_protocol::failure::Field;
use ipc_protocol::ids::DeviceConstraint;
use ipc_protocol::request::ImageRequest;
use pool::{GuidanceRule, ModelSpec, Parameters};

use crate::observed::ObservedPool;

/// The fields whose values the model or the settings do not allow.
pub(crate) fn invalid_fields(
    observed: &ObservedPool,
    spec: &ModelSpec,
    request: &ImageRequest,
) -> Vec<Field> {
    let settings = &observed.settings;
    let long = |text: &str| text.len() > settings.prompt_bytes;
    let blank = request.prompt.chars().all(char::is_whitespace);
    let size = request.size.unwrap_or(spec.default_size);
    let rule = &spec.sizes;
    let side =
        |side: u32| (rule.min..=rule.max).contains(&side) && side.is_multiple_of(rule.multiple);
    let steps = request.steps.unwrap_or(spec.default_steps);
    let (guidance, most_guidance) = guidance(spec, request);
    let negative = request.negative.as_deref().unwrap_or("");
    let device = match request.device {
        DeviceConstraint::Auto => true,
        DeviceConstraint::On(at) => {
            observed.devices.contains_key(&at) && spec.residency_on(at).is_some()
        }
    };
    let wrong = [
        (
            Field::Prompt,
            long(&request.prompt) || blank && !spec.empty_prompt,
        ),
        (
            Field::Size,
            !side(size.width) || !side(size.height) || size.pixels() > settings.max_pixels,
        ),
        (Field::Steps, steps == 0 || steps > spec.max_steps),
        (
            Field::Guidance,
            request
                .guidance
                .is_some_and(|guidance| !(0.0..=most_guidance).contains(&guidance)),
        ),
        (
            Field::Negative,
            !negative.is_empty() && (guidance <= 1.0 || long(negative)),
        ),
        (Field::Device, !device),
        (Field::Timeout, request.timeout_ms == Some(0)),
        (Field::Count, request.count as usize > most_images(observed)),
    ];
    let wrong = wrong.into_iter().filter(|(_, wrong)| *wrong);
    wrong.map(|(field, _)| field).collect()
}

/// More images than may wait can never be accepted at once.
pub(crate) fn most_images(observed: &ObservedPool) -> usize {
    let settings = &observed.settings;
    let queues = settings.queue_per_model.min(settings.queue_total);
    jobs_per_hour(observed).map_or(queues, |limit| queues.min(limit as usize))
}

/// The most jobs of a user within an hour.
pub(crate) fn jobs_per_hour(observed: &ObservedPool) -> Option<u32> {
    let quota = observed.settings.quotas.others.as_ref();
    quota.and_then(|quota| quota.jobs_per_hour)
}

/// The guidance that a request gets, and the largest that it may ask for.
fn guidance(spec: &ModelSpec, request: &ImageRequest) -> (f32, f32) {
    match spec.guidance {
        GuidanceRule::None => (0.0, 1.0),
        GuidanceRule::Scale { default, max } => (request.guidance.unwrap_or(default), max),
    }
}

/// Returns the parameters of a request; `None` if it is invalid.
pub(crate) fn parameters(
    observed: &ObservedPool,
    spec: &ModelSpec,
    request: &ImageRequest,
    entropy: u64,
) -> Option<Parameters> {
    let valid = request.check().is_ok() && invalid_fields(observed, spec, request).is_empty();
    let negative = request.negative.as_deref().filter(|text| !text.is_empty());
    valid.then(|| Parameters {
        prompt: request.prompt.as_str().into(),
        negative: negative.map(Into::into),
        size: request.size.unwrap_or(spec.default_size),
        steps: request.steps.unwrap_or(spec.default_steps),
        guidance: guidance(spec, request).0,
        seed: request.seed.unwrap_or(entropy),
        previews: request.previews,
    })
}
