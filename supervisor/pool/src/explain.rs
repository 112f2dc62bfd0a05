//! Why a job waits, and what a job would take: the pool's own arithmetic, in sentences.

use std::time::Duration;

use ipc_protocol::failure::{Failure, Field};
use ipc_protocol::ids::{Device, DeviceWish, JobId};
use ipc_protocol::units::{Mebibytes, PictureSize};

use crate::job::{Job, Stage};
use crate::model::{Model, Standing};
use crate::moment::Moment;
use crate::pool::Pool;
use crate::restart::Verdict;
use crate::room::Room;
use crate::worker::{Lifecycle, Worker};

/// Longest reason: a wait of many workers is told in a frame of 4 KiB.
const REASON_BYTES_MAX: usize = 3000;

/// Earlier jobs whose own steps are counted for a prediction.
const LOOKED_AT_MAX: usize = 32;

/// The arithmetic of `imagepool plan`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One sentence per device and step of the arithmetic.
    pub lines: Vec<String>,
    /// A job like this could ever run.
    pub possible: bool,
}

impl Pool {
    /// Why a job waits, in a sentence with numbers; `None` for a job that is answered or unknown.
    pub fn explain(&self, now: Moment, job: JobId) -> Option<String> {
        let job = self.jobs.get(&job)?;
        Some(match job.stage {
            Stage::Waiting { .. } => format!("waiting: {}", self.waiting_reason(now, job)),
            Stage::Running { worker } => {
                let worker = self.workers.get(&worker);
                let doing = worker.map(|worker| self.doing(worker, now));
                format!("running: {}", doing.unwrap_or_default())
            }
        })
    }

    /// What a job of `model` at `size` would take and whether it could run.
    ///
    /// # Errors
    /// There is no such model, or it has no such size.
    pub fn plan(&self, model: &str, size: Option<PictureSize>) -> Result<Plan, Failure> {
        let id = self
            .find_model(model)
            .ok_or_else(|| self.unknown_model(model))?;
        let model = self.model(id);
        let size = size.unwrap_or(model.spec.default_size);
        let sizes = model.spec.sizes.check(size, self.settings.max_pixels);
        sizes.map_err(|why| Failure::bad_value(Field::Size, why))?;
        let mut plan = Plan {
            lines: vec![format!("{} at {size}:", model.spec.key)],
            possible: false,
        };
        for device in self.places(model, DeviceWish::Auto) {
            let Some(base) = model.need_on(device, &self.settings) else {
                continue;
            };
            let extra = model.extra_for(device, size, Mebibytes::ZERO);
            for (at, part) in base.parts() {
                let (limit, free) = (self.budget.limit(at), self.budget.free(at));
                let need = part + extra.at(at);
                let fits = if need <= limit { "fits" } else { "never fits" };
                plan.lines.push(format!(
                    "on {}: {} MB of {at} to be resident + {} MB for this size = {} MB; limit {} MB, {} MB free: {fits}",
                    device.placement(), part.0, extra.at(at).0, need.0, limit.0, free.0
                ));
            }
            plan.possible |= base
                .parts()
                .all(|(at, part)| part + extra.at(at) <= self.budget.limit(at));
        }
        let room = self.room_for_worker(id, DeviceWish::Auto);
        let line = room.map(|(device, room)| self.room_words(device, &room));
        plan.lines.push(match line {
            Some(line) => format!("one more worker: {line}"),
            None => "no device that is usable now can run it".into(),
        });
        Ok(plan)
    }

    /// Why a waiting job waits.
    pub(crate) fn waiting_reason(&self, now: Moment, job: &Job) -> String {
        let before = self.model(job.model).queue.before(job.id()).count();
        self.waiting_reason_behind(now, job, before)
    }

    /// The same where it is known how many jobs of its model came before it and wait.
    pub(crate) fn waiting_reason_behind(&self, now: Moment, job: &Job, before: usize) -> String {
        let model = self.model(job.model);
        let mut parts: Vec<String> = Vec::new();
        if before > 0 {
            parts.push(format!("{before} wait before it"));
        }
        parts.extend(self.workers_of(model).map(|worker| self.doing(worker, now)));
        parts.extend(self.why_no_other(now, job, model));
        if let Some(eta) = self.eta(now, model, job, before) {
            parts.push(format!("its turn in about {}", seconds(eta)));
        }
        let mut reason = parts.join("; ");
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        reason
    }

    /// Why the model has not one worker more.
    fn why_no_other(&self, now: Moment, job: &Job, model: &Model) -> Option<String> {
        let key = &model.spec.key;
        let left = |until: Moment| seconds(until.since(now));
        match model.standing(now) {
            Standing::Tried(Verdict::Go | Verdict::Probe) => {}
            Standing::Tried(Verdict::BackOff(at)) => {
                let last = model.last_failure("; the last time: ");
                return Some(format!("{key} starts again in {}{last}", left(at)));
            }
            Standing::Tried(Verdict::Cool(cooling)) => {
                let again = left(cooling.until);
                return Some(format!(
                    "{key} cannot load: {}; again in {again}",
                    cooling.message
                ));
            }
            Standing::Tried(Verdict::Open(until, failures)) => {
                let again = left(until);
                let last = model.last_failure("; the last time: ");
                return Some(format!(
                    "{key} failed {failures} times in a row; again in {again}{last}"
                ));
            }
            Standing::Stopped => return Some(format!("{key} is stopped")),
            Standing::Missing(why) | Standing::Broken(why) => {
                return Some(format!("{key}: {why}"));
            }
            Standing::Unread => return Some(format!("the files of {key} are being looked at")),
            Standing::Retired => return Some(format!("{key} is no longer offered")),
        }
        let most = model.most(&self.settings);
        if model.workers.len() >= most {
            return Some(format!("{key} has its {most} workers"));
        }
        let (device, room) = self.room_for_worker(job.model, job.device)?;
        if room == Room::Free && self.live(model).next().is_some() {
            let grows = self.grows_at(model).filter(|&at| at > now)?;
            return Some(format!("one more worker in {}", left(grows)));
        }
        let need = model.need_on(device, &self.settings)?.at(device);
        Some(format!(
            "one more worker needs {} MB on {device}: {}",
            need.0,
            self.room_words(device, &room)
        ))
    }

    fn room_words(&self, device: Device, room: &Room) -> String {
        let free = self.budget.free(device).0;
        match room {
            Room::Free => format!("{free} MB free"),
            Room::Leaving => format!("{free} MB free, the rest is about to be"),
            Room::Evict(victims) => {
                let names = victims.iter().filter_map(|id| self.workers.get(id));
                let names: Vec<String> = names.map(|worker| worker.name.to_string()).collect();
                format!("{free} MB free, {} would have to leave", names.join(", "))
            }
            Room::Later => format!("{free} MB free, others are at work there"),
            Room::Never(short) => {
                let kept = self.models.iter().filter(|m| m.floor(&self.settings) > 0);
                let kept: Vec<String> = kept.map(|model| model.spec.key.to_string()).collect();
                let kept = match kept.as_slice() {
                    [] => String::new(),
                    keys => format!(", {} stay", keys.join(", ")),
                };
                format!(
                    "{} MB needed, {} MB available{kept}",
                    short.need.0, short.available.0
                )
            }
        }
    }

    fn doing(&self, worker: &Worker, now: Moment) -> String {
        let name = &worker.name;
        match &worker.life {
            Lifecycle::Starting { .. } => format!("{name} starts"),
            Lifecycle::Loading { permille, .. } => format!("{name} loads, {} %", permille / 10),
            Lifecycle::Idle { .. } => format!("{name} idle"),
            Lifecycle::Busy { attempt, .. } => {
                let rest = self.model(worker.model).pace.rest(attempt, now);
                let about = rest.map_or(String::new(), |rest| format!(", about {}", seconds(rest)));
                format!(
                    "{name} busy, step {}/{}{about}",
                    attempt.step, attempt.steps
                )
            }
            Lifecycle::Unwinding { .. } => format!("{name} ends a cancelled job"),
            Lifecycle::Stopping { why, .. } => format!("{name} leaves ({})", why.word()),
        }
    }

    /// When a job with so many before it is likely to start, where that can be known: each of those goes to
    /// the worker that is free first, and takes its own steps.
    fn eta(&self, now: Moment, model: &Model, waiting: &Job, before: usize) -> Option<Duration> {
        let resident = self.live(model).filter(|worker| worker.is_resident());
        let mut rests = resident
            .map(|worker| self.rest_of(model, worker, now))
            .collect::<Option<Vec<Duration>>>()?;
        let mut known = Duration::ZERO;
        let mut looked_at = 0;
        for earlier in model.queue.before(waiting.id()).take(LOOKED_AT_MAX) {
            let parameters = &self.jobs.get(&earlier)?.parameters;
            let picture = model
                .pace
                .picture(parameters.size.pixels(), parameters.steps)?;
            *rests.iter_mut().min()? += picture;
            (known, looked_at) = (known + picture, looked_at + 1);
        }
        // Of a long queue the rest is taken to be like its head.
        let others = u32::try_from(before).ok()?.saturating_sub(looked_at);
        let workers = u32::try_from(rests.len()).ok()?;
        let more = known / looked_at.max(1) * others / workers.max(1);
        Some(rests.into_iter().min()? + more)
    }

    /// Until a worker is free: what is left of its own job, by its own steps.
    fn rest_of(&self, model: &Model, worker: &Worker, now: Moment) -> Option<Duration> {
        match &worker.life {
            Lifecycle::Busy { attempt, .. } => model.pace.rest(attempt, now),
            Lifecycle::Starting { .. }
            | Lifecycle::Loading { .. }
            | Lifecycle::Idle { .. }
            | Lifecycle::Unwinding { .. }
            | Lifecycle::Stopping { .. } => Some(Duration::ZERO),
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
