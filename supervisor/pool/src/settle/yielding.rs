//! Parks the pool: while it yields its memory to other programs, only running jobs go on.

use ipc_protocol::ids::Generation;

use crate::state::State;
use crate::state::worker::Worker;
use crate::steps::end_worker::end_worker;
use crate::words::notice::Notice;
use crate::words::reasons::StopReason;
use crate::words::turn::Turn;

/// Stops the workers without a job while the pool yields its memory.
pub(crate) fn park(state: &mut State, turn: &mut Turn) {
    if state.yields_until().is_none() {
        return;
    }
    let jobless = |worker: &&Worker| worker.is_live() && (worker.is_idle() || worker.is_coming());
    let parked = state.fleet().iter().filter(jobless);
    for worker in parked.map(Worker::generation).collect::<Vec<Generation>>() {
        end_worker(state, turn, worker, StopReason::Yielded);
    }
}

/// Starts workers again once the time is over.
pub(crate) fn end_overdue(state: &mut State, turn: &mut Turn) {
    let until = state.yields_until();
    if until.is_some_and(|until| until <= turn.now()) {
        end(state, turn);
    }
}

/// Starts workers again. Returns whether the pool yielded its memory.
pub(crate) fn end(state: &mut State, turn: &mut Turn) -> bool {
    let yielded = state.yields_until().is_some();
    if yielded {
        state.set_yield(None);
        turn.tell(Notice::YieldEnded);
    }
    yielded
}
