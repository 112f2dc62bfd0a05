//! The events that bring back the memory of an earlier daemon, as JSON.

use std::time::Duration;

use ipc_protocol::ids::{JobId, ModelKey};
use pool::{Event, JobPast, MeasuredNeed, PastLoss, QuarantinedRequest, RestoredJob, Ticket};
use serde_json::{Value, json};

use super::fields::EventFields;
use super::values::{asked, request};

/// Formats such an event; `None` for any other.
pub(super) fn facts(event: &Event) -> Option<(&'static str, Value)> {
    Some(match event {
        Event::JobIdsUsed { last } => ("job_ids_used", json!({"job": last.0})),
        Event::JobRestored { ticket, job } => (
            "job_restored",
            json!({"ticket": ticket.0, "job": job.job.0, "request": asked(&job.request), "user": job.user,
                   "digest": job.digest, "past": past(&job.past)}),
        ),
        Event::QuarantineRestored { request } => (
            "quarantine_restored",
            json!({"name": request.name, "user": request.user, "digest": request.digest, "prompt": request.prompt,
                   "negative": request.negative, "size": request.size.to_string(), "steps": request.steps,
                   "guidance": request.guidance, "deaths": request.deaths,
                   "age_us": micros(request.age)}),
        ),
        Event::NeedRestored { need } => (
            "need_restored",
            json!({"model": need.model.as_str(), "digest": need.digest, "host_mb": need.host.0, "device_mb": need.device.0}),
        ),
        _ => return None,
    })
}

fn past(past: &JobPast) -> Value {
    let loss =
        |loss: &PastLoss| json!({"how": loss.how, "step": loss.step, "suspect": loss.suspect});
    json!({
        "attempts": past.attempts, "losses": past.losses.iter().map(loss).collect::<Vec<Value>>(),
        "fruitless": past.fruitless, "out_of_memory": past.out_of_memory, "resume_step": past.resume_step,
    })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Parses such an event; `None` for any other name.
pub(super) fn event(name: &str, facts: &EventFields<'_>) -> Result<Option<Event>, String> {
    Ok(Some(match name {
        "job_ids_used" => Event::JobIdsUsed { last: facts.job()? },
        "job_restored" => Event::JobRestored {
            ticket: facts.number("ticket").map(Ticket)?,
            job: Box::new(RestoredJob {
                job: facts.number("job").map(JobId)?,
                request: request(&facts.within("request")?)?,
                user: facts.text("user")?,
                digest: facts.text("digest")?,
                past: read_past(&facts.within("past")?)?,
            }),
        },
        "quarantine_restored" => Event::QuarantineRestored {
            request: Box::new(QuarantinedRequest {
                name: facts.text("name")?,
                user: facts.text("user")?,
                digest: facts.text("digest")?,
                prompt: facts.text("prompt")?,
                negative: facts.optional("negative", EventFields::text)?,
                size: facts.text("size")?.parse()?,
                steps: facts.number("steps")?,
                guidance: facts.float("guidance")?,
                deaths: facts.list("deaths", |death| {
                    death.as_str().map(str::to_owned).ok_or_else(no_text)
                })?,
                age: facts.micros("age_us")?,
            }),
        },
        "need_restored" => Event::NeedRestored {
            need: MeasuredNeed {
                model: ModelKey::new(&facts.text("model")?)?,
                digest: facts.text("digest")?,
                host: facts.mebibytes("host_mb")?,
                device: facts.mebibytes("device_mb")?,
            },
        },
        _ => return Ok(None),
    }))
}

fn read_past(facts: &EventFields<'_>) -> Result<JobPast, String> {
    let loss = |loss: &Value| {
        let how = loss["how"].as_str().ok_or_else(no_text)?;
        let step = loss["step"]
            .as_u64()
            .and_then(|step| u32::try_from(step).ok());
        let suspect = loss["suspect"].as_bool().ok_or("suspect is not a flag")?;
        Ok(PastLoss {
            how: how.to_owned(),
            step: step.ok_or("step is not a number")?,
            suspect,
        })
    };
    Ok(JobPast {
        attempts: facts.number("attempts")?,
        losses: facts.list("losses", loss)?,
        fruitless: facts.number("fruitless")?,
        out_of_memory: facts.number("out_of_memory")?,
        resume_step: facts.number("resume_step")?,
    })
}

fn no_text() -> String {
    "a death is not a text".to_owned()
}
