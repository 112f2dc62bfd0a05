//! Requests and their clients.

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::JobId;
use ipc_protocol::request::ImageRequest;

use crate::questions::admission::{Admitted, admit};
use crate::questions::explain::waiting_reason;
use crate::settle::idle::abandon_loads;
use crate::settle::settle;
use crate::state::State;
use crate::state::job::{Job, Origin};
use crate::steps::end_job::end_job;
use crate::words::action::{AcceptedJobs, Action, Progress};
use crate::words::event::Ticket;
use crate::words::turn::Turn;

/// A client sent a request: it becomes jobs, or is refused.
pub(crate) fn arrived(
    state: &mut State,
    turn: &mut Turn,
    ticket: Ticket,
    request: &ImageRequest,
    user: &str,
    entropy: u64,
) {
    let admitted = match admit(state, turn.now(), request, entropy) {
        Ok(admitted) => admitted,
        Err(failure) => return turn.refuse(ticket, failure),
    };
    let jobs = enter(
        state,
        turn,
        &admitted,
        request.count,
        &Origin::new(ticket, user, request),
    );
    let parameters = &admitted.parameters;
    let model = state.model(admitted.model);
    turn.act(Action::Accept(AcceptedJobs {
        ticket,
        jobs: jobs.clone(),
        model: model.spec().key.clone(),
        size: parameters.size,
        steps: parameters.steps,
        guidance: parameters.guidance,
        seed: parameters.seed,
        decode: model.observed().pace().decode(),
    }));
    settle(state, turn);
    for id in jobs {
        tell_position(state, turn, id);
    }
}

/// Makes `count` jobs of an admitted request, with one seed each.
fn enter(
    state: &mut State,
    turn: &Turn,
    admitted: &Admitted,
    count: u32,
    origin: &Origin,
) -> Vec<JobId> {
    let mut parameters = admitted.parameters.clone();
    let mut jobs = Vec::new();
    for _ in 0..count {
        let next = parameters.seed.wrapping_add(1);
        let (model, device) = (admitted.model, admitted.device);
        let entered = parameters.clone();
        let jobs_of_pool = state.jobs_mut();
        jobs.push(jobs_of_pool.enter(model, origin, entered, device, turn.now()));
        parameters.seed = next;
    }
    jobs
}

/// Reports its position and why it waits to a job that waits.
fn tell_position(state: &State, turn: &mut Turn, id: JobId) {
    let waiting = state.jobs().get(id);
    let Some(job) = waiting.filter(|job| job.waiting_since().is_some()) else {
        return;
    };
    let before = state.jobs().queue(job.model()).before(id).count();
    let position = u32::try_from(before + 1).unwrap_or(u32::MAX);
    let reason = waiting_reason(state, turn.now(), job);
    turn.report(id, Progress::Waiting { position, reason });
}

/// A job is cancelled by its client or an operator.
pub(crate) fn cancelled(state: &mut State, turn: &mut Turn, id: JobId, by: &str) {
    let Some(model) = state.jobs().get(id).map(Job::model) else {
        return;
    };
    let failure = Failure::new(FailureKind::Cancelled, format!("cancelled by {by}"));
    end_job(state, turn, id, failure);
    abandon_loads(state, turn, model);
}

/// A client is gone: its jobs are cancelled, except detached ones.
pub(crate) fn client_gone(state: &mut State, turn: &mut Turn, ticket: Ticket) {
    let jobs = state.jobs().iter().filter(|job| job.ends_with(ticket));
    for id in jobs.map(Job::id).collect::<Vec<JobId>>() {
        cancelled(state, turn, id, "the client, which is gone");
    }
}
