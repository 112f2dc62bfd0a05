//! The one timer, and times in which the driver could not run.

use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::Generation;

use crate::events::device;
use crate::events::worker::cpu_measured;
use crate::questions::idle::late;
use crate::settle::drain;
use crate::settle::idle::{abandon_loads, shrink};
use crate::settle::yielding;
use crate::state::State;
use crate::state::worker::{Overdue, Worker};
use crate::steps::end_job::end_job;
use crate::steps::end_worker::{end_worker, next_stop_step};
use crate::words::action::Action;
use crate::words::notice::Notice;
use crate::words::turn::Turn;

/// The next deadline is reached.
pub(crate) fn reached(state: &mut State, turn: &mut Turn) {
    for (worker, device, amount) in state.budget_mut().give_up(turn.now()) {
        turn.tell(Notice::Unreclaimed {
            worker,
            device,
            amount,
        });
    }
    device::end_rests(state, turn);
    end_overdue_workers(state, turn);
    end_overdue_jobs(state, turn);
    shrink(state, turn);
    drain::fail_overdue(state, turn);
    yielding::end_overdue(state, turn);
}

/// The driver could not run: no worker was silent or without progress in a time in which none could be heard.
pub(crate) fn stalled(state: &mut State, turn: &Turn, lasted: Duration) {
    for worker in state.fleet_mut().iter_mut() {
        worker.excuse(turn.now(), lasted);
    }
    state.budget_mut().excuse(lasted);
}

fn end_overdue_workers(state: &mut State, turn: &mut Turn) {
    for (id, what) in late(state, turn.now()) {
        match what {
            Overdue::Stop(why) => end_worker(state, turn, id, why),
            Overdue::NextStep => next_stop_step(state, turn, id),
            Overdue::Measure => measure(state, turn, id),
            Overdue::NoSample => cpu_measured(state, turn, id, None),
        }
    }
}

/// Asks for the processor time of a worker without progress.
fn measure(state: &mut State, turn: &mut Turn, id: Generation) {
    let worker = state.fleet_mut().get_mut(id);
    let Some(watch) = worker.and_then(Worker::watch_mut) else {
        return turn.defect(format!(
            "worker {id} is due for a measurement and not watched"
        ));
    };
    watch.ask(turn.now());
    turn.act(Action::Measure { worker: id });
}

fn end_overdue_jobs(state: &mut State, turn: &mut Turn) {
    while let Some((at, id)) = state.jobs().next_timer()
        && at <= turn.now()
    {
        let Some(late) = state.jobs().get(id) else {
            return turn.defect(format!("job {id} has a timer and is unknown"));
        };
        let model = late.model();
        let after = turn.now().since(late.accepted()).as_millis();
        let message = format!("not done within its time limit, after {after} ms");
        let failure = Failure::new(FailureKind::DeadlineExceeded, message);
        end_job(state, turn, id, failure);
        abandon_loads(state, turn, model);
    }
}
