//! Why a job waits, and what a job would take, in sentences.

use std::time::Duration;

use ipc_protocol::failure::{Failure, Field};
use ipc_protocol::ids::{Device, DeviceConstraint, JobId};
use ipc_protocol::units::{Mebibytes, PictureSize};

use crate::questions::admission::unknown_model;
use crate::questions::room::{self, Room, devices};
use crate::questions::waiting::grows_at;
use crate::state::State;
use crate::state::job::{Job, JobStage};
use crate::state::lifecycle::Lifecycle;
use crate::state::model::Standing;
use crate::state::pace::Pace;
use crate::state::record::RestartVerdict;
use crate::state::worker::Worker;
use crate::words::moment::Moment;
use crate::words::registry::ModelId;

/// Longest reason, in bytes: a frame of progress holds 4 KiB.
const REASON_BYTES_MAX: usize = 3000;

/// Earlier jobs whose own steps count in a prediction.
const LOOKED_AT_MAX: usize = 32;

/// The arithmetic of `imagepool plan`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One sentence per device and step of the arithmetic.
    pub lines: Vec<String>,
    /// A job like this could ever run.
    pub possible: bool,
}

/// Why a job waits, in a sentence with numbers; `None` for an unknown or answered job.
pub(crate) fn explain(state: &State, now: Moment, job: JobId) -> Option<String> {
    if let Some((model, _)) = state.requests().find(job) {
        return Some(format!("waiting: {}", files_reason(state, model)));
    }
    let job = state.jobs().get(job)?;
    Some(match job.stage() {
        JobStage::Waiting { .. } => format!("waiting: {}", waiting_reason(state, now, job)),
        JobStage::Running { worker } => {
            let worker = state.fleet().get(worker);
            let doing = worker.map(|worker| doing(state, worker, now));
            format!("running: {}", doing.unwrap_or_default())
        }
    })
}

/// Returns the memory of a job of `model` at `size`, and whether it could run.
///
/// # Errors
/// There is no such model, or it has no such size.
pub(crate) fn plan(state: &State, name: &str, size: Option<PictureSize>) -> Result<Plan, Failure> {
    let id = state
        .find_model(name)
        .ok_or_else(|| unknown_model(state, name))?;
    let model = state.model(id);
    let size = size.unwrap_or(model.spec().default_size);
    let sizes = model.spec().sizes.check(size, state.settings().max_pixels);
    sizes.map_err(|why| Failure::bad_value(Field::Size, why))?;
    let mut plan = Plan {
        lines: vec![format!("{} at {size}:", model.spec().key)],
        possible: false,
    };
    for device in devices(state, id, DeviceConstraint::Auto) {
        let Some(base) = model.need_on(device, state.settings()) else {
            continue;
        };
        let extra = model.extra_for(device, size, Mebibytes::ZERO);
        for (at, part) in base.parts() {
            let (limit, free) = (state.budget().limit(at), state.budget().free(at));
            let need = part + extra.at(at);
            let fits = if need <= limit { "fits" } else { "never fits" };
            plan.lines.push(format!(
                "on {}: {} MB of {at} to be resident + {} MB for this size = {} MB; limit {} MB, {} MB free: {fits}",
                device.placement(), part.0, extra.at(at).0, need.0, limit.0, free.0
            ));
        }
        plan.possible |= base
            .parts()
            .all(|(at, part)| part + extra.at(at) <= state.budget().limit(at));
    }
    let devices = state.budget().devices();
    let obstacles = devices.filter_map(|device| state.budget().obstacle(device, state.now()));
    plan.lines.extend(obstacles.map(|obstacle| obstacle.reason));
    let room = room::for_worker(state, id, DeviceConstraint::Auto);
    let line = room.map(|(device, room)| room_words(state, device, &room));
    plan.lines.push(match line {
        Some(line) => format!("one more worker: {line}"),
        None => "no device that is usable now can run it".into(),
    });
    Ok(plan)
}

/// Why a request waits that has not become jobs.
pub(crate) fn files_reason(state: &State, model: ModelId) -> String {
    format!("for the files of {}", state.model(model).spec().key)
}

/// Why a waiting job waits.
pub(crate) fn waiting_reason(state: &State, now: Moment, job: &Job) -> String {
    let before = state.jobs().queue(job.model()).before(job.id()).count();
    waiting_reason_behind(state, now, job, before)
}

/// Why a waiting job waits, with `before` jobs of its model ahead of it.
pub(crate) fn waiting_reason_behind(
    state: &State,
    now: Moment,
    job: &Job,
    before: usize,
) -> String {
    let mut parts: Vec<String> = Vec::new();
    if let Some(until) = state.yields_until() {
        let left = seconds(until.since(now));
        parts.push(format!(
            "the pool leaves its memory to other programs for {left} more"
        ));
    }
    if before > 0 {
        parts.push(format!("{before} wait before it"));
    }
    parts.extend(
        state
            .fleet()
            .of(job.model())
            .map(|worker| doing(state, worker, now)),
    );
    parts.extend(too_many_start(state, job));
    parts.extend(why_no_other(state, now, job));
    if let Some(eta) = eta(state, now, job, before) {
        parts.push(format!("its turn in about {}", seconds(eta)));
    }
    let mut reason = parts.join("; ");
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    reason
}

/// A model without workers gets none while too many others start.
fn too_many_start(state: &State, job: &Job) -> Option<String> {
    let most = state.settings().max_starting_workers;
    let coming = state.fleet().iter().filter(|worker| worker.is_coming());
    let is_full = !state.fleet().has_live(job.model()) && coming.count() >= most as usize;
    is_full.then(|| format!("{most} workers start, and no more may at once"))
}

/// Why no further worker of the model starts.
fn why_no_other(state: &State, now: Moment, job: &Job) -> Option<String> {
    let model = state.model(job.model());
    let key = &model.spec().key;
    let left = |until: Moment| seconds(until.since(now));
    match model.standing(now) {
        Standing::Tried(RestartVerdict::Go | RestartVerdict::Probe) => {}
        Standing::Tried(RestartVerdict::BackOff(at)) => {
            let last = model.last_failure("; last failure: ");
            return Some(format!("{key} starts again in {}{last}", left(at)));
        }
        Standing::Tried(RestartVerdict::Cool(cooling)) => {
            let again = left(cooling.until());
            return Some(format!(
                "{key} cannot load: {}; again in {again}",
                cooling.message()
            ));
        }
        Standing::Tried(RestartVerdict::Open(until, failures)) => {
            let again = left(until);
            let last = model.last_failure("; last failure: ");
            return Some(format!(
                "{key} failed {failures} times in a row; again in {again}{last}"
            ));
        }
        Standing::Stopped => return Some(format!("{key} is stopped")),
        Standing::Missing(why) | Standing::Broken(why) => {
            return Some(format!("{key}: {why}"));
        }
        Standing::Unread => return Some(format!("the files of {key} are being looked at")),
    }
    let most = model.most(state.settings());
    if state.fleet().count(job.model()) >= most {
        return Some(match most {
            1 => format!("{key} has its one worker"),
            _ => format!("{key} has its {most} workers"),
        });
    }
    let Some((device, room)) = room::for_worker(state, job.model(), job.device()) else {
        return Some(format!("no device that is usable now can run {key}"));
    };
    if room == Room::Free && state.fleet().has_live(job.model()) {
        let grows = grows_at(state, job.model()).filter(|&at| at > now)?;
        return Some(format!("one more worker in {}", left(grows)));
    }
    let need = model.need_on(device, state.settings())?.at(device);
    Some(format!(
        "one more worker needs {} MB on {device}: {}",
        need.0,
        room_words(state, device, &room)
    ))
}

fn room_words(state: &State, device: Device, room: &Room) -> String {
    let free = state.budget().free(device).0;
    match room {
        Room::Free => format!("{free} MB free"),
        Room::Leaving if state.budget().squeezed(device) > Mebibytes::ZERO => {
            format!("{free} MB free, other programs are asked for the rest")
        }
        Room::Leaving => format!("{free} MB free, the rest is about to be"),
        Room::Evict(victims) => {
            let names = victims.iter().filter_map(|&id| state.fleet().get(id));
            let names: Vec<String> = names.map(|worker| worker.name().to_string()).collect();
            format!("{free} MB free, {} would have to leave", names.join(", "))
        }
        Room::Later => format!("{free} MB free, others are at work there"),
        Room::Never(short) => {
            let kept = state.models().filter(|m| m.floor(state.settings()) > 0);
            let kept: Vec<String> = kept.map(|model| model.spec().key.to_string()).collect();
            let kept = match kept.as_slice() {
                [] => String::new(),
                keys => format!(", {} stay", keys.join(", ")),
            };
            format!(
                "{} MB needed, {} MB available{kept}",
                short.need().0,
                short.available().0
            )
        }
    }
}

fn doing(state: &State, worker: &Worker, now: Moment) -> String {
    let name = worker.name();
    match worker.life() {
        Lifecycle::Starting { .. } => format!("{name} starts"),
        Lifecycle::Loading { permille, .. } => format!("{name} loads, {} %", permille / 10),
        Lifecycle::Idle { .. } => format!("{name} idle"),
        Lifecycle::Busy { attempt, .. } => {
            let rest = state
                .model(worker.model())
                .observed()
                .pace()
                .rest(attempt, now);
            let about = rest.map_or(String::new(), |rest| format!(", about {}", seconds(rest)));
            format!(
                "{name} busy, step {}/{}{about}",
                attempt.step(),
                attempt.steps()
            )
        }
        Lifecycle::Unwinding { .. } => format!("{name} ends a cancelled job"),
        Lifecycle::Stopping { why, .. } => format!("{name} leaves ({})", why.word()),
    }
}

/// Time until a job with `before` jobs ahead is likely to start; `None` if that cannot be known. Each job ahead
/// goes to the worker that is free first, and takes its own steps.
fn eta(state: &State, now: Moment, waiting: &Job, before: usize) -> Option<Duration> {
    let pace = state.model(waiting.model()).observed().pace();
    let resident = state
        .fleet()
        .live(waiting.model())
        .filter(|worker| worker.is_resident());
    let mut rests = resident
        .map(|worker| rest_of(pace, worker, now))
        .collect::<Option<Vec<Duration>>>()?;
    let mut known = Duration::ZERO;
    let mut looked_at = 0;
    for earlier in state
        .jobs()
        .queue(waiting.model())
        .before(waiting.id())
        .take(LOOKED_AT_MAX)
    {
        let parameters = state.jobs().get(earlier)?.parameters();
        let picture = pace.picture(parameters.size.pixels(), parameters.steps)?;
        *rests.iter_mut().min()? += picture;
        (known, looked_at) = (known + picture, looked_at + 1);
    }
    // The rest of a long queue is assumed to be like its head.
    let others = u32::try_from(before).ok()?.saturating_sub(looked_at);
    let workers = u32::try_from(rests.len()).ok()?;
    let more = known / looked_at.max(1) * others / workers.max(1);
    Some(rests.into_iter().min()? + more)
}

/// Time until a worker is free: the rest of its own job, by its own steps.
fn rest_of(pace: &Pace, worker: &Worker, now: Moment) -> Option<Duration> {
    match worker.life() {
        Lifecycle::Busy { attempt, .. } => pace.rest(attempt, now),
        Lifecycle::Starting { .. }
        | Lifecycle::Loading { .. }
        | Lifecycle::Idle { .. }
        | Lifecycle::Unwinding { .. }
        | Lifecycle::Stopping { .. } => Some(Duration::ZERO),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
