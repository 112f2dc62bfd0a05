//! Acknowledges the commands of operators that are done.

use ipc_protocol::ids::DeviceConstraint;

use crate::questions::room::{self, Room};
use crate::questions::standing::{is_settled, not_offered, refusal};
use crate::state::State;
use crate::state::orders::OperatorOrder;
use crate::state::worker::Worker;
use crate::words::moment::Moment;
use crate::words::registry::ModelId;
use crate::words::turn::Turn;

/// Ends the restarts whose workers are all reaped. Returns whether there was one, so that workers are wanted now.
pub(crate) fn end_restarts(state: &mut State) -> bool {
    let mut orders = state.take_orders();
    let mut come_back = false;
    for order in &mut orders {
        come_back |= note_reaped(state, order);
    }
    // A start that is decided afterwards counts on the other restarts.
    state.put_orders(orders);
    come_back
}

/// Acknowledges the orders that are done.
pub(crate) fn finish(state: &mut State, turn: &mut Turn) {
    let mut orders = state.take_orders();
    for order in &mut orders {
        decide(state, turn.now(), order);
    }
    for order in orders.extract_if(.., |order| order.is_done()) {
        let (ticket, lines, success) = order.into_answer();
        turn.acknowledge(ticket, lines, success);
    }
    state.put_orders(orders);
}

/// Notes which workers of an order have been reaped. Returns whether they were the last of a restart, so that
/// others are wanted now.
fn note_reaped(state: &mut State, order: &mut OperatorOrder) -> bool {
    let come_back = order.note_reaped(|worker| !state.fleet().contains(worker));
    if come_back {
        for &id in order.starting() {
            let wanted = state.model_mut(id).wanted_mut();
            // An operator's later stop stays in force.
            if !wanted.is_held(order.slot()) {
                wanted.keep_workers(order.least());
            }
        }
    }
    come_back
}

/// Removes the starts that have succeeded or failed from the order.
fn decide(state: &State, now: Moment, order: &mut OperatorOrder) {
    if !order.all_gone() {
        return;
    }
    for id in order.take_starting() {
        if !is_decided(state, now, id, order) {
            order.start(id);
        }
    }
}

/// Returns whether a worker start that an operator ordered has succeeded or failed. If so, adds the result to the
/// order's answer.
fn is_decided(state: &State, now: Moment, id: ModelId, order: &mut OperatorOrder) -> bool {
    let model = state.model(id);
    let live = || state.fleet().live(id);
    let up = |worker: &&Worker| order.means(worker) && worker.is_resident();
    if let Some(up) = live().find(up) {
        order.note(format!("{}: started", up.name()));
        return true;
    }
    if live().any(|worker| order.means(worker)) {
        return false;
    }
    let name = format!("{}:{}", model.spec().key, order.slot().unwrap_or(0));
    if model.wanted().is_held(order.slot()) {
        order.note_error(name, "stopped");
        return true;
    }
    if model.wanted().is_retired() {
        order.note_error(name, &not_offered(state, id).message);
        return true;
    }
    if let Some(failure) = refusal(state, id, now) {
        if !is_settled(&failure) {
            // The pool may exit before the look at the files ends.
            return is_refused(state, order, name);
        }
        order.note_error(name, &failure.message);
        return true;
    }
    let others = live().count();
    if others > 0 && others >= model.floor(state.settings()) {
        order.note_error(name, "not wanted any more");
        return true;
    }
    match room::for_worker(state, id, DeviceConstraint::Auto) {
        Some((_, Room::Never(short))) => {
            order.note_error(name, &room::memory_exhausted(state, id, short).message);
            true
        }
        None => {
            order.note_error(name, "no device that is usable now can run it");
            true
        }
        Some((_, Room::Free)) if model.record().deaths_in_a_row() > 0 => {
            order.note_error(name, "spawn error");
            true
        }
        Some((_, Room::Evict(_) | Room::Later)) if others > 0 => {
            order.note_error(
                name,
                "no room beside the others now, it starts when there is",
            );
            true
        }
        Some((_, Room::Free | Room::Leaving | Room::Evict(_) | Room::Later)) => {
            is_refused(state, order, name)
        }
    }
}

/// Returns whether the pool drains or yields, so that it starts no worker for an operator. If so, adds that error to
/// the order's answer.
fn is_refused(state: &State, order: &mut OperatorOrder, name: String) -> bool {
    let why = match (state.phase().refuses(), state.yields_until()) {
        (true, _) => "draining",
        (false, Some(_)) => "it starts after the yield: `imagepool yield 0` ends that",
        (false, None) => return false,
    };
    order.note_error(name, why);
    true
}
