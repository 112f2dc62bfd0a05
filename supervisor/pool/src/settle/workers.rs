//! Starts the workers that models want.

use crate::questions::room::{self, Room};
use crate::questions::standing::is_full;
use crate::questions::waiting::{oldest_for, unserved, unserved_device};
use crate::questions::wants::{self, WorkerWant};
use crate::settle::jobs::note_lacks;
use crate::settle::truce;
use crate::state::State;
use crate::state::worker::Worker;
use crate::steps::end_job::fail_wanting;
use crate::steps::end_worker::evict;
use crate::steps::start::start;
use crate::words::reasons::StartReason;
use crate::words::turn::Turn;

/// Starts wanted workers, for the model of the oldest job first. Not too many start at once: those that wait for that
/// get their turn when one of the others is ready or gone.
pub(crate) fn start_wanted(state: &mut State, turn: &mut Turn) {
    let mut coming = state.fleet().iter().filter(|w| w.is_coming()).count();
    for want in wants::all(state, turn.now()) {
        fulfil(state, turn, want, &mut coming);
    }
    make_way_for_constrained(state, turn);
}

/// If a model has as many workers as it may and a job waits for a device without one, evicts an idle worker of
/// the model so that one can start there. An idle worker that waits for memory for an older job stays: without it
/// that job would load the model again, and two models could go on like that without end.
fn make_way_for_constrained(state: &mut State, turn: &mut Turn) {
    for id in state.model_ids() {
        if !state.jobs().has_constrained(id)
            || !is_full(state, id, turn.now())
            || state.fleet().of(id).any(|worker| !worker.is_live())
            || unserved_device(state, id, turn.now()).is_none()
        {
            continue;
        }
        let Some(stranded) = unserved(state, id).next() else {
            continue;
        };
        let spare = |worker: &&Worker| {
            let own = oldest_for(state, worker);
            worker.is_idle() && own.is_none_or(|own| stranded < own)
        };
        let idle = state.fleet().live(id).find(spare);
        if let Some(idle) = idle.map(Worker::generation) {
            evict(state, turn, id, &[idle]);
        }
    }
}

fn fulfil(state: &mut State, turn: &mut Turn, want: WorkerWant, coming: &mut usize) {
    let most = want.most_coming(state.settings());
    for nth in 0..want.count {
        let Some((device, room)) = room::for_worker(state, want.model, want.device) else {
            let failure = room::nowhere(state, want.model);
            return fail_wanting(state, turn, want, &failure);
        };
        let first = nth == 0 && want.may_evict();
        if wants::is_claimed(state, want, device, turn.now()) {
            return;
        }
        // Second workers and growth take no memory that another model waits for.
        let others_wait = wants::others_lack(state, want.model);
        match room {
            Room::Free | Room::Leaving | Room::Evict(_) if *coming >= most => return,
            // Its memory may come back if other programs are asked for it.
            Room::Free | Room::Leaving
                if (first || !others_wait) && !truce::permits(state, turn, device) =>
            {
                return;
            }
            Room::Free if first || !others_wait => {
                start(state, turn, want.model, device, want.reason);
                *coming += 1;
                // A model that would have had memory before this start may lack it now.
                note_lacks(state, turn);
            }
            Room::Evict(victims) if first => {
                return evict(state, turn, want.model, &victims);
            }
            Room::Never(short) if first && want.reason != StartReason::Floor => {
                let failure = room::memory_exhausted(state, want.model, short);
                return fail_wanting(state, turn, want, &failure);
            }
            Room::Free | Room::Evict(_) | Room::Leaving | Room::Later | Room::Never(_) => {
                return;
            }
        }
    }
}
