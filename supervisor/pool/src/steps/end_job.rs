//! Ends jobs without a picture, and decides what becomes of a job that lost its worker.

use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{Device, DeviceConstraint, JobId};
use ipc_protocol::units::{Mebibytes, counted};

use crate::questions::standing::quarantined;
use crate::questions::wants::WorkerWant;
use crate::state::attempt::Attempt;
use crate::state::job::{Job, Loss};
use crate::state::model::Model;
use crate::state::quarantine::QuarantineEvidence;
use crate::state::worker::Withdrawal;
use crate::state::{State, TakenFrom};
use crate::words::action::Action;
use crate::words::cause::Cause;
use crate::words::lasting::LastingFact;
use crate::words::notice::Notice;
use crate::words::registry::ModelId;
use crate::words::turn::Turn;

/// Attempts in a row without a new step after which a job is given up, whatever ended them.
const FRUITLESS_MAX: u32 = 16;
/// The same for attempts that ended because the worker went silent: each costs the time of a hang.
const SILENT_MAX: u32 = 5;
/// The time of such attempts after which the next one ends the job.
const FRUITLESS_TIME_MAX: Duration = Duration::from_secs(4 * 3600);
/// A job that runs out of memory this often, the second time with more memory, is given up.
const MEMORY_MAX: u32 = 2;
/// Deaths listed in the answer of a job that is given up.
const DEATHS_TOLD_MAX: usize = 3;
/// When another try may help after workers were lost to causes outside.
pub(crate) const RETRY_MS: u64 = 5000;

/// Ends a job without a picture, wherever it is, with its one answer.
pub(crate) fn end_job(state: &mut State, turn: &mut Turn, id: JobId, failure: Failure) {
    let Some(taken) = state.take_job(id, turn.now()) else {
        return turn.defect(format!("job {id} is to end and unknown"));
    };
    turn.fail(id, failure);
    match taken {
        TakenFrom::Queue | TakenFrom::Worker(_, Withdrawal::Dropped) => {}
        TakenFrom::Worker(worker, Withdrawal::Cancel) => {
            turn.act(Action::Cancel { worker, job: id });
        }
        TakenFrom::Worker(worker, Withdrawal::Unknown) => {
            turn.defect(format!(
                "job {id} ran on worker {worker}, which did not have it"
            ));
        }
    }
}

/// Ends a job that no worker has any more, with its one answer.
fn end_lost_job(state: &mut State, turn: &mut Turn, id: JobId, failure: Failure) {
    match state.jobs_mut().take(id) {
        Some(_) => turn.fail(id, failure),
        None => turn.defect(format!("job {id} lost its worker and is unknown")),
    }
}

/// Fails the waiting jobs that need the worker `want`, because that worker cannot be started.
pub(crate) fn fail_wanting(
    state: &mut State,
    turn: &mut Turn,
    want: WorkerWant,
    failure: &Failure,
) {
    let wants = |id: &JobId| {
        let job = state.jobs().get(*id);
        job.is_some_and(|job| want.device == DeviceConstraint::Auto || job.device() == want.device)
    };
    let waiting = state.jobs().queue(want.model).iter();
    for job in waiting.filter(wants).collect::<Vec<JobId>>() {
        end_job(state, turn, job, failure.clone());
    }
}

/// Fails all waiting jobs of a model.
pub(crate) fn fail_waiting(state: &mut State, turn: &mut Turn, model: ModelId, failure: &Failure) {
    let waiting = state.jobs().queue(model).iter();
    for job in waiting.collect::<Vec<JobId>>() {
        end_job(state, turn, job, failure.clone());
    }
}

/// Puts a job that lost its worker first in its queue, or gives it up.
///
/// Deaths that the worker caused itself are evidence against the request if they happen at the same step: at
/// `max_attempts` of them it is quarantined. Deaths from outside are no evidence, but attempts without a new step
/// are bounded all the same.
pub(crate) fn place_again(
    state: &mut State,
    turn: &mut Turn,
    attempt: &Attempt,
    cause: Cause,
    how: String,
    resume_step: Option<u32>,
) {
    let id = attempt.job();
    let limit = state.settings().max_attempts.max(1) as usize;
    let more = state
        .jobs()
        .get(id)
        .map(|job| more_room(state.model(job.model())));
    let (Some(more), Some(job)) = (more, state.jobs_mut().get_mut(id)) else {
        return turn.defect(format!("job {id} lost its worker and is unknown"));
    };
    let step = attempt.step();
    job.note_loss(
        Loss::new(how, step, cause.accuses_job()),
        resume_step,
        turn.now(),
    );
    if matches!(cause, Cause::OutOfMemory | Cause::KernelOutOfMemory) {
        job.widen(more);
    }
    if cause == Cause::OutOfMemory {
        job.note_out_of_memory();
    }
    let hangs = cause == Cause::Silent && job.note_silence() >= SILENT_MAX;
    let gives_up = hangs
        || job.fruitless() >= FRUITLESS_MAX
        || job.fruitless_for(turn.now()) >= FRUITLESS_TIME_MAX;
    if cause.accuses_job() && suspect_deaths(state, id, step).len() >= limit {
        quarantine_job(state, turn, id, step);
        return;
    }
    let Some(job) = state.jobs().get(id) else {
        return turn.defect(format!("job {id} lost its worker and is unknown"));
    };
    if job.out_of_memory() >= MEMORY_MAX {
        let failure = out_of_memory(job);
        end_lost_job(state, turn, id, failure);
    } else if gives_up {
        let failure = worker_lost(job);
        end_lost_job(state, turn, id, failure);
    } else {
        wait_again(state, turn, id);
    }
}

fn wait_again(state: &mut State, turn: &mut Turn, id: JobId) {
    let Some(job) = state.jobs_mut().wait_again(id, turn.now()) else {
        return turn.defect(format!("job {id} is to wait again and does not run"));
    };
    turn.tell(Notice::PlacedAgain {
        job: id,
        resume_step: job.resume_step(),
        attempt: job.attempts() + 1,
    });
    if job.is_detached() {
        let past = job.past();
        turn.remember(LastingFact::JobLost { job: id, past });
    }
}

/// The jobs without an answer that ask for the same as `id`, itself among them.
fn jobs_alike(state: &State, id: JobId) -> Vec<JobId> {
    let Some(job) = state.jobs().get(id) else {
        return Vec::new();
    };
    let model_digest = &state.model(job.model()).spec().digest;
    let fingerprint = job.fingerprint(model_digest);
    let waiting = state.jobs().queue(job.model()).iter();
    let workers = state.fleet().of(job.model());
    let running = workers.filter_map(|worker| worker.attempt().map(Attempt::job));
    let alike = |other: &JobId| {
        let other = state.jobs().get(*other);
        other.is_some_and(|other| other.fingerprint(model_digest) == fingerprint)
    };
    let others = waiting.chain(running).filter(|other| *other != id);
    [id].into_iter().chain(others.filter(alike)).collect()
}

/// Describes the deaths after `step` steps that the request of a job may have caused, through this job or another
/// that asks for the same.
fn suspect_deaths(state: &State, id: JobId, step: u32) -> Vec<String> {
    let alike = jobs_alike(state, id).into_iter();
    let jobs = alike.filter_map(|job| state.jobs().get(job));
    let deaths = jobs.flat_map(|job| job.suspect_losses(step));
    deaths.map(|loss| loss.how().into()).collect()
}

/// Quarantines the fingerprint of a job that killed as many workers as a job may, and fails all jobs that share
/// it.
fn quarantine_job(state: &mut State, turn: &mut Turn, id: JobId, step: u32) {
    let deaths = suspect_deaths(state, id, step);
    let others = jobs_alike(state, id).into_iter();
    let ends: Vec<JobId> = others.filter(|other| *other != id).collect();
    let Some(job) = state.jobs().get(id) else {
        return turn.defect(format!("job {id} is to be quarantined and unknown"));
    };
    let told = deaths.join("; ");
    let (fingerprint, user) = (
        job.fingerprint(&state.model(job.model()).spec().digest),
        job.user().to_owned(),
    );
    let digest = fingerprint.name();
    turn.tell(Notice::Quarantined {
        job: id,
        digest: digest.clone(),
        evidence: deaths.clone(),
    });
    let lasts = state.settings().quarantine;
    let quarantined_request = fingerprint.told(user.clone(), deaths.clone());
    turn.remember(LastingFact::Quarantined(quarantined_request));
    let evidence = QuarantineEvidence::new(turn.now(), user, deaths);
    state.quarantine_mut().keep(fingerprint, evidence, lasts);
    for job in ends {
        end_job(state, turn, job, quarantined(&digest, &told, lasts));
    }
    end_lost_job(state, turn, id, quarantined(&digest, &told, lasts));
}

/// The answer of a job that ran out of memory too often.
fn out_of_memory(job: &Job) -> Failure {
    let message = format!(
        "ran out of memory {}: {}; a smaller picture needs less",
        counted(job.out_of_memory().into(), "time"),
        last_deaths(job)
    );
    Failure::new(FailureKind::MemoryExhausted, message).retry_after_ms(RETRY_MS)
}

/// The answer of a job that lost too many workers and is not accused of it.
fn worker_lost(job: &Job) -> Failure {
    let message = format!(
        "lost its worker {}, which is not held against the request: {}; try again later",
        counted(job.losses().len() as u64, "time"),
        last_deaths(job)
    );
    Failure::new(FailureKind::WorkerLost, message).retry_after_ms(RETRY_MS)
}

fn last_deaths(job: &Job) -> String {
    let losses = job.losses();
    let last = &losses[losses.len().saturating_sub(DEATHS_TOLD_MAX)..];
    let last: Vec<&str> = last.iter().map(Loss::how).collect();
    last.join("; ")
}

/// Memory beyond the computed need for a job that ran out of memory.
fn more_room(model: &Model) -> Mebibytes {
    let spec = model.spec();
    let activations = [Device::Host, Device::Cuda(0)].map(|device| spec.activation_on(device));
    let usual = activations.map(|activation| activation.at(spec.default_size).0);
    Mebibytes((usual[0].max(usual[1]) / 2).max(64))
}
