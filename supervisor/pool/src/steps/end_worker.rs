//! Stops workers.

use ipc_protocol::ids::{Generation, WorkerName};

use crate::state::State;
use crate::state::orders::OperatorOrder;
use crate::state::stop::StopPlan;
use crate::state::worker::Worker;
use crate::words::action::Action;
use crate::words::notice::Notice;
use crate::words::reasons::StopReason;
use crate::words::registry::ModelId;
use crate::words::turn::Turn;

/// Asks a worker to exit, unless it is being stopped.
pub(crate) fn end_worker(state: &mut State, turn: &mut Turn, id: Generation, why: StopReason) {
    let first_step = StopPlan::ask(turn.now(), &state.settings().patience, id);
    begin_to_end(state, turn, id, why, first_step);
}

/// Terminates a worker that has no time left to exit by itself, unless it is being stopped.
pub(crate) fn terminate_worker(
    state: &mut State,
    turn: &mut Turn,
    id: Generation,
    why: StopReason,
) {
    let first_step = StopPlan::terminate(turn.now(), &state.settings().patience, id);
    begin_to_end(state, turn, id, why, first_step);
}

fn begin_to_end(
    state: &mut State,
    turn: &mut Turn,
    id: Generation,
    why: StopReason,
    (plan, action): (StopPlan, Action),
) {
    if !state.fleet_mut().stop(id, turn.now(), plan, why) {
        return;
    }
    turn.act(action);
    if let Some(worker) = state.fleet().get(id) {
        turn.tell(Notice::Stopping {
            worker: id,
            name: worker.name().clone(),
            why,
        });
    }
}

/// Takes the next step of a stop plan that is due.
pub(crate) fn next_stop_step(state: &mut State, turn: &mut Turn, id: Generation) {
    let patience = state.settings().patience;
    let stopping = state.fleet_mut().get_mut(id);
    let Some(worker) = stopping else {
        return turn.defect(format!("worker {id} is due for a stop step and unknown"));
    };
    let Some((action, killing_for)) = worker.next_stop_step(turn.now(), &patience) else {
        return turn.defect(format!(
            "worker {id} is due for a stop step and not stopping"
        ));
    };
    turn.act(action);
    if let Some(since) = killing_for {
        turn.tell(Notice::NotReaped {
            worker: id,
            name: worker.name().clone(),
            since,
        });
    }
}

/// Stops a worker that broke the protocol.
pub(crate) fn break_protocol(state: &mut State, turn: &mut Turn, id: Generation, what: String) {
    if let Some(worker) = state.fleet_mut().get_mut(id) {
        worker.note_broken_protocol(what);
        end_worker(state, turn, id, StopReason::Protocol);
    }
}

/// Evicts idle workers so that a model can have their memory.
pub(crate) fn evict(
    state: &mut State,
    turn: &mut Turn,
    for_model: ModelId,
    victims: &[Generation],
) {
    for &victim in victims {
        let Some(worker) = state.fleet().get(victim) else {
            turn.defect(format!("worker {victim} is to be evicted and unknown"));
            continue;
        };
        let model = worker.model();
        turn.tell(Notice::Evicted {
            name: worker.name().clone(),
            for_model: state.model(for_model).spec().key.clone(),
            freed: worker.promised().map(|amount| amount.total()).sum(),
        });
        state.counters_mut().evictions += 1;
        if model != for_model {
            state.model_mut(for_model).note_evicting();
        }
        end_worker(state, turn, victim, StopReason::Evicted);
    }
}

/// Stops a worker whose model changed as soon as it has no job.
pub(crate) fn outdate(state: &mut State, turn: &mut Turn, id: Generation) {
    let Some(worker) = state.fleet_mut().get_mut(id) else {
        return turn.defect(format!("worker {id} is outdated and unknown"));
    };
    worker.note_outdated();
    if worker.job_at_hand().is_none() {
        end_worker(state, turn, id, StopReason::Outdated);
    }
}

/// Stops a worker that has become idle and whose model changed before.
pub(crate) fn leave_if_outdated(state: &mut State, turn: &mut Turn, id: Generation) {
    let outdated = |worker: &Worker| worker.is_outdated() && worker.is_idle();
    if state.fleet().get(id).is_some_and(outdated) {
        end_worker(state, turn, id, StopReason::Outdated);
    }
}

/// Stops the workers of a model that an operator means, and makes the order wait for their exits. Returns how
/// many there are.
pub(crate) fn end_for(
    state: &mut State,
    turn: &mut Turn,
    id: ModelId,
    order: &mut OperatorOrder,
) -> usize {
    let slot = order.slot();
    let workers = state.fleet().of(id);
    let meant: Vec<(Generation, WorkerName)> = workers
        .filter(|worker| slot.is_none_or(|slot| worker.name().slot == slot))
        .map(|worker| (worker.generation(), worker.name().clone()))
        .collect();
    for &(worker, _) in &meant {
        end_worker(state, turn, worker, StopReason::Operator);
    }
    let count = meant.len();
    order.wait_for(meant);
    count
}
