//! Messages of workers, and measurements of them.

use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{Generation, JobId};
use ipc_protocol::messages::worker::JobFault;

use crate::questions::idle::{limits, overdue};
use crate::settle::settle;
use crate::state::State;
use crate::state::attempt::Attempt;
use crate::state::job::Job;
use crate::state::worker::{Overdue, Worker};
use crate::steps::blame::note_failure;
use crate::steps::end_job::place_again;
use crate::steps::end_worker::{break_protocol, end_worker, leave_if_outdated};
use crate::steps::footprint;
use crate::steps::run::release_worker;
use crate::words::action::{Action, Outcome, PictureFacts, Progress};
use crate::words::cause::Cause;
use crate::words::event::{CpuTime, Footprint, Phases};
use crate::words::moment::Moment;
use crate::words::notice::Notice;
use crate::words::reasons::StopReason;
use crate::words::turn::Turn;

/// The most waiting jobs that get reports of a load's progress.
const LOAD_TOLD_MAX: usize = 32;

/// The process of a worker exists.
pub(crate) fn started(state: &mut State, turn: &mut Turn, id: Generation, pid: u32) {
    let Some(worker) = state.fleet_mut().get_mut(id) else {
        return;
    };
    worker.note_started(pid, turn.now());
    turn.tell(Notice::Spawned {
        worker: id,
        name: worker.name().clone(),
        pid,
        device: worker.device(),
        reserved: worker.promised().map(|amount| amount.total()).sum(),
    });
    let model = worker.model();
    state.model_mut(model).record_mut().note_started();
}

/// A worker gave a sign of life.
pub(crate) fn heard(state: &mut State, turn: &Turn, id: Generation) {
    if let Some(worker) = state.fleet_mut().get_mut(id) {
        worker.note_heard(turn.now());
    }
}

/// A worker said hello: it loads from now on. At the wrong time it is a sign of life only.
pub(crate) fn said_hello(state: &mut State, turn: &Turn, id: Generation) {
    heard(state, turn, id);
    state.fleet_mut().begin_load(id, turn.now());
}

/// A worker has loaded a further part of its model.
pub(crate) fn load_progressed(state: &mut State, turn: &mut Turn, id: Generation, permille: u16) {
    heard(state, turn, id);
    let Some(worker) = state.fleet_mut().get_mut(id) else {
        return;
    };
    if !worker.note_load(permille, turn.now()) {
        return;
    }
    let model = worker.model();
    if state.fleet().live(model).any(Worker::is_resident) {
        return;
    }
    for job in state.jobs().queue(model).iter().take(LOAD_TOLD_MAX) {
        turn.report(job, Progress::Loading { permille });
    }
}

/// A worker says why its load failed; its exit follows.
pub(crate) fn load_failed(state: &mut State, turn: &Turn, id: Generation, message: String) {
    heard(state, turn, id);
    if let Some(worker) = state.fleet_mut().get_mut(id) {
        worker.note_load_failure(message);
    }
}

/// A worker has loaded its model. At the wrong time it is a sign of life only.
pub(crate) fn ready(
    state: &mut State,
    turn: &mut Turn,
    id: Generation,
    footprint: Option<Footprint>,
) {
    heard(state, turn, id);
    if !state.fleet_mut().finish_load(id, turn.now()) {
        return;
    }
    let Some(worker) = state.fleet_mut().get_mut(id) else {
        return turn.defect(format!("worker {id} is ready and unknown"));
    };
    let load = worker.note_ready(turn.now());
    turn.tell(Notice::Ready {
        worker: id,
        name: worker.name().clone(),
        load,
    });
    let model = worker.model();
    let model = state.model_mut(model);
    model.observed_mut().pace_mut().saw_load(load);
    model.record_mut().note_ready();
    if let Some(footprint) = footprint {
        footprint::note(state, turn, id, footprint);
    }
    leave_if_outdated(state, turn, id);
}

/// The memory of a worker was measured. If more is promised from now on, what fits is decided again.
pub(crate) fn footprint_measured(
    state: &mut State,
    turn: &mut Turn,
    id: Generation,
    footprint: Footprint,
) {
    if footprint::note(state, turn, id, footprint) {
        settle(state, turn);
    }
}

/// A worker counts its finished pieces of work: while the count rises it does not hang.
pub(crate) fn worked(state: &mut State, turn: &Turn, id: Generation, work: u64) {
    heard(state, turn, id);
    if let Some(worker) = state.fleet_mut().get_mut(id) {
        worker.note_work(work, turn.now());
    }
}

/// The processor time of a worker without progress was measured, or could not be: the worker is stopped or gets
/// more time.
pub(crate) fn cpu_measured(
    state: &mut State,
    turn: &mut Turn,
    id: Generation,
    cpu: Option<CpuTime>,
) {
    let Some(worker) = state.fleet().get(id) else {
        return;
    };
    let limits = limits(state, worker);
    let worker = state.fleet_mut().get_mut(id);
    let verdict = worker
        .and_then(Worker::watch_mut)
        .and_then(|watch| watch.measured(turn.now(), cpu, &limits));
    let Some(worker) = state.fleet().get(id) else {
        return;
    };
    // It may be overdue only if it got what it wanted, which is known now.
    let verdict = verdict.or_else(|| match overdue(state, worker) {
        (at, Overdue::Stop(why)) if at <= turn.now() => Some(why),
        (_, Overdue::Stop(_) | Overdue::NextStep | Overdue::Measure | Overdue::NoSample) => None,
    });
    match verdict {
        Some(StopReason::Stuck) if worker.is_starting() => {
            end_worker(state, turn, id, StopReason::NoHello);
        }
        Some(why) => end_worker(state, turn, id, why),
        None => {}
    }
}

/// A worker has finished a step, and its latents are in the segment.
pub(crate) fn step_finished(
    state: &mut State,
    turn: &mut Turn,
    id: Generation,
    job: JobId,
    step: u32,
) {
    heard(state, turn, id);
    let Some(worker) = state.fleet_mut().get_mut(id) else {
        return;
    };
    let model = worker.model();
    let Some(attempt) = worker.attempt_mut(job) else {
        return;
    };
    let (pixels, total) = (attempt.pixels(), attempt.steps());
    if step > total {
        break_protocol(state, turn, id, format!("step {step} of {total}"));
        // A step places no job, but the end of a worker may make room for one.
        return settle(state, turn);
    }
    let Some(taken) = attempt.finish_step(step, turn.now()) else {
        return;
    };
    let elapsed = turn.now().since(attempt.began());
    if !taken.is_first() {
        let observed = state.model_mut(model).observed_mut();
        observed.pace_mut().saw_step(taken.took(), pixels);
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

/// A worker has finished its job: the picture is the job's answer.
pub(crate) fn job_finished(
    state: &mut State,
    turn: &mut Turn,
    id: Generation,
    job: JobId,
    phases: Phases,
) {
    heard(state, turn, id);
    let Some(attempt) = release_worker(state, turn, id, job) else {
        return;
    };
    let Some(done) = state.jobs_mut().take(job) else {
        return turn.defect(format!("job {job} is finished and unknown"));
    };
    let Some(worker) = state.fleet_mut().get_mut(id) else {
        return turn.defect(format!("worker {id} finished job {job} and is unknown"));
    };
    worker.note_job_done();
    let device = worker.device();
    let facts = facts(worker, &done, &attempt, phases, turn.now());
    let spent = turn.now().since(attempt.began());
    let (encode, decode) = (phases.encode.min(spent), facts.decode);
    let outcome = Outcome::Picture(facts);
    turn.act(Action::Answer { job, outcome });
    state.budget_mut().note_success(device);
    let observed = state.model_mut(done.model()).observed_mut();
    observed.pace_mut().saw_picture(encode, decode);
    observed.lower_need();
    if state.note_success(done.model(), turn.now()) {
        let model = state.model(done.model()).spec().key.clone();
        turn.tell(Notice::BreakerClosed { model });
    }
    leave_if_outdated(state, turn, id);
}

/// A worker gave up its job and lives on: the job fails, or is placed again if memory was short.
pub(crate) fn job_failed(
    state: &mut State,
    turn: &mut Turn,
    id: Generation,
    job: JobId,
    fault: JobFault,
) {
    heard(state, turn, id);
    let Some(name) = state.fleet().get(id).map(|worker| worker.name().clone()) else {
        return;
    };
    let Some(attempt) = release_worker(state, turn, id, job) else {
        return;
    };
    let kind = FailureKind::ModelFailed;
    let failure = match fault {
        JobFault::BadRequest { field, message } => Failure::bad_value(field, message),
        JobFault::OutOfMemory { message } => {
            let how = format!("{name} ran out of memory: {message}");
            place_again(state, turn, &attempt, Cause::OutOfMemory, how, None);
            return leave_if_outdated(state, turn, id);
        }
        JobFault::NotFinite { stage } => {
            Failure::new(kind, format!("values that are not finite at {stage}"))
        }
        JobFault::Cancelled => Failure::new(kind, format!("{name} gave the job up unasked")),
        JobFault::Other { message } => Failure::new(kind, message),
    };
    let Some(failed) = state.jobs_mut().take(job) else {
        return turn.defect(format!("job {job} failed and is unknown"));
    };
    if failure.kind == kind {
        let record = state.model_mut(failed.model()).record_mut();
        record.note_last(failure.message.clone());
        note_failure(state, turn, failed.model());
    }
    turn.fail(job, failure);
    leave_if_outdated(state, turn, id);
}

/// Returns the facts of a picture. The worker's own figures are believed as far as they can be true.
fn facts(
    worker: &Worker,
    job: &Job,
    attempt: &Attempt,
    phases: Phases,
    now: Moment,
) -> PictureFacts {
    let spent: Duration = now.since(attempt.began());
    let first = job.first_start();
    let parameters = job.parameters();
    PictureFacts {
        worker: worker.name().clone(),
        attempts: job.attempts(),
        resume_step: attempt.resume_step(),
        queue: first.queue(),
        load: first.load(),
        denoise: phases.denoise.min(spent),
        decode: phases.decode.min(spent),
        seed: parameters.seed,
        size: parameters.size,
        steps: parameters.steps,
    }
}
