//! Whether there is memory for a worker or a picture, and which workers would have to exit for it.

use std::collections::BTreeSet;
use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{Device, DeviceConstraint, Generation};
use ipc_protocol::units::{Mebibytes, PictureSize};

use crate::questions::waiting::{oldest_for, unserved};
use crate::state::State;
use crate::state::budget::Amount;
use crate::state::job::Job;
use crate::state::truce::Truce;
use crate::state::worker::Worker;
use crate::words::moment::Moment;
use crate::words::registry::ModelId;

/// Whether the memory can be had, best answer first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Room {
    /// Now.
    Free,
    /// Once the workers that are being stopped have exited.
    Leaving,
    /// Once these idle workers have exited.
    Evict(Vec<Generation>),
    /// Once some of the busy workers have finished, and exited.
    Later,
    /// Not beside the workers that are kept.
    Never(Shortage),
}

/// The device that is too small, with the numbers for the refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shortage {
    device: Device,
    need: Mebibytes,
    available: Mebibytes,
}

impl Shortage {
    pub(crate) fn need(self) -> Mebibytes {
        self.need
    }

    pub(crate) fn available(self) -> Mebibytes {
        self.available
    }
}

impl Room {
    fn rank(&self) -> u8 {
        match self {
            Self::Free => 0,
            Self::Leaving => 1,
            Self::Evict(_) => 2,
            Self::Later => 3,
            Self::Never(_) => 4,
        }
    }

    /// The shortage, if there can be no memory.
    pub(crate) fn shortage(self) -> Option<Shortage> {
        match self {
            Self::Never(short) => Some(short),
            Self::Free | Self::Leaving | Self::Evict(_) | Self::Later => None,
        }
    }
}

/// Memory of one device, by when it can be had.
#[derive(Debug, Clone, Copy, Default)]
struct Supply {
    free: Mebibytes,
    leaving: Mebibytes,
    idle: Mebibytes,
    later: Mebibytes,
}

/// Workers that are not to be ended for the model that asks.
#[derive(Debug)]
struct Staying {
    /// Never stopped.
    kept: BTreeSet<Generation>,
    /// Stopped only after the older jobs that they are reserved for.
    spoken_for: BTreeSet<Generation>,
    /// Loading for no job: stopped at once.
    unwanted: BTreeSet<Generation>,
}

/// When a worker's memory comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// It is being stopped.
    Leaving,
    /// When it is asked: it is idle, or loads for no job.
    Idle,
    /// When it has finished its work.
    Later,
    /// Never.
    Stays,
}

impl Staying {
    /// Collects the workers that may not be stopped freely for `for_model`. `spare`, its own worker, is never stopped.
    fn of(state: &State, for_model: ModelId, spare: Option<Generation>) -> Self {
        Self {
            kept: kept(state).chain(spare).collect(),
            spoken_for: spoken_for(state, for_model, spare).collect(),
            unwanted: unwanted(state).collect(),
        }
    }

    fn leave_of(&self, worker: &Worker) -> Leave {
        let id = &worker.generation();
        match (worker.is_live(), worker.is_idle()) {
            (false, _) => Leave::Leaving,
            (true, _) if self.kept.contains(id) => Leave::Stays,
            (true, true) if !self.spoken_for.contains(id) => Leave::Idle,
            (true, _) if self.unwanted.contains(id) => Leave::Idle,
            (true, _) => Leave::Later,
        }
    }
}

/// The best device for one more worker of a model.
pub(crate) fn for_worker(
    state: &State,
    id: ModelId,
    device: DeviceConstraint,
) -> Option<(Device, Room)> {
    let rooms = devices(state, id, device).into_iter().filter_map(|device| {
        let amount = state.model(id).need_on(device, state.settings())?;
        Some((device, available(state, amount, id, None)))
    });
    rooms.min_by_key(|(device, room)| match room {
        // It is worth asking for: a slower device that is free now comes second.
        Room::Leaving if awaits_truce(state, *device) => Room::Free.rank(),
        room => room.rank(),
    })
}

/// Whether memory of a device that other programs hold may come back: they can be asked, or were.
fn awaits_truce(state: &State, device: Device) -> bool {
    if state.settings().truce.is_none() || device == Device::Host {
        return false;
    }
    match state.truces().of(device) {
        Truce::None => state.budget().squeezed(device) > Mebibytes::ZERO,
        Truce::Asked { .. } | Truce::Settling { .. } => true,
        Truce::Held { .. } => false,
    }
}

/// The memory that a job takes beyond what a worker holds. After the job ran out of memory it asks for more than
/// it was admitted with; that is a guess, so the job goes without if it can never be had.
pub(crate) fn for_picture(state: &State, worker: &Worker, job: &Job) -> (Amount, Room) {
    let id = worker.model();
    let room = |more: Mebibytes| {
        let size = job.parameters().size;
        let amount = state.model(id).extra_for(worker.device(), size, more);
        (
            amount,
            available(state, amount, id, Some(worker.generation())),
        )
    };
    match room(job.more_room()) {
        (_, Room::Never(_)) if job.more_room() > Mebibytes::ZERO => room(Mebibytes::ZERO),
        (amount, room) => (amount, room),
    }
}

/// The devices that a model may run on, fastest first, then roomiest.
pub(crate) fn devices(state: &State, id: ModelId, device: DeviceConstraint) -> Vec<Device> {
    let spec = state.model(id).spec();
    let budget = state.budget();
    let constraint = match device {
        DeviceConstraint::Auto => spec.device,
        DeviceConstraint::On(_) => device,
    };
    let allowed = |device: &Device| match constraint {
        DeviceConstraint::Auto => true,
        DeviceConstraint::On(only) => only == *device,
    };
    let able = |device: &Device| budget.usable(*device) && spec.residency_on(*device).is_some();
    let mut devices: Vec<Device> = budget.devices().filter(allowed).filter(able).collect();
    devices.sort_by_key(|&device| {
        let free = budget.free(device);
        (device == Device::Host, std::cmp::Reverse(free), device)
    });
    devices
}

/// Whether `amount` can be had for a model, without touching its worker `spare`.
pub(crate) fn available(
    state: &State,
    amount: Amount,
    for_model: ModelId,
    spare: Option<Generation>,
) -> Room {
    if state.budget().has_room(amount) {
        return Room::Free;
    }
    let staying = Staying::of(state, for_model, spare);
    let supplies: Vec<(Mebibytes, Supply)> = amount
        .parts()
        .filter(|&(_, need)| need > Mebibytes::ZERO)
        .map(|(at, need)| (need, supply(state, at, &staying)))
        .collect();
    let enough = |of: fn(&Supply) -> Mebibytes| supplies.iter().all(|(need, s)| *need <= of(s));
    if enough(|s| s.free + s.leaving) {
        return Room::Leaving;
    }
    if enough(|s| s.free + s.leaving + s.idle) {
        return Room::Evict(victims(state, amount, &staying));
    }
    if enough(|s| s.free + s.leaving + s.idle + s.later) {
        return Room::Later;
    }
    Room::Never(shortage(state, amount, &staying))
}

/// Memory of one worker at its default size on the first device it may run on.
pub(crate) fn need_mb(state: &State, id: ModelId) -> Mebibytes {
    let devices = devices(state, id, DeviceConstraint::Auto);
    let first = devices.first().copied().unwrap_or(Device::Host);
    let amount = state.model(id).need_on(first, state.settings());
    amount.map_or(Mebibytes::ZERO, |amount| amount.at(first))
}

/// When a refusal for lack of memory is worth another try: workers that are kept or other programs hold memory then.
const MEMORY_RETRY_MS: u64 = 10_000;

/// Returns the failure of jobs whose model fits no worker into memory. Clients depend on the text: do not change it.
/// Without a time to retry the limits themselves are too small, and no other try can succeed.
pub(crate) fn memory_exhausted(state: &State, id: ModelId, short: Shortage) -> Failure {
    let key = &state.model(id).spec().key;
    let failure = Failure::new(
        FailureKind::MemoryExhausted,
        format!(
            "Cannot spawn workers for {key}. Need {} MB, only {} MB available",
            short.need.0, short.available.0
        ),
    );
    match is_within_limits(state, id) {
        true => failure.retry_after_ms(MEMORY_RETRY_MS),
        false => failure,
    }
}

/// Whether a worker of a model would fit on one of its devices if nothing else were there.
fn is_within_limits(state: &State, id: ModelId) -> bool {
    let mut devices = devices(state, id, DeviceConstraint::Auto).into_iter();
    devices.any(|device| {
        let need = state.model(id).need_on(device, state.settings());
        let fits = |(at, part)| part <= state.budget().limit(at);
        need.is_some_and(|need| need.parts().all(fits))
    })
}

/// The failure of jobs whose model has no usable device.
pub(crate) fn nowhere(state: &State, id: ModelId) -> Failure {
    let spec = state.model(id).spec();
    let able = |device: &Device| spec.residency_on(*device).is_some();
    let why = state.budget().devices().filter(able);
    let why = why.filter_map(|device| state.budget().obstacle(device, state.now()));
    let why = why.map(|obstacle| obstacle.reason);
    let sentence = format!("no device that is usable now can run {}", spec.key);
    let parts = [sentence].into_iter().chain(why);
    let parts: Vec<String> = parts.chain(missing_device(state, spec.device)).collect();
    Failure::new(FailureKind::MemoryExhausted, parts.join("; ")).retry_after_ms(MEMORY_RETRY_MS)
}

/// A sentence if a model is set to run on a device that there is not.
fn missing_device(state: &State, set: DeviceConstraint) -> Option<String> {
    match set {
        DeviceConstraint::On(device) if !state.budget().devices().any(|known| known == device) => {
            let place = device.placement();
            Some(format!(
                "its settings name {place}, and there is no {place} here"
            ))
        }
        DeviceConstraint::On(_) | DeviceConstraint::Auto => None,
    }
}

/// The failure of a job whose picture is too large for every worker its model can have.
pub(crate) fn never_fits(
    state: &State,
    id: ModelId,
    size: PictureSize,
    short: Shortage,
) -> Failure {
    let key = &state.model(id).spec().key;
    let Shortage {
        device,
        need,
        available,
    } = short;
    let limit = state.budget().limit(device);
    Failure::new(
        FailureKind::NeverFits,
        format!(
            "{size} with {key} never fits: it needs {} MB more on {device}, {} of {} MB are available",
            need.0, available.0, limit.0
        ),
    )
}

/// Workers that load although no job of their model waits.
fn unwanted(state: &State) -> impl Iterator<Item = Generation> {
    let idle = state
        .model_ids()
        .filter(|&id| state.jobs().queue(id).is_empty());
    let live = idle.flat_map(|id| state.fleet().live(id));
    live.filter(|worker| worker.is_coming())
        .map(Worker::generation)
}

/// Each model's first workers, up to its floor.
fn kept(state: &State) -> impl Iterator<Item = Generation> {
    state.model_ids().flat_map(|id| {
        let floor = state.model(id).floor(state.settings());
        let live = state.fleet().live(id).map(Worker::generation);
        live.take(floor)
    })
}

/// Idle workers reserved for older jobs than those the memory is for: they are idle because they wait for memory
/// themselves, and it is their turn. Models are compared by their oldest jobs, workers of one model by what
/// each of them can run.
fn spoken_for(
    state: &State,
    for_model: ModelId,
    spare: Option<Generation>,
) -> impl Iterator<Item = Generation> {
    let oldest = state.jobs().queue(for_model).oldest();
    let own = match spare.and_then(|id| state.fleet().get(id)) {
        Some(worker) => oldest_for(state, worker),
        None => unserved(state, for_model).next().or(oldest),
    };
    let could_run_older = move |worker: &&Worker| {
        let than = match worker.model() == for_model {
            true => own,
            false => oldest,
        };
        let older = oldest_for(state, worker);
        older.is_some_and(|older| than.is_none_or(|than| older < than))
    };
    let idle = state.fleet().iter().filter(|worker| worker.is_idle());
    idle.filter(could_run_older).map(Worker::generation)
}

fn supply(state: &State, at: Device, staying: &Staying) -> Supply {
    if !state.budget().usable(at) {
        return Supply::default();
    }
    let squeezed = match awaits_truce(state, at) {
        true => state.budget().squeezed(at),
        false => Mebibytes::ZERO,
    };
    let mut supply = Supply {
        free: state.budget().free(at),
        // What is withheld is free after the next measurement, or once the device has rested; what other programs
        // hold, once they were asked for it.
        leaving: state.budget().settling(at) + state.budget().withheld(at) + squeezed,
        ..Supply::default()
    };
    for worker in state.fleet().iter() {
        let held = held_at(worker, at);
        match staying.leave_of(worker) {
            Leave::Leaving => supply.leaving += held,
            Leave::Stays => {}
            Leave::Idle => supply.idle += held,
            Leave::Later => supply.later += held,
        }
    }
    supply
}

fn shortage(state: &State, amount: Amount, staying: &Staying) -> Shortage {
    let short = |&(at, need): &(Device, Mebibytes)| {
        let s = supply(state, at, staying);
        need > s.free + s.leaving + s.idle + s.later
    };
    let (device, need) = amount
        .parts()
        .find(short)
        .unwrap_or((Device::Host, amount.host()));
    Shortage {
        device,
        need,
        available: state.budget().available(device),
    }
}

/// The idle workers that are cheapest to bring back and together make enough room.
fn victims(state: &State, amount: Amount, staying: &Staying) -> Vec<Generation> {
    let mut missing: Vec<(Device, Mebibytes)> = amount
        .parts()
        .map(|(at, need)| {
            let s = supply(state, at, staying);
            (at, need.saturating_sub(s.free + s.leaving))
        })
        .collect();
    let mut idle: Vec<&Worker> = state
        .fleet()
        .iter()
        .filter(|worker| staying.leave_of(worker) == Leave::Idle)
        .collect();
    idle.sort_by_key(|worker| (worth(state, worker), worker.generation()));
    let mut victims = Vec::new();
    for worker in idle {
        let helps = |&(at, need): &(Device, Mebibytes)| {
            need > Mebibytes::ZERO && held_at(worker, at) > Mebibytes::ZERO
        };
        if missing.iter().any(helps) {
            for (at, need) in &mut missing {
                *need = need.saturating_sub(held_at(worker, *at));
            }
            victims.push(worker.generation());
        }
    }
    victims
}

/// Returns a worker's reservation on a device.
fn held_at(worker: &Worker, at: Device) -> Mebibytes {
    worker.promised().map(|amount| amount.at(at)).sum()
}

/// How much it is worth to keep an idle worker: the moment of its last use, plus four times what loading it
/// again takes. The last worker of a model is worth more than a second one.
fn worth(state: &State, worker: &Worker) -> Moment {
    let size: Mebibytes = worker.promised().map(Amount::total).sum();
    // If no load was measured: a gibibyte a second.
    let guess = Duration::from_millis(size.0);
    let pace = state.model(worker.model()).observed().pace();
    let load = pace.load().unwrap_or(guess);
    let only = state.fleet().live(worker.model()).nth(1).is_none();
    worker.since() + load * if only { 4 } else { 1 }
}
