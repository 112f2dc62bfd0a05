//! Why a job waits is said with the names and numbers that are so, and `plan` knows what fits.

use crate::scene::span;
use std::collections::BTreeSet;
use std::time::Duration;

use ipc_protocol::failure::Field;
use ipc_protocol::ids::{DeviceWish, JobId};
use ipc_protocol::units::PictureSize;
use pool::{Moment, Pool, StopReason};

use super::reports::place;
use super::standing::Standing;
use super::trouble::Trouble;
use super::words::rest;
use crate::scene::{Hand, Life, Model, Parts, Range, Scene, Task};
use crate::shadow::Verdict;

/// Jobs that are asked about at one time.
const ASKED: usize = 6;
/// Earlier jobs that are counted one by one.
const LOOKED_AT: usize = 32;

pub(super) fn check(
    scene: &Scene,
    trouble: &Trouble,
    now: Moment,
    pool: &Pool,
    turn: u64,
) -> Verdict {
    let asked = scene.jobs.len().max(1);
    let from = usize::try_from(turn).unwrap_or(0) * ASKED % asked;
    for (&id, task) in scene.jobs.iter().skip(from).take(ASKED) {
        check_job(scene, trouble, now, pool, id, task)?;
    }
    if pool.explain(now, JobId(u64::MAX)).is_some() || pool.plan("nobody", None).is_ok() {
        return Err("something is said of a job or a model that does not exist".into());
    }
    scene
        .models
        .values()
        .filter(|model| model.offered)
        .try_for_each(|model| check_plan(scene, pool, model, turn))
}

fn check_job(
    scene: &Scene,
    trouble: &Trouble,
    now: Moment,
    pool: &Pool,
    id: JobId,
    task: &Task,
) -> Verdict {
    let Some(text) = pool.explain(now, id) else {
        return Err(format!("nothing explains job {id}"));
    };
    let wanted = match task.on {
        Some(on) => match scene.workers.get(&on) {
            Some(hand) => vec!["running: ".to_string(), doing(scene, hand)],
            None => Vec::new(),
        },
        None => reasons(scene, trouble, now, id, task),
    };
    match wanted.iter().find(|part| !text.contains(part.as_str())) {
        Some(part) => Err(format!(
            "job {id} is explained by {text:?}, which lacks {part:?}"
        )),
        None => says_seconds(&text)
            .and_then(|()| says_who_stays(scene, &text))
            .and_then(|()| says_its_turn(scene, now, id, task, &text)),
    }
}

/// Every `about`, `in` and `again in` is followed by seconds.
fn says_seconds(text: &str) -> Verdict {
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
fn says_its_turn(scene: &Scene, now: Moment, id: JobId, task: &Task, text: &str) -> Verdict {
    let model = &scene.models[&task.model];
    let said = text.split("its turn in about ").nth(1);
    let said = said.and_then(|rest| rest.split(" s").next()?.parse::<f64>().ok());
    let Some(said) = said else {
        return Ok(());
    };
    let least = turn(scene, now, id, model, |range| range.least);
    let most = turn(scene, now, id, model, |range| range.most);
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
    scene: &Scene,
    now: Moment,
    id: JobId,
    model: &Model,
    of: fn(Range) -> Duration,
) -> Option<f64> {
    let resident = scene
        .live(&model.spec.key)
        .filter(|(_, hand)| hand.is_resident());
    let left = |hand: &Hand| match hand.job() {
        Some(_) => rest(scene, now, model, hand).map(of),
        None => Some(Duration::ZERO),
    };
    let mut free = resident
        .map(|(_, hand)| left(hand))
        .collect::<Option<Vec<Duration>>>()?;
    let earlier: Vec<JobId> = scene
        .waiting(&model.spec.key)
        .map(|(id, _)| id)
        .take_while(|&other| other < id)
        .collect();
    let (mut sum, mut count) = (0.0, 0.0);
    for job in earlier.iter().take(LOOKED_AT) {
        let task = &scene.jobs[job];
        let picture = of(model.pace.picture(task.size.pixels(), task.steps)?);
        free.sort();
        *free.first_mut()? += picture;
        (sum, count) = (sum + picture.as_secs_f64(), count + 1.0);
    }
    let others = earlier.len().saturating_sub(LOOKED_AT) as f64;
    let more = sum / f64::max(count, 1.0) * others / free.len() as f64;
    free.iter().min().map(|first| first.as_secs_f64() + more)
}

/// Where nothing can be done, the models are named whose workers stay.
fn says_who_stays(scene: &Scene, text: &str) -> Verdict {
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
    let kept = scene
        .models
        .iter()
        .filter(|(_, model)| scene.floor(model) > 0);
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
        StopReason::IgnoredCancel => "ignored_cancel",
        StopReason::Protocol => "protocol",
        StopReason::Outdated => "outdated",
    }
}

/// What a worker is said to do.
fn doing(scene: &Scene, hand: &Hand) -> String {
    let name = &hand.name;
    match hand.life {
        Life::Starting => format!("{name} starts"),
        Life::Loading => format!("{name} loads, {} %", hand.permille / 10),
        Life::Idle => format!("{name} idle"),
        Life::Busy(job) => match scene.jobs.get(&job) {
            Some(task) => {
                let pace = &scene.models[&task.model].pace;
                let about = if pace.step.is_some() { ", about " } else { "" };
                format!("{name} busy, step {}/{}{about}", task.step, task.steps)
            }
            None => name.to_string(),
        },
        Life::Unwinding(_) => format!("{name} ends a cancelled job"),
        Life::Leaving(_) => {
            let why = hand.told.map_or("", word);
            format!("{name} leaves ({why})")
        }
    }
}

fn reasons(scene: &Scene, trouble: &Trouble, now: Moment, id: JobId, task: &Task) -> Vec<String> {
    let key = &task.model;
    let model = &scene.models[key];
    let mut parts = vec!["waiting: ".to_string()];
    let before = place(scene, id) - 1;
    if before > 0 {
        parts.push(format!("{before} wait before it"));
    }
    parts.extend(scene.workers_of(key).map(|(_, hand)| doing(scene, hand)));
    let resident = scene.live(key).any(|(_, hand)| hand.is_resident());
    if model.pace.step.is_some() && resident {
        parts.push("its turn in about ".into());
    }
    if !model.offered {
        parts.push("no longer offered".into());
        return parts;
    }
    let left = |until: Moment| format!("{:.1} s", span(until, now).as_secs_f64());
    match trouble.standing(scene, key, now) {
        Standing::Missing => parts.push(key.to_string()),
        Standing::Stopped => parts.push(format!("{key} is stopped")),
        Standing::Broken(until, failures) => {
            parts.push(format!(
                "{key} failed {failures} times in a row; again in {}",
                left(until)
            ));
        }
        Standing::Cooling(until) => {
            parts.extend([
                format!("{key} cannot load"),
                format!("again in {}", left(until)),
            ]);
        }
        Standing::BackOff(until) => parts.push(format!("{key} starts again in {}", left(until))),
        Standing::Probing | Standing::Well => parts.extend(no_other(scene, now, model, task)),
    }
    parts
}

/// Why there is not one worker more.
fn no_other(scene: &Scene, now: Moment, model: &Model, task: &Task) -> Option<String> {
    let key = &model.spec.key;
    let most = scene.most(model);
    if scene.workers_of(key).count() >= most {
        return Some(format!("{key} has its {most} workers"));
    }
    task.wish?;
    let [at] = scene.places_of(task)[..] else {
        return None;
    };
    let need = scene.need(model, at)?;
    if scene.has_room(&need) && scene.live(key).next().is_some() {
        let oldest = scene.waiting(key).next().map(|(_, task)| task.since)?;
        let grows = oldest + scene.settings.grow_after;
        return (grows > now)
            .then(|| format!("one more worker in {:.1} s", span(grows, now).as_secs_f64()));
    }
    let part = need.get(&at)?;
    let needs = format!("one more worker needs {} MB on {at}: ", part.0);
    let staying = scene.staying();
    let never = need
        .iter()
        .any(|(&on, &part)| part > scene.at_best(on, &staying));
    Some(
        match (never, need.keys().any(|&on| scene.is_squeezed(on))) {
            (_, true) => needs,
            (true, false) => format!("{needs}{} MB needed, ", short(scene, &need)),
            (false, false) => format!("{needs}{} MB free", scene.free(at).0),
        },
    )
}

/// The first part that there is not enough for.
fn short(scene: &Scene, need: &Parts) -> u64 {
    let staying = scene.staying();
    let short = need
        .iter()
        .find(|&(&on, &part)| part > scene.at_best(on, &staying));
    short.map_or(0, |(_, part)| part.0)
}

/// Sums per device, and whether it could ever be.
fn check_plan(scene: &Scene, pool: &Pool, model: &Model, turn: u64) -> Verdict {
    let side = u32::try_from(64 + turn % 90 * 16).unwrap_or(64);
    let size = PictureSize {
        width: side,
        height: side,
    };
    let plan = pool.plan(model.spec.key.as_str(), Some(size));
    let rule = &model.spec.sizes;
    let allowed = (rule.min..=rule.max).contains(&side)
        && side.is_multiple_of(rule.multiple)
        && size.pixels() <= scene.settings.max_pixels;
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
    for at in scene.places(model, DeviceWish::Auto) {
        let Some(need) = scene.need(model, at) else {
            continue;
        };
        let mut all = true;
        for (&on, &part) in &need {
            let more = if on == at {
                scene.extra(model, size).0
            } else {
                0
            };
            let (sum, limit, free) = (part.0 + more, scene.devices[&on].limit.0, scene.free(on).0);
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
