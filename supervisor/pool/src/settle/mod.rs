//! Everything due after an event: jobs to run, workers to start or stop, orders to acknowledge.

pub(crate) mod drain;
pub(crate) mod idle;
pub(crate) mod jobs;
pub(crate) mod orders;
pub(crate) mod retired;
pub(crate) mod truce;
pub(crate) mod workers;
pub(crate) mod yielding;

use crate::state::State;
use crate::words::turn::Turn;

/// Most rounds after one event. What one round did can allow more in the next; each round that does anything
/// starts or ends something, so two or three are the rule.
const ROUNDS_MAX: u32 = 16;

/// Does everything that is due. Every event that may have changed what can run ends here, and no other place
/// decides what runs.
pub(crate) fn settle(state: &mut State, turn: &mut Turn) {
    yielding::park(state, turn);
    truce::move_on(state, turn);
    run_and_start(state, turn);
    if orders::end_restarts(state) {
        run_and_start(state, turn);
    }
    retired::end_unneeded(state, turn);
    idle::note_idle(state, turn);
    truce::end_unused(state, turn);
    orders::finish(state, turn);
    drain::finish(state, turn);
}

/// Runs jobs and starts workers until no more is possible.
fn run_and_start(state: &mut State, turn: &mut Turn) {
    for _ in 0..ROUNDS_MAX {
        let before = turn.len();
        jobs::fail_hopeless(state, turn);
        jobs::note_lacks(state, turn);
        if state.yields_until().is_some() {
            return;
        }
        jobs::run_waiting(state, turn);
        workers::start_wanted(state, turn);
        if turn.len() == before {
            break;
        }
    }
}
