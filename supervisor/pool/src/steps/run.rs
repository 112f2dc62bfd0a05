//! Gives jobs to workers, and takes them off again.

use ipc_protocol::ids::{Generation, JobId};

use crate::questions::overtaking;
use crate::state::State;
use crate::state::attempt::Attempt;
use crate::state::budget::Amount;
use crate::steps::end_worker::leave_if_outdated;
use crate::words::action::{Action, Progress, Run};
use crate::words::registry::ModelId;
use crate::words::turn::Turn;

/// The most waiting jobs that get their new position when one before them starts.
const POSITIONS_TOLD_MAX: usize = 4;

/// Gives a waiting job to an idle worker, with the memory that it takes beyond what the worker holds.
pub(crate) fn run(
    state: &mut State,
    turn: &mut Turn,
    worker: Generation,
    job: JobId,
    room: Amount,
) {
    let Some(extra) = state.budget_mut().promise(room) else {
        return turn.defect(format!(
            "job {job} is to run on worker {worker} without room"
        ));
    };
    count_overtakes(state, turn, worker, job);
    if !state.assign(worker, job, extra, turn.now()) {
        return turn.defect(format!(
            "worker {worker} is not idle or job {job} does not wait"
        ));
    }
    let (Some(to), Some(running)) = (state.fleet().get(worker), state.jobs().get(job)) else {
        return turn.defect(format!("worker {worker} or job {job} vanished"));
    };
    turn.act(Action::Run(Run {
        worker,
        job,
        parameters: running.parameters().clone(),
        resume_step: running.resume_step(),
        attempt: running.attempts(),
    }));
    turn.report(
        job,
        Progress::Started {
            worker: to.name().clone(),
            attempt: running.attempts(),
            resume_step: running.resume_step(),
        },
    );
    tell_positions(state, turn, to.model());
}

/// Counts a start for every earlier job that lacks what this worker has.
fn count_overtakes(state: &mut State, turn: &mut Turn, worker: Generation, job: JobId) {
    let Some(by) = state.fleet().get(worker) else {
        return turn.defect(format!("worker {worker} gets job {job} and is unknown"));
    };
    for earlier in overtaking::overtaken(state, by, job, turn.now()) {
        let Some(earlier) = state.jobs_mut().get_mut(earlier) else {
            turn.defect(format!("job {earlier} waits and is unknown"));
            continue;
        };
        let count = u64::from(earlier.note_overtaken());
        let most = &mut state.counters_mut().overtakes_max;
        *most = (*most).max(count);
    }
}

/// Reports their new position to the first waiting jobs of a model.
fn tell_positions(state: &State, turn: &mut Turn, id: ModelId) {
    let queue = state.jobs().queue(id);
    for (position, job) in (1..).zip(queue.iter().take(POSITIONS_TOLD_MAX)) {
        let reason = format!("{} wait for {}", queue.len(), state.model(id).spec().key);
        turn.report(job, Progress::Waiting { position, reason });
    }
}

/// Takes `job` off a worker that is done with it, and gives back the memory beyond the usual. Returns the attempt
/// if the job still wants an answer. A worker that is being stopped stays so.
pub(crate) fn release_worker(
    state: &mut State,
    turn: &mut Turn,
    id: Generation,
    job: JobId,
) -> Option<Attempt> {
    let (extra, attempt) = state.fleet_mut().release(id, job, turn.now())?;
    if let Some(extra) = extra {
        state.budget_mut().give_back(extra);
    }
    if attempt.is_none() {
        leave_if_outdated(state, turn, id);
    }
    attempt
}
