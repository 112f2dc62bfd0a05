//! Jobs waiting for memory that other models occupy, and how long later jobs may overtake them.
//!
//! Jobs go to workers that have loaded their model. A model that lacks memory that others hold is overtaken by
//! their later jobs, and each overtaking is counted. At a bound its oldest job is due: from then on no worker
//! that holds what it lacks takes a later job.

use ipc_protocol::ids::{Device, JobId};
use ipc_protocol::units::Mebibytes;

use crate::questions::room::{self, Room};
use crate::questions::waiting::{is_due, rule, stranded, unserved_device};
use crate::state::State;
use crate::state::budget::Amount;
use crate::state::model::Lacking;
use crate::state::worker::Worker;
use crate::words::moment::Moment;
use crate::words::registry::ModelId;

/// A due job: other models take neither later jobs nor more of what it lacks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Barrier {
    pub(crate) job: JobId,
    pub(crate) model: ModelId,
    pub(crate) lack: Lack,
}

/// A resource that a waiting job lacks and others have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    /// Memory on the devices noted for its model.
    Room,
    /// A slot among its model's workers: the model has as many as it may, none of them on the job's device.
    Slot,
}

/// Returns the memory that a model lacks: for one more worker, and for the next jobs of its idle ones. Parts that are
/// free count as well: they must not be taken before the last part is free.
pub(crate) fn lacks_of(state: &State, id: ModelId, now: Moment) -> Vec<Lacking> {
    if state.jobs().queue(id).is_empty() {
        return Vec::new();
    }
    let start = unserved_device(state, id, now).and_then(|device| {
        let (device, room) = room::for_worker(state, id, device)?;
        Some((state.model(id).need_on(device, state.settings())?, room))
    });
    let mut lacks = Vec::new();
    for (amount, room) in start.into_iter().chain(extra_wanted(state, id)) {
        match room {
            Room::Free | Room::Never(_) => {}
            Room::Leaving | Room::Evict(_) | Room::Later => {
                let parts = amount.parts().filter(|(_, need)| *need > Mebibytes::ZERO);
                lacks.extend(
                    parts.map(|(at, need)| Lacking::new(at, need, state.budget().free(at))),
                );
            }
        }
    }
    lacks
}

/// The memory that the next jobs of a model take beyond what its idle workers hold.
fn extra_wanted(state: &State, id: ModelId) -> impl Iterator<Item = (Amount, Room)> {
    let idle = state.fleet().live(id).filter(|worker| worker.is_idle());
    idle.filter_map(move |worker| {
        let job = state.jobs().get(next_for(state, worker, &[])?)?;
        Some(room::for_picture(state, worker, job))
    })
}

/// The next job for a worker.
pub(crate) fn next_for(state: &State, worker: &Worker, barriers: &[Barrier]) -> Option<JobId> {
    let before = barriers
        .iter()
        .filter(|barrier| is_behind(state, worker, barrier))
        .map(|barrier| barrier.job)
        .min();
    let fits = |job: JobId| {
        before.is_none_or(|due| job < due)
            && state
                .jobs()
                .get(job)
                .is_some_and(|job| worker.serves(job.device()))
    };
    state.jobs().queue(worker.model()).next(rule(state), fits)
}

/// The worker has what the due job lacks.
fn is_behind(state: &State, worker: &Worker, barrier: &Barrier) -> bool {
    match barrier.lack {
        Lack::Room => competes(state, worker, barrier.model),
        Lack::Slot => worker.model() == barrier.model,
    }
}

/// The worker holds memory that the other model lacks.
fn competes(state: &State, worker: &Worker, with: ModelId) -> bool {
    let mut lacks = state.model(with).lacks().iter();
    let holds = |at: Device| worker.promised().any(|part| part.at(at) > Mebibytes::ZERO);
    worker.model() != with && lacks.any(|lacking| lacking.is_short() && holds(lacking.at()))
}

/// The oldest due job of every model that lacks something.
pub(crate) fn barriers(state: &State, now: Moment) -> Vec<Barrier> {
    let of_room = |model: ModelId| {
        if state.model(model).lacks().is_empty() {
            return None;
        }
        // Not always the oldest: a job that lost its worker was not overtaken while it ran.
        let mut waiting = state.jobs().queue(model).iter();
        let job = waiting.find(|&job| is_due(state, job, now))?;
        let lack = Lack::Room;
        Some(Barrier { job, model, lack })
    };
    let of_slot = |model: ModelId| {
        let job = stranded(state, model, now).find(|&job| is_due(state, job, now))?;
        let lack = Lack::Slot;
        Some(Barrier { job, model, lack })
    };
    let rooms = state.model_ids().filter_map(of_room);
    rooms.chain(state.model_ids().filter_map(of_slot)).collect()
}

/// The earlier jobs that lack the worker's memory or slot, and are overtaken when it starts `job`.
pub(crate) fn overtaken(state: &State, worker: &Worker, job: JobId, now: Moment) -> Vec<JobId> {
    let competing = state.model_ids().filter(|&id| competes(state, worker, id));
    let lacking_room = competing.flat_map(|id| state.jobs().queue(id).before(job));
    let lacking_slot = stranded(state, worker.model(), now).filter(|&earlier| earlier < job);
    lacking_room.chain(lacking_slot).collect()
}
