//! Requests and their clients.

use std::collections::BTreeMap;

use ipc_protocol::ids::JobId;

use crate::questions::admission::{Admission, Admitted, admit};
use crate::questions::explain::waiting_reason;
use crate::settle::idle::abandon_loads;
use crate::settle::settle;
use crate::state::State;
use crate::state::job::{Job, Origin};
use crate::state::requests::WaitingRequest;
use crate::steps::end_job::end_job;
use crate::steps::end_request::{cancelled_by, refuse_waiting};
use crate::words::action::{AcceptedJobs, Action, Progress};
use crate::words::event::Ticket;
use crate::words::new_request::NewRequest;
use crate::words::registry::ModelId;
use crate::words::turn::Turn;

/// A client sent a request: it becomes jobs, waits for the files of its model, or is refused.
pub(crate) fn arrived(state: &mut State, turn: &mut Turn, mut asked: NewRequest) {
    if let Some((_, quota)) = state.settings().quotas.of(&asked.user) {
        asked.request.priority = quota.lowered(asked.request.priority);
    }
    decide(state, turn, asked, None);
}

/// Decides about a request, whose job may have an id already.
pub(crate) fn decide(state: &mut State, turn: &mut Turn, asked: NewRequest, id: Option<JobId>) {
    let count = asked.request.count;
    let ids = |state: &mut State| match id {
        Some(id) => vec![id],
        None => state.jobs_mut().reserve(count),
    };
    match admit(state, turn.now(), &asked) {
        Err(failure) => turn.refuse(asked.ticket, failure),
        Ok(Admission::AwaitFiles(model)) => {
            let jobs = ids(state);
            await_files(state, turn, model, asked, jobs);
        }
        Ok(Admission::Enter(admitted)) => {
            let jobs = ids(state);
            enter(
                state,
                turn,
                &admitted,
                &asked,
                jobs.clone(),
                &BTreeMap::new(),
            );
            place(state, turn, &jobs);
        }
    }
}

/// Keeps a request until the files of its model are here.
fn await_files(
    state: &mut State,
    turn: &mut Turn,
    id: ModelId,
    asked: NewRequest,
    jobs: Vec<JobId>,
) {
    let model = state.model(id).spec().key.clone();
    turn.act(Action::AwaitFiles {
        ticket: asked.ticket,
        model: model.clone(),
        jobs: jobs.clone(),
    });
    let waiting = WaitingRequest::new(asked, jobs, turn.now());
    if state.requests_mut().push(id, waiting) {
        turn.act(Action::Fetch { model });
    }
}

/// Makes the jobs of an admitted request, with one seed each. Those that were cancelled while it waited end at once.
pub(crate) fn enter(
    state: &mut State,
    turn: &mut Turn,
    admitted: &Admitted,
    asked: &NewRequest,
    jobs: Vec<JobId>,
    cancelled: &BTreeMap<JobId, String>,
) {
    let origin = Origin::new(asked.ticket, &asked.user, &asked.request);
    for (nth, &id) in (0..).zip(&jobs) {
        let mut parameters = admitted.parameters.clone();
        parameters.seed = parameters.seed.wrapping_add(nth);
        let (model, device) = (admitted.model, admitted.device);
        let now = turn.now();
        state
            .jobs_mut()
            .enter(id, model, &origin, parameters, device, now);
    }
    match &asked.before {
        None => state.charge(&asked.user, asked.request.count),
        Some(before) => {
            for id in &jobs {
                if let Some(job) = state.jobs_mut().get_mut(*id) {
                    job.recall(before.past.clone());
                }
            }
        }
    }
    turn.act(Action::Accept(accepted(
        state,
        admitted,
        asked.ticket,
        jobs,
    )));
    for (&id, by) in cancelled {
        end_job(state, turn, id, cancelled_by(by));
    }
}

/// The message about the jobs that a request became.
fn accepted(state: &State, admitted: &Admitted, ticket: Ticket, jobs: Vec<JobId>) -> AcceptedJobs {
    let parameters = &admitted.parameters;
    let model = state.model(admitted.model);
    AcceptedJobs {
        ticket,
        jobs,
        model: model.spec().key.clone(),
        size: parameters.size,
        steps: parameters.steps,
        guidance: parameters.guidance,
        seed: parameters.seed,
        decode: model.observed().pace().decode(),
        digest: model.spec().digest.clone(),
    }
}

/// Places what can be placed, and reports to each new job that still waits its position and why.
pub(crate) fn place(state: &mut State, turn: &mut Turn, jobs: &[JobId]) {
    settle(state, turn);
    for &id in jobs {
        tell_position(state, turn, id);
    }
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
    if let Some(ticket) = state.requests_mut().cancel(id, by) {
        return refuse_waiting(state, turn, ticket, cancelled_by(by));
    }
    let Some(model) = state.jobs().get(id).map(Job::model) else {
        return;
    };
    end_job(state, turn, id, cancelled_by(by));
    abandon_loads(state, turn, model);
}

/// A client is gone: its jobs are cancelled, except detached ones.
pub(crate) fn client_gone(state: &mut State, turn: &mut Turn, ticket: Ticket) {
    let by = "the client, which is gone";
    if state.requests().ends_with(ticket) {
        return refuse_waiting(state, turn, ticket, cancelled_by(by));
    }
    let jobs = state.jobs().iter().filter(|job| job.ends_with(ticket));
    for id in jobs.map(Job::id).collect::<Vec<JobId>>() {
        cancelled(state, turn, id, by);
    }
}
