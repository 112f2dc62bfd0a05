//! What becomes of jobs when workers or models fail: again, elsewhere, or an answer.

use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind, Field};
use ipc_protocol::ids::{DeviceWish, JobId};
use ipc_protocol::units::Mebibytes;

use crate::action::{Action, Notice};
use crate::blame::Cause;
use crate::job::{Attempt, Job, Loss, Stage};
use crate::model::{Model, ModelId, Standing};
use crate::moment::Moment;
use crate::pool::Pool;
use crate::quarantine::Evidence;
use crate::restart::Verdict;
use crate::turn::Turn;
use crate::worker::Lifecycle;

/// Attempts in a row that brought a job no further: after so many it is given up, whoever ended them.
const FRUITLESS_MAX: u32 = 16;
/// After running out of memory so often, the second time with more room, a job is given up.
const MEMORY_MAX: u32 = 2;
/// Deaths told in the answer of a job that is given up.
const TOLD_MAX: usize = 3;
/// When trying again may help after workers were lost to something outside.
const RETRY_MS: u64 = 5000;

impl Pool {
    /// Ends a job without a picture, wherever it is. Its one answer leaves here.
    pub(crate) fn end_job(&mut self, turn: &mut Turn, id: JobId, failure: Failure) {
        let Some(job) = self.take_job(id) else {
            return;
        };
        turn.fail(id, failure);
        let Stage::Running { worker } = job.stage else {
            return;
        };
        let Some(mut with) = self.workers.remove(&worker) else {
            return;
        };
        if matches!(with.life, Lifecycle::Busy { .. }) {
            turn.act(Action::Cancel { worker, job: id });
            with = with.turned(turn.now, |life| life.unwinding(turn.now));
        } else if let Lifecycle::Stopping { attempt, .. } = &mut with.life {
            *attempt = None;
        }
        self.workers.insert(worker, with);
    }

    /// Takes a job out of everything that knows it but its worker.
    pub(crate) fn take_job(&mut self, id: JobId) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        if let Some(deadline) = job.deadline {
            self.timers.remove(&(deadline, id));
        }
        if job.waiting_since().is_some() {
            let model = &mut self.models[job.model.0];
            model.queue.remove(&job.place);
            model.wishing.remove(&id);
            self.waiting_bytes -= job.bytes();
        }
        Some(job)
    }

    /// A job lost its worker: it goes first in its queue, or is given up.
    ///
    /// Deaths of a worker's own making are evidence against the job, and at `max_attempts` of them it is
    /// quarantined. What came from outside is none; such attempts are bounded all the same, while they
    /// bring the job no further.
    pub(crate) fn place_again(
        &mut self,
        turn: &mut Turn,
        attempt: &Attempt,
        cause: Cause,
        how: String,
        salvaged_step: Option<u32>,
    ) {
        let limit = self.settings.max_attempts.max(1) as usize;
        let Some(job) = self.jobs.get_mut(&attempt.job) else {
            return;
        };
        // What was salvaged before still holds when this attempt did not get further.
        let before = job.salvaged;
        let steps = job.parameters.steps;
        job.salvaged = before.max(salvaged_step.unwrap_or(0)).min(steps);
        job.fruitless += 1;
        if job.salvaged > before {
            job.fruitless = 0;
        }
        let suspect = cause.accuses_job();
        job.losses.push(Loss { how, suspect });
        if matches!(cause, Cause::OutOfMemory | Cause::KernelOutOfMemory) {
            if job.more_room == Mebibytes::ZERO {
                job.more_room = more_room(&self.models[job.model.0]);
            }
            job.out_of_memory += u32::from(cause == Cause::OutOfMemory);
        }
        let suspects = job.losses.iter().filter(|loss| loss.suspect).count();
        if suspects >= limit {
            self.quarantine_job(turn, attempt.job);
        } else if job.out_of_memory >= MEMORY_MAX {
            self.give_up(turn, attempt.job, FailureKind::MemoryExhausted);
        } else if job.fruitless >= FRUITLESS_MAX {
            self.give_up(turn, attempt.job, FailureKind::WorkerLost);
        } else {
            self.wait_again(turn, attempt.job);
        }
    }

    /// Puts a job that ran before at the head of its queue.
    fn wait_again(&mut self, turn: &mut Turn, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.stage = Stage::Waiting { since: turn.now };
        self.waiting_bytes += job.bytes();
        let model = &mut self.models[job.model.0];
        model.queue.push_again(id);
        if job.device != DeviceWish::Auto {
            model.wishing.insert(id);
        }
        turn.tell(Notice::PlacedAgain {
            job: id,
            from_step: job.salvaged,
            attempt: job.attempts + 1,
        });
    }

    /// Answers a job that lost its workers and is not accused of it.
    fn give_up(&mut self, turn: &mut Turn, id: JobId, kind: FailureKind) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let all = job.losses.len();
        let last = job.losses.iter().skip(all.saturating_sub(TOLD_MAX));
        let last: Vec<&str> = last.map(|loss| loss.how.as_str()).collect();
        let last = last.join("; ");
        let failure = match kind {
            FailureKind::MemoryExhausted => Failure::new(
                kind,
                format!(
                    "ran out of memory {} times: {last}; a smaller picture needs less",
                    job.out_of_memory
                ),
            ),
            _ => Failure::new(
                kind,
                format!("lost its worker {all} times, which is not held against the request: {last}; try again later"),
            )
            .retry_after_ms(RETRY_MS),
        };
        self.end_job(turn, id, failure);
    }

    /// A job killed as many workers as it may: it is answered, with those that are like it.
    fn quarantine_job(&mut self, turn: &mut Turn, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let model = job.model;
        let suspects = job.losses.iter().filter(|loss| loss.suspect);
        let deaths: Vec<String> = suspects.map(|loss| loss.how.clone()).collect();
        let told = deaths.join("; ");
        let fingerprint = job.fingerprint(&self.model(model).spec.digest);
        let digest = fingerprint.name();
        turn.tell(Notice::Quarantined {
            job: id,
            digest: digest.clone(),
            evidence: deaths.clone(),
        });
        let since = turn.now;
        let lasts = self.settings.quarantine;
        self.quarantine
            .keep(fingerprint.clone(), Evidence { since, deaths }, lasts);
        let alike = |other: &JobId| {
            let digest = &self.model(model).spec.digest;
            let other = self.jobs.get(other);
            other.is_some_and(|other| other.fingerprint(digest) == fingerprint)
        };
        let mut ends: Vec<JobId> = self.model(model).queue.iter().filter(alike).collect();
        ends.push(id);
        for job in ends {
            self.end_job(turn, job, quarantined(&digest, &told, lasts));
        }
    }

    /// Answers what waits for models that cannot serve for now and have no worker that does.
    pub(crate) fn fail_hopeless(&mut self, turn: &mut Turn) {
        for id in self.model_ids() {
            let model = self.model(id);
            if model.queue.is_empty() || self.live(model).next().is_some() {
                continue;
            }
            // What comes of a look at the files decides about the jobs that wait.
            let Some(failure) = self.refusal(id, turn.now).filter(is_settled) else {
                continue;
            };
            for job in self.model(id).queue.iter().collect::<Vec<_>>() {
                self.end_job(turn, job, failure.clone());
            }
        }
    }

    /// Why a model takes no jobs now, when it has no worker that serves.
    pub(crate) fn refusal(&self, id: ModelId, now: Moment) -> Option<Failure> {
        let model = self.model(id);
        let key = &model.spec.key;
        let left_ms = |until: Moment| {
            u64::try_from(until.since(now).as_millis())
                .unwrap_or(u64::MAX)
                .max(1)
        };
        match model.standing(now) {
            Standing::Retired => Some(Failure {
                field: Some(Field::Model),
                ..Failure::new(
                    FailureKind::UnknownModel,
                    format!("{key} is no longer offered"),
                )
            }),
            Standing::Missing(why) => Some(Failure::new(
                FailureKind::ModelMissing,
                format!("{key} cannot be loaded: {why}"),
            )),
            Standing::Broken(why) => Some(Failure::new(
                FailureKind::ModelUnusable,
                format!("{key} cannot be loaded: {why}"),
            )),
            Standing::Unread => Some(Failure::new(
                FailureKind::ModelUnread,
                format!("the files of {key} are being looked at"),
            )),
            Standing::Stopped => Some(Failure::new(
                FailureKind::Stopped,
                format!("{key} is stopped"),
            )),
            Standing::Tried(Verdict::Cool(cooling)) if cooling.to_mend => Some(Failure::new(
                FailureKind::ModelUnusable,
                format!(
                    "{key} cannot be loaded: {}; mend that and start {key}, or ask again after {} s",
                    cooling.message,
                    left_ms(cooling.until).div_ceil(1000)
                ),
            )),
            Standing::Tried(Verdict::Cool(cooling)) => Some(
                Failure::new(
                    FailureKind::LoadRefused,
                    format!(
                        "{key} cannot be loaded: {}; next try in {} s",
                        cooling.message,
                        left_ms(cooling.until).div_ceil(1000)
                    ),
                )
                .retry_after_ms(left_ms(cooling.until)),
            ),
            Standing::Tried(Verdict::Open(until, failures)) => Some(
                Failure::new(
                    FailureKind::ModelBroken,
                    format!(
                        "{key} failed {failures} times in a row; next try in {} s{}",
                        left_ms(until).div_ceil(1000),
                        model.last_failure("; the last time: ")
                    ),
                )
                .retry_after_ms(left_ms(until)),
            ),
            Standing::Tried(Verdict::Go | Verdict::Probe | Verdict::BackOff(_)) => None,
        }
    }
}

/// Whether a refusal stands: a look at a model's files is still to end.
pub(crate) fn is_settled(failure: &Failure) -> bool {
    failure.kind != FailureKind::ModelUnread
}

/// The answer of a job like one that killed its workers, which may come again after `left`.
pub(crate) fn quarantined(digest: &str, told: &str, left: Duration) -> Failure {
    let left = left.as_secs().max(1);
    let message = format!(
        "this request killed its workers and is in quarantine as {digest} for {left} s more: {told}"
    );
    Failure::new(FailureKind::Quarantined, message)
}

/// Room beyond the usual for a job that ran out of memory.
fn more_room(model: &Model) -> Mebibytes {
    let usual = model.spec.need.activation.at(model.spec.default_size);
    Mebibytes((usual.0 / 2).max(64))
}
