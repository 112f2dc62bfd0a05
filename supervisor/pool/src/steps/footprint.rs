//! Notes the memory that a worker holds.

use ipc_protocol::ids::Generation;
use ipc_protocol::units::Mebibytes;

use crate::state::State;
use crate::state::budget::Amount;
use crate::state::worker::Worker;
use crate::steps::end_worker::terminate_worker;
use crate::words::event::Footprint;
use crate::words::lasting::{LastingFact, MeasuredNeed};
use crate::words::notice::Notice;
use crate::words::reasons::StopReason;
use crate::words::registry::ModelId;
use crate::words::turn::Turn;

/// Notes a worker's footprint. A worker that holds more than was promised to it is promised that much, as far as there
/// is memory. Beyond that others are in danger, and a worker that outgrew its promise ends. The next worker of its
/// model is promised the largest footprint of workers with usual jobs. Returns whether a promise grew or a worker
/// ends.
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
    let more = state.budget_mut().promise_free(beyond);
    let lacking = beyond.beyond(more.amount());
    if let Some(more) = state.fleet_mut().promise_more(id, more) {
        state.budget_mut().give_back(more);
        turn.defect(format!("worker {id} was measured and takes no promise"));
    }
    let lacks = lacking.total() > Mebibytes::ZERO;
    if let Some(worker) = state.fleet_mut().get_mut(id)
        && (lacks || !idle)
        && worker.note_outgrown()
    {
        turn.tell(Notice::Outgrew {
            worker: id,
            name: worker.name().clone(),
            reserved: promised.total(),
            measured: held.total(),
        });
    }
    if state.budget().passes_limit(device, lacking.at(device)) {
        end_outgrown(state, turn, id, lacking.at(device));
    }
    true
}

/// Ends the worker that outgrew its promise most on the device of worker `id`, which holds `lacking` more there than
/// can be promised.
fn end_outgrown(state: &mut State, turn: &mut Turn, id: Generation, lacking: Mebibytes) {
    if let Some(most) = most_outgrown(state, id, lacking) {
        terminate_worker(state, turn, most, StopReason::Outgrown);
    }
}

/// The worker that outgrew its promise most there. `None` if worker `id` has the device for itself, so that it endangers
/// no other, or if memory of a worker that leaves is on its way back.
fn most_outgrown(state: &State, id: Generation, lacking: Mebibytes) -> Option<Generation> {
    let device = state.fleet().get(id).map(Worker::device)?;
    let holds = |worker: &Worker| {
        let promised = worker.promised().map(|amount| amount.at(device));
        promised.sum::<Mebibytes>() > Mebibytes::ZERO
    };
    let holders: Vec<&Worker> = state.fleet().iter().filter(|&it| holds(it)).collect();
    let alone = holders.iter().all(|worker| worker.generation() == id);
    if alone || holders.iter().any(|worker| !worker.is_live()) {
        return None;
    }
    let outgrown = |worker: &Worker| match worker.generation() == id {
        true => worker.growth() + lacking,
        false => worker.growth(),
    };
    let there = state.fleet().iter().filter(|it| it.device() == device);
    let most = there.max_by_key(|worker| (outgrown(worker), worker.generation()));
    most.map(Worker::generation)
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
