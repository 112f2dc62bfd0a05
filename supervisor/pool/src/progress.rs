//! What workers say while they live.

use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{Generation, JobId};
use ipc_protocol::units::Mebibytes;

use crate::action::{Action, Notice, Outcome, PictureFacts, Progress, StopReason};
use crate::blame::Cause;
use crate::budget::Amount;
use crate::event::{Fault, Footprint, Phases};
use crate::job::{Attempt, Job};
use crate::moment::Moment;
use crate::pool::Pool;
use crate::turn::Turn;
use crate::watch::Watch;
use crate::worker::{Lifecycle, Worker};

/// Waiting jobs told how the load they wait for goes.
const TOLD_MAX: usize = 32;

impl Pool {
    pub(crate) fn worker_started(&mut self, turn: &mut Turn, id: Generation, pid: u32) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.pid = Some(pid);
        worker.heard = turn.now;
        self.models[worker.model.0].record.note_started();
        turn.tell(Notice::Spawned {
            worker: id,
            name: worker.name.clone(),
            pid,
            device: worker.device,
            reserved: worker.promised().map(Amount::total).sum(),
        });
    }

    pub(crate) fn worker_said_hello(&mut self, turn: &mut Turn, id: Generation) {
        let starting = |worker: &Worker| matches!(worker.life, Lifecycle::Starting { .. });
        self.turn_worker(turn.now, id, starting, |life| life.loading(turn.now));
    }

    pub(crate) fn load_progressed(&mut self, turn: &mut Turn, id: Generation, permille: u16) {
        self.worker_heard(turn, id);
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let model = worker.model;
        let Lifecycle::Loading {
            permille: before,
            progressed,
            watch,
            ..
        } = &mut worker.life
        else {
            return;
        };
        if permille <= *before {
            return;
        }
        (*before, *progressed) = (permille.min(1000), turn.now);
        *watch = Watch::new(turn.now);
        if self.live(self.model(model)).any(Worker::is_resident) {
            return;
        }
        for job in self.model(model).queue.iter().take(TOLD_MAX) {
            turn.report(job, Progress::Loading { permille });
        }
    }

    pub(crate) fn load_failed(&mut self, turn: &mut Turn, id: Generation, message: String) {
        self.worker_heard(turn, id);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.load_failure = Some(message);
        }
    }

    pub(crate) fn worker_ready(
        &mut self,
        turn: &mut Turn,
        id: Generation,
        footprint: Option<Footprint>,
    ) {
        let loading = |worker: &Worker| matches!(worker.life, Lifecycle::Loading { .. });
        if !self.turn_worker(turn.now, id, loading, Lifecycle::resident) {
            return;
        }
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.ready = Some(turn.now);
        let load = turn.now.since(worker.spawned);
        let model = &mut self.models[worker.model.0];
        model.pace.saw_load(load);
        model.record.note_ready();
        turn.tell(Notice::Ready {
            worker: id,
            name: worker.name.clone(),
            load,
        });
        if let Some(footprint) = footprint {
            self.footprint_measured(turn, id, footprint);
        }
        self.leave_if_outdated(turn, id);
    }

    pub(crate) fn worker_heard(&mut self, turn: &mut Turn, id: Generation) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.heard = turn.now;
        }
    }

    /// A worker counts its finished pieces of work: while the count rises it does not hang.
    pub(crate) fn worker_worked(&mut self, turn: &mut Turn, id: Generation, work: u64) {
        self.worker_heard(turn, id);
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut worker.work, work) < work
            && let Some(watch) = worker.watch_mut()
        {
            *watch = Watch::new(turn.now);
        }
    }

    /// A worker that holds more than was promised to it is promised more, as far as there is room;
    /// the next one of its model is promised what the worst one held that drew usual pictures only.
    pub(crate) fn footprint_measured(
        &mut self,
        turn: &mut Turn,
        id: Generation,
        footprint: Footprint,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.footprint = Some(footprint);
        if !worker.stretched {
            let worst = &mut self.models[worker.model.0].worst;
            worst.host = worst.host.max(footprint.host);
            worst.device = worst.device.max(footprint.device);
        }
        let nothing = Amount::on(worker.device, Mebibytes::ZERO, Mebibytes::ZERO);
        let promised = worker.promised().fold(nothing, Amount::plus);
        let held = Amount::on(worker.device, footprint.host, footprint.device);
        let beyond = held.beyond(promised);
        if beyond.total().0 == 0 {
            return;
        }
        if worker.is_idle()
            && let Some(more) = self.budget.promise(beyond)
        {
            if let Some(worker) = self.workers.remove(&id) {
                let since = worker.since;
                let worker = worker.turned(since, |life| life.holding(more));
                self.workers.insert(id, worker);
            }
        } else if !std::mem::replace(&mut worker.outgrown, true) {
            turn.tell(Notice::Outgrew {
                worker: id,
                name: worker.name.clone(),
                reserved: promised.total(),
                measured: held.total(),
            });
        }
    }

    pub(crate) fn step_finished(&mut self, turn: &mut Turn, id: Generation, job: JobId, step: u32) {
        self.worker_heard(turn, id);
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let model = worker.model;
        let Some(attempt) = worker.attempt_mut(job) else {
            return;
        };
        if step > attempt.steps {
            let what = format!("step {step} of {}", attempt.steps);
            self.worker_broke_protocol(turn, id, what);
            // Steps place nothing, but who leaves may make room for who waits.
            return self.settle(turn);
        }
        if step <= attempt.step {
            return;
        }
        let first = attempt.step == attempt.from_step;
        let took = turn.now.since(attempt.progressed) / (step - attempt.step);
        (attempt.step, attempt.progressed) = (step, turn.now);
        attempt.watch = Watch::new(turn.now);
        let (pixels, total) = (attempt.pixels, attempt.steps);
        let elapsed = turn.now.since(attempt.began);
        if !first {
            self.models[model.0].pace.saw_step(took, pixels);
        }
        turn.report(
            job,
            Progress::Step {
                index: step,
                total,
                elapsed,
            },
        );
    }

    pub(crate) fn job_finished(
        &mut self,
        turn: &mut Turn,
        id: Generation,
        job: JobId,
        phases: Phases,
    ) {
        self.worker_heard(turn, id);
        let Some(attempt) = self.release_worker(turn, id, job) else {
            return;
        };
        let Some(done) = self.take_job(job) else {
            return;
        };
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.jobs_done += 1;
        let facts = facts(worker, &done, &attempt, phases, turn.now);
        let (encode, decode) = (phases.encode, facts.decode);
        let outcome = Outcome::Picture(facts);
        turn.act(Action::Answer { job, outcome });
        let model = &mut self.models[done.model.0];
        model
            .pace
            .saw_picture(encode.min(turn.now.since(attempt.began)), decode);
        model.raised_percent = 0;
        if model.record.note_success(turn.now, &self.settings) {
            let model = model.spec.key.clone();
            turn.tell(Notice::BreakerClosed { model });
        }
        self.leave_if_outdated(turn, id);
    }

    pub(crate) fn job_failed(&mut self, turn: &mut Turn, id: Generation, job: JobId, fault: Fault) {
        self.worker_heard(turn, id);
        let Some(name) = self.workers.get(&id).map(|worker| worker.name.clone()) else {
            return;
        };
        let Some(attempt) = self.release_worker(turn, id, job) else {
            return;
        };
        let Some(model) = self.jobs.get(&job).map(|job| job.model) else {
            return;
        };
        let kind = FailureKind::ModelFailed;
        let failure = match fault {
            Fault::BadRequest { field, message } => Failure::bad_value(field, message),
            Fault::OutOfMemory { message } => {
                let how = format!("{name} ran out of memory: {message}");
                self.place_again(turn, &attempt, Cause::OutOfMemory, how, None);
                return self.leave_if_outdated(turn, id);
            }
            Fault::NotFinite { stage } => {
                Failure::new(kind, format!("values that are not finite at {stage}"))
            }
            Fault::Cancelled => Failure::new(kind, format!("{name} gave the job up unasked")),
            Fault::Other { message } => Failure::new(kind, message),
        };
        if failure.kind == kind {
            let record = &mut self.model_mut(model).record;
            record.note_last(failure.message.clone());
            self.note_failure(turn, model);
        }
        self.take_job(job);
        turn.fail(job, failure);
        self.leave_if_outdated(turn, id);
    }

    /// Takes `job` off a worker that is done with it, one way or the other. Gives the attempt back
    /// where its job still wants an answer; a worker that is on its way out stays on it.
    fn release_worker(&mut self, turn: &mut Turn, id: Generation, job: JobId) -> Option<Attempt> {
        let worker = self.workers.get(&id)?;
        if worker.job_at_hand() != Some(job) {
            return None;
        }
        let worker = self.workers.remove(&id)?;
        let (worker, extra, attempt) = worker.released(turn.now);
        self.workers.insert(id, worker);
        if let Some(extra) = extra {
            self.budget.give_back(extra);
        }
        if attempt.is_none() {
            self.leave_if_outdated(turn, id);
        }
        attempt
    }

    pub(crate) fn leave_if_outdated(&mut self, turn: &mut Turn, id: Generation) {
        let outdated = |worker: &Worker| worker.outdated && worker.is_idle();
        if self.workers.get(&id).is_some_and(outdated) {
            self.end_worker(turn, id, StopReason::Outdated);
        }
    }

    /// Turns a worker that is in the right state for it; a message that comes at the wrong time
    /// changes nothing. Says whether it did.
    fn turn_worker(
        &mut self,
        now: Moment,
        id: Generation,
        right: impl Fn(&Worker) -> bool,
        next: impl FnOnce(Lifecycle) -> Lifecycle,
    ) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else {
            return false;
        };
        // At the wrong time it is a sign of life all the same.
        worker.heard = now;
        if !right(worker) {
            return false;
        }
        let Some(worker) = self.workers.remove(&id) else {
            return false;
        };
        self.workers.insert(id, worker.turned(now, next));
        true
    }
}

fn facts(
    worker: &Worker,
    job: &Job,
    attempt: &Attempt,
    phases: Phases,
    now: Moment,
) -> PictureFacts {
    // The worker's own figures are taken as far as they can be true.
    let spent = now.since(attempt.began);
    let first = job.first_start;
    PictureFacts {
        worker: worker.name.clone(),
        attempts: job.attempts,
        resumed_from_step: attempt.from_step,
        queue: first.map_or(Duration::ZERO, |first| first.queue),
        load: first.map_or(Duration::ZERO, |first| first.load),
        denoise: phases.denoise.min(spent),
        decode: phases.decode.min(spent),
        seed: job.parameters.seed,
        size: job.parameters.size,
        steps: job.parameters.steps,
    }
}
