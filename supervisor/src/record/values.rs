//! Values that several recorded events have: requests and footprints.

use ipc_protocol::request::ImageRequest;
use pool::Footprint;
use serde_json::{Value, json};

use super::fields::EventFields;

pub(super) fn asked(request: &ImageRequest) -> Value {
    json!({
        "prompt": request.prompt, "model": request.model,
        "size": request.size.map(|size| size.to_string()), "steps": request.steps,
        "guidance": request.guidance, "negative": request.negative, "seed": request.seed,
        "count": request.count, "device": request.device.to_string(),
        "priority": request.priority.to_string(), "timeout_ms": request.timeout_ms,
        "user": request.user, "detached": request.detached, "previews": request.previews,
    })
}

pub(super) fn request(facts: &EventFields<'_>) -> Result<ImageRequest, String> {
    let parsed = |key: &str| facts.text(key);
    Ok(ImageRequest {
        prompt: parsed("prompt")?,
        model: facts.optional("model", EventFields::text)?,
        size: facts.optional("size", |facts, key| facts.text(key)?.parse())?,
        steps: facts.optional("steps", EventFields::number)?,
        guidance: facts.optional("guidance", EventFields::float)?,
        negative: facts.optional("negative", EventFields::text)?,
        seed: facts.optional("seed", EventFields::number)?,
        count: facts.number("count")?,
        device: parsed("device")?.parse()?,
        priority: parsed("priority")?.parse()?,
        timeout_ms: facts.optional("timeout_ms", EventFields::number)?,
        user: facts.optional("user", EventFields::text)?,
        detached: facts.flag("detached")?,
        previews: facts.flag("previews")?,
    })
}

pub(super) fn held(footprint: &Footprint) -> Value {
    json!({"host_mb": footprint.host.0, "device_mb": footprint.device.0})
}

pub(super) fn footprint(facts: &EventFields<'_>, key: &str) -> Result<Footprint, String> {
    let held = facts.within(key)?;
    Ok(Footprint {
        host: held.mebibytes("host_mb")?,
        device: held.mebibytes("device_mb")?,
    })
}
