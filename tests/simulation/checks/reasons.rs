//! The reason why a job waits has the right names and numbers, and `plan` says what fits.

use crate::observed::span;
use std::collections::BTreeSet;
use std::time::Duration;

use ipc_protocol::failure::Field;
use ipc_protocol::ids::{DeviceConstraint, JobId};
use ipc_protocol::units::PictureSize;
use pool::{Moment, Pool, StopReason};

use super::CheckResult;
use super::failures::ModelFailures;
use super::refusal_words::rest;
use super::reports::place;
use super::standing::ModelStanding;
use crate::observed::{
    AwaitingRequest, DurationRange, JobRecord, MemoryParts, ModelRecord, ObservedPool,
    ProcessRecord, ProcessState,
};

/// Jobs that are asked about at one time.
const ASKED: usize = 6;
/// Earlier jobs that are counted one by one.
const LOOKED_AT: usize = 32;

pub(super) fn check(
    observed: &ObservedPool,
    failures: &ModelFailures,
    now: Moment,
    pool: &Pool,
    turn: u64,
) -> CheckResult {
    let asked = observed.jobs.len().max(1);
    let from = usize::try_from(turn).unwrap_or(0) * ASKED % asked;
    for (&id, record) in observed.jobs.iter().skip(from).take(ASKED) {
        check_job(observed, failures, now, pool, id, record)?;
    }
    for waiting in observed.requests.values() {
        check_awaiting(now, pool, waiting)?;
    }
    if pool.explain(now, JobId(u64::MAX)).is_some() || pool.plan("nobody", None).is_ok() {
        return Err("something is said of a job or a model that does not exist".into());
    }
    observed
        .models
        .values()
        .filter(|model| model.offered)
        .try_for_each(|model| check_plan(observed, pool, model, turn))
}

fn check_job(
    observed: &ObservedPool,
    failures: &ModelFailures,
    now: Moment,
    pool: &Pool,
    id: JobId,
    record: &JobRecord,
) -> CheckResult {
    let Some(text) = pool.explain(now, id) else {
        return Err(format!("nothing explains job {id}"));
    };
    let wanted = match record.on {
        Some(on) => match observed.workers.get(&on) {
            Some(process) => vec!["running: ".to_string(), doing(observed, process)],
            None => Vec::new(),
        },
        None => reasons(observed, failures, now, id, record),
    };
    match wanted.iter().find(|part| !text.contains(part.as_str())) {
        Some(part) => Err(format!(
            "job {id} is explained by {text:?}, which lacks {part:?}"
        )),
        None => says_seconds(&text)
            .and_then(|()| says_who_stays(observed, &text))
            .and_then(|()| says_its_turn(observed, now, id, record, &text)),
    }
}

/// The jobs of a request that waits for files are explained by that, except cancelled ones.
fn check_awaiting(now: Moment, pool: &Pool, waiting: &AwaitingRequest) -> CheckResult {
    for (&job, cancelled) in &waiting.jobs {
        let wanted = format!("waiting: for the files of {}", waiting.model);
        let wanted = cancelled.is_none().then_some(wanted);
        let text = pool.explain(now, job);
        if text != wanted {
            return Err(format!(
                "job {job} is explained by {text:?}, not by {wanted:?}"
            ));
        }
    }
    Ok(())
}

/// Every `about`, `in` and `again in` is followed by seconds.
fn says_seconds(text: &str) -> CheckResult {
    for word in [", about ", "in about ", "again in ", "more worker in "] {
        for rest in text.split(word).skip(1) {
            let number = rest.split(" s").next().unwrap_or("");
            if number.parse::<f64>().is_err() {
                return Err(format!("{text:?} does not say how many seconds"));
            }
        }
    }
    Ok(())
}

/// Its turn comes with those before it, each with its own steps, as fast as pictures of its model were.
fn says_its_turn(
    observed: &ObservedPool,
    now: Moment,
    id: JobId,
    record: &JobRecord,
    text: &str,
) -> CheckResult {
    let model = &observed.models[&record.model];
    let said = text.split("its turn in about ").nth(1);
    let said = said.and_then(|rest| rest.split(" s").next()?.parse::<f64>().ok());
    let Some(said) = said else {
        return Ok(());
    };
    let least = turn(observed, now, id, model, |range| range.least);
    let most = turn(observed, now, id, model, |range| range.most);
    let (Some(least), Some(most)) = (least, most) else {
        return Err(format!("{text:?}: nobody can know that"));
    };
    match said >= least - 0.1 && said <= most + 0.1 && !text.contains(": 0 wait before") {
        true => Ok(()),
        false => Err(format!(
            "{text:?}: its turn is in {least:.1} to {most:.1} s"
        )),
    }
}

/// When the first worker is free for it, where each earlier job takes the one that is free first.
fn turn(
    observed: &ObservedPool,
    now: Moment,
    id: JobId,
    model: &ModelRecord,
    of: fn(DurationRange) -> Duration,
) -> Option<f64> {
    let resident = observed
        .live(&model.spec.key)
        .filter(|(_, process)| process.is_resident());
    let left = |process: &ProcessRecord| match process.job() {
        Some(_) => rest(observed, now, model, process).map(of),
        None => Some(Duration::ZERO),
    };
    let mut free = resident
        .map(|(_, process)| left(process))
        .collect::<Option<Vec<Duration>>>()?;
    let earlier: Vec<JobId> = observed
        .waiting(&model.spec.key)
        .map(|(id, _)| id)
        .take_while(|&other| other < id)
        .collect();
    let (mut sum, mut count) = (0.0, 0.0);
    for job in earlier.iter().take(LOOKED_AT) {
        let record = &observed.jobs[job];
        let picture = of(model
            .pace
            .picture(record.parameters.size.pixels(), record.parameters.steps)?);
        free.sort();
        *free.first_mut()? += picture;
        (sum, count) = (sum + picture.as_secs_f64(), count + 1.0);
    }
    let others = earlier.len().saturating_sub(LOOKED_AT) as f64;
    let more = sum / f64::max(count, 1.0) * others / free.len() as f64;
    free.iter().min().map(|first| first.as_secs_f64() + more)
}

/// Where nothing can be done, the models are named whose workers stay.
fn says_who_stays(observed: &ObservedPool, text: &str) -> CheckResult {
    let Some((_, rest)) = text.split_once(" MB available") else {
        return Ok(());
    };
    let list = rest
        .split(';')
        .next()
        .unwrap_or("")
        .trim_start_matches(", ");
    let said: BTreeSet<&str> = list
        .trim_end_matches(" stay")
        .split(", ")
        .filter(|name| !name.is_empty())
        .collect();
    let kept = observed
        .models
        .iter()
        .filter(|(_, model)| observed.floor(model) > 0);
    let kept: BTreeSet<&str> = kept.map(|(key, _)| key.as_str()).collect();
    match said == kept {
        true => Ok(()),
        false => Err(format!("{text:?} names other models than stay: {kept:?}")),
    }
}

fn word(why: StopReason) -> &'static str {
    match why {
        StopReason::Idle => "idle",
        StopReason::Evicted => "evicted",
        StopReason::Operator => "operator",
        StopReason::Scaled => "scaled",
        StopReason::Drain => "drain",
        StopReason::Abandoned => "abandoned",
        StopReason::NoHello => "no_hello",
        StopReason::Silent => "silent",
        StopReason::Stuck => "stuck",
        StopReason::Starved => "starved",
        StopReason::Outgrown => "outgrown",
        StopReason::IgnoredCancel => "ignored_cancel",
        StopReason::Protocol => "protocol",
        StopReason::Outdated => "outdated",
        StopReason::Yielded => "yielded",
    }
}

/// Describes a worker's activity.
fn doing(observed: &ObservedPool, process: &ProcessRecord) -> String {
    let name = &process.name;
    match process.state {
        ProcessState::Starting => format!("{name} starts"),
        ProcessState::Loading => format!("{name} loads, {} %", process.permille / 10),
        ProcessState::Idle => format!("{name} idle"),
        ProcessState::Busy(job) => match observed.jobs.get(&job) {
            Some(record) => {
                let pace = &observed.models[&record.model].pace;
                let about = if pace.step.is_some() { ", about " } else { "" };
                format!(
                    "{name} busy, step {}/{}{about}",
                    record.step, record.parameters.steps
                )
            }
            None => name.to_string(),
        },
        ProcessState::Unwinding(_) => format!("{name} ends a cancelled job"),
        ProcessState::Leaving(_) => {
            let why = process.stop_reason.map_or("", word);
            format!("{name} leaves ({why})")
        }
    }
}

fn reasons(
    observed: &ObservedPool,
    failures: &ModelFailures,
    now: Moment,
    id: JobId,
    record: &JobRecord,
) -> Vec<String> {
    let key = &record.model;
    let model = &observed.models[key];
    let mut parts = vec!["waiting: ".to_string()];
    let before = place(observed, id) - 1;
    if before > 0 {
        parts.push(format!("{before} wait before it"));
    }
    parts.extend(
        observed
            .workers_of(key)
            .map(|(_, process)| doing(observed, process)),
    );
    let resident = observed.live(key).any(|(_, process)| process.is_resident());
    if model.pace.step.is_some() && resident {
        parts.push("its turn in about ".into());
    }
    let left = |until: Moment| format!("{:.1} s", span(until, now).as_secs_f64());
    match failures.standing(observed, key, now) {
        ModelStanding::Missing => parts.push(key.to_string()),
        ModelStanding::Stopped => parts.push(format!("{key} is stopped")),
        ModelStanding::Broken(until, failures) => {
            parts.push(format!(
                "{key} failed {failures} times in a row; again in {}",
                left(until)
            ));
        }
        ModelStanding::Cooling(until) => {
            parts.extend([
                format!("{key} cannot load"),
                format!("again in {}", left(until)),
            ]);
        }
        ModelStanding::BackOff(until) => {
            parts.push(format!("{key} starts again in {}", left(until)))
        }
        ModelStanding::Probing | ModelStanding::Well => {
            parts.extend(no_other(observed, now, model, record))
        }
    }
    parts
}

/// Why there is not one worker more.
fn no_other(
    observed: &ObservedPool,
    now: Moment,
    model: &ModelRecord,
    record: &JobRecord,
) -> Option<String> {
    let key = &model.spec.key;
    let most = observed.most(model);
    if observed.workers_of(key).count() >= most {
        return Some(match most {
            1 => format!("{key} has its one worker"),
            _ => format!("{key} has its {most} workers"),
        });
    }
    record.wish?;
    let [at] = observed.places_of(record)[..] else {
        return None;
    };
    let need = observed.need(model, at)?;
    if observed.has_room(&need) && observed.live(key).next().is_some() {
        let oldest = observed
            .waiting(key)
            .next()
            .map(|(_, record)| record.since)?;
        let grows = oldest + observed.settings.grow_after;
        return (grows > now)
            .then(|| format!("one more worker in {:.1} s", span(grows, now).as_secs_f64()));
    }
    let part = need.get(&at)?;
    let needs = format!("one more worker needs {} MB on {at}: ", part.0);
    let staying = observed.staying();
    let never = need
        .iter()
        .any(|(&on, &part)| part > observed.at_best(on, &staying));
    Some(
        match (never, need.keys().any(|&on| observed.is_squeezed(on))) {
            (_, true) => needs,
            (true, false) => format!("{needs}{} MB needed, ", short(observed, &need)),
            (false, false) => format!("{needs}{} MB free", observed.free(at).0),
        },
    )
}

/// The first part that there is not enough for.
fn short(observed: &ObservedPool, need: &MemoryParts) -> u64 {
    let staying = observed.staying();
    let short = need
        .iter()
        .find(|&(&on, &part)| part > observed.at_best(on, &staying));
    short.map_or(0, |(_, part)| part.0)
}

/// Sums per device, and whether it could ever be.
fn check_plan(observed: &ObservedPool, pool: &Pool, model: &ModelRecord, turn: u64) -> CheckResult {
    let side = u32::try_from(64 + turn % 90 * 16).unwrap_or(64);
    let size = PictureSize {
        width: side,
        height: side,
    };
    let plan = pool.plan(model.spec.key.as_str(), Some(size));
    let rule = &model.spec.sizes;
    let allowed = (rule.min..=rule.max).contains(&side)
        && side.is_multiple_of(rule.multiple)
        && size.pixels() <= observed.settings.max_pixels;
    let plan = match plan {
        Ok(plan) if allowed => plan,
        Ok(plan) => return Err(format!("{size} is not allowed and planned: {plan:?}")),
        Err(failure) if allowed => return Err(format!("{size} has no plan: {failure}")),
        Err(failure) => {
            let field = failure.field == Some(Field::Size);
            return field
                .then_some(())
                .ok_or_else(|| format!("{size} is refused: {failure}"));
        }
    };
    let text = plan.lines.join("\n");
    let (mut possible, mut missing) = (false, None);
    for at in observed.places(model, DeviceConstraint::Auto) {
        let Some(need) = observed.need(model, at) else {
            continue;
        };
        let mut all = true;
        for (&on, &part) in &need {
            let more = if on == at {
                observed.extra(model, at, size).0
            } else {
                0
            };
            let (sum, limit, free) = (
                part.0 + more,
                observed.devices[&on].limit.0,
                observed.free(on).0,
            );
            let word = if sum <= limit { "fits" } else { "never fits" };
            let line = format!(
                "{} MB of {on} to be resident + {more} MB for this size = {sum} MB; limit {limit} MB, {free} MB free: {word}",
                part.0
            );
            all &= sum <= limit;
            missing = missing.or((!text.contains(&line)).then_some(line));
        }
        possible |= all;
    }
    let last = plan.lines.last().map_or("", String::as_str);
    let ends = ["free", "MB needed", "no device that is usable"]
        .iter()
        .any(|word| last.contains(word));
    match (missing, possible == plan.possible && ends) {
        (None, true) => Ok(()),
        (missing, _) => Err(format!(
            "{text}\nshould say {missing:?} and that it is possible: {possible}"
        )),
    }
}
