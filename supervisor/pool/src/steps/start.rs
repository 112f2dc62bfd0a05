//! Starts workers.

use std::collections::BTreeMap;

use ipc_protocol::ids::{Device, WorkerName};

use crate::state::State;
use crate::words::action::{Action, Start};
use crate::words::reasons::StartReason;
use crate::words::registry::ModelId;
use crate::words::turn::Turn;

/// Starts a worker of a model on a device that has memory for it.
pub(crate) fn start(
    state: &mut State,
    turn: &mut Turn,
    id: ModelId,
    device: Device,
    reason: StartReason,
) {
    let model = state.model(id);
    let key = model.spec().key.clone();
    let Some(amount) = model.need_on(device, state.settings()) else {
        return turn.defect(format!(
            "{key} is to start on {device}, where it cannot run"
        ));
    };
    let Some(reservation) = state.budget_mut().promise(amount) else {
        return turn.defect(format!("{key} is to start on {device}, which has no room"));
    };
    let slot = free_slot(state, id);
    let name = WorkerName { model: key, slot };
    let now = turn.now();
    let fleet = state.fleet_mut();
    let worker = fleet.add(name.clone(), id, device, reservation, now);
    turn.act(Action::Start(Start {
        worker,
        model: name.model.clone(),
        name,
        device,
        reserved: amount.parts().collect::<BTreeMap<_, _>>(),
        reason,
        replaces: state.model(id).to_replace() > 0,
    }));
    let evicted = state.model_mut(id).note_start();
    let counters = state.counters_mut();
    counters.spawns += 1;
    counters.swaps += u64::from(evicted);
}

/// The lowest slot that no worker has and no operator stopped.
fn free_slot(state: &State, id: ModelId) -> u32 {
    let wanted = state.model(id).wanted();
    let taken = |slot: u32| {
        let mut workers = state.fleet().of(id);
        wanted.holds_slot(slot) || workers.any(|worker| worker.name().slot == slot)
    };
    (0..).find(|&slot| !taken(slot)).unwrap_or(u32::MAX)
}
