//! Notes the memory that a worker holds.

use ipc_protocol::ids::Generation;
use ipc_protocol::units::Mebibytes;

use crate::state::State;
use crate::state::budget::Amount;
use crate::words::event::Footprint;
use crate::words::lasting::{LastingFact, MeasuredNeed};
use crate::words::notice::Notice;
use crate::words::registry::ModelId;
use crate::words::turn::Turn;

/// Notes a worker's footprint. An idle worker that holds more than was promised to it is promised more, if there
/// is memory. The next worker of its model is promised the largest footprint of workers with usual jobs. Returns
/// whether either promise grew.
pub(crate) fn note(
    state: &mut State,
    turn: &mut Turn,
    id: Generation,
    footprint: Footprint,
) -> bool {
    let Some(worker) = state.fleet_mut().get_mut(id) else {
        return false;
    };
    worker.note_footprint(footprint);
    let device = worker.device();
    let nothing = Amount::on(device, Mebibytes::ZERO, Mebibytes::ZERO);
    let promised = worker.promised().fold(nothing, Amount::plus);
    let held = Amount::on(device, footprint.host, footprint.device);
    let (model, idle, usual) = (worker.model(), worker.is_idle(), worker.is_usual());
    let observed = state.model_mut(model).observed_mut();
    let grew = usual && observed.note_footprint(footprint);
    if grew {
        remember(state, turn, model);
    }
    let beyond = held.beyond(promised);
    if beyond.total() == Mebibytes::ZERO {
        return grew;
    }
    if idle && let Some(more) = state.budget_mut().promise(beyond) {
        if let Some(more) = state.fleet_mut().promise_more(id, more) {
            state.budget_mut().give_back(more);
            turn.defect(format!("worker {id} is idle and takes no promise"));
        }
        return true;
    }
    if let Some(worker) = state.fleet_mut().get_mut(id)
        && worker.note_outgrown()
    {
        turn.tell(Notice::Outgrew {
            worker: id,
            name: worker.name().clone(),
            reserved: promised.total(),
            measured: held.total(),
        });
    }
    grew
}

/// Tells the next daemon how much memory workers of a model hold.
fn remember(state: &State, turn: &mut Turn, id: ModelId) {
    let model = state.model(id);
    let worst = model.observed().worst();
    turn.remember(LastingFact::NeedMeasured(MeasuredNeed {
        model: model.spec().key.clone(),
        digest: model.spec().digest.clone(),
        host: worst.host,
        device: worst.device,
    }));
}
