//! Whether there is room for something, and who would have to leave for it.

use std::collections::BTreeSet;
use std::time::Duration;

use ipc_protocol::ids::{Device, DeviceWish, Generation, JobId};
use ipc_protocol::units::Mebibytes;

use crate::budget::Amount;
use crate::model::{Model, ModelId};
use crate::moment::Moment;
use crate::placement::serves;
use crate::pool::Pool;
use crate::worker::Worker;

/// The answer to "is there room?", best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Room {
    /// Now.
    Free,
    /// Once those that are on their way out are gone.
    Leaving,
    /// Once these idle workers have left.
    Evict(Vec<Generation>),
    /// Once some of those that work now have finished, and left.
    Later,
    /// Not while those that may stay do.
    Never(Shortage),
}

/// Where memory is short, in the numbers of the refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shortage {
    pub(crate) device: Device,
    pub(crate) need: Mebibytes,
    pub(crate) available: Mebibytes,
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
}

/// What a device could give, step by step.
#[derive(Debug, Clone, Copy, Default)]
struct Supply {
    free: Mebibytes,
    leaving: Mebibytes,
    idle: Mebibytes,
    later: Mebibytes,
}

/// Who is not to be ended for the one that asks.
#[derive(Debug)]
struct Staying {
    /// Never.
    kept: BTreeSet<Generation>,
    /// Not before they did what they wait to do.
    spoken_for: BTreeSet<Generation>,
    /// They load and nobody waits for it: they leave as soon as they are told.
    unwanted: BTreeSet<Generation>,
}

/// When a worker's room comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// It is on its way out.
    Leaving,
    /// As soon as it is told: it is idle, or loads for nobody.
    Idle,
    /// When it has worked.
    Later,
    Stays,
}

impl Staying {
    fn leave_of(&self, worker: &Worker) -> Leave {
        let id = &worker.generation;
        match (worker.is_live(), worker.is_idle()) {
            (false, _) => Leave::Leaving,
            (true, _) if self.kept.contains(id) => Leave::Stays,
            (true, true) if !self.spoken_for.contains(id) => Leave::Idle,
            (true, _) if self.unwanted.contains(id) => Leave::Idle,
            (true, _) => Leave::Later,
        }
    }
}

impl Pool {
    /// The best place for one more worker of a model, among those it may run on.
    pub(crate) fn room_for_worker(&self, id: ModelId, wish: DeviceWish) -> Option<(Device, Room)> {
        let model = self.model(id);
        let places = self.places(model, wish).into_iter();
        let rooms = places.filter_map(|device| {
            let amount = model.need_on(device, &self.settings)?;
            Some((device, self.room(amount, id, None)))
        });
        rooms.min_by_key(|(_, room)| room.rank())
    }

    /// The devices a model may run on, fastest first, then roomiest.
    pub(crate) fn places(&self, model: &Model, wish: DeviceWish) -> Vec<Device> {
        let wish = match wish {
            DeviceWish::Auto => model.spec.device,
            DeviceWish::On(_) => wish,
        };
        let wished = |device: &Device| match wish {
            DeviceWish::Auto => true,
            DeviceWish::On(only) => only == *device,
        };
        let able = |device: &Device| {
            self.budget.usable(*device) && model.spec.residency_on(*device).is_some()
        };
        let mut places: Vec<Device> = self.budget.devices().filter(wished).filter(able).collect();
        places.sort_by_key(|&device| {
            let free = self.budget.free(device);
            (device == Device::Host, std::cmp::Reverse(free), device)
        });
        places
    }

    /// Whether `amount` can be had for a model; its worker `spare` is not to be touched for it.
    pub(crate) fn room(
        &self,
        amount: Amount,
        for_model: ModelId,
        spare: Option<Generation>,
    ) -> Room {
        if self.budget.has_room(amount) {
            return Room::Free;
        }
        let staying = self.staying(for_model, spare);
        let supplies: Vec<(Mebibytes, Supply)> = amount
            .parts()
            .filter(|&(_, need)| need > Mebibytes::ZERO)
            .map(|(at, need)| (need, self.supply(at, &staying)))
            .collect();
        let enough = |of: fn(&Supply) -> Mebibytes| supplies.iter().all(|(need, s)| *need <= of(s));
        if enough(|s| s.free + s.leaving) {
            return Room::Leaving;
        }
        if enough(|s| s.free + s.leaving + s.idle) {
            return Room::Evict(self.victims(amount, &staying));
        }
        if enough(|s| s.free + s.leaving + s.idle + s.later) {
            return Room::Later;
        }
        Room::Never(self.shortage(amount, &staying))
    }

    /// Who does not leave for a model, whatever it needs.
    fn staying(&self, for_model: ModelId, spare: Option<Generation>) -> Staying {
        Staying {
            kept: self.kept().into_iter().chain(spare).collect(),
            spoken_for: self.spoken_for(for_model, spare),
            unwanted: self.unwanted(),
        }
    }

    /// Workers that load for clients that left.
    fn unwanted(&self) -> BTreeSet<Generation> {
        let idle = self.models.iter().filter(|model| model.queue.is_empty());
        let coming = idle.flat_map(|model| self.live(model).filter(|worker| worker.is_coming()));
        coming.map(|worker| worker.generation).collect()
    }

    /// Each model's first workers, up to its floor.
    fn kept(&self) -> BTreeSet<Generation> {
        let of_model = |model: &'_ Model| -> Vec<Generation> {
            match model.floor(&self.settings) {
                0 => Vec::new(),
                floor => self.live(model).map(|w| w.generation).take(floor).collect(),
            }
        };
        self.models.iter().flat_map(of_model).collect()
    }

    /// The idle workers that could run an older job than those that the room is for: they are idle
    /// because they wait for room themselves, and it is their turn. Models are compared by their oldest
    /// jobs, workers of one model by what each of them can run.
    fn spoken_for(&self, for_model: ModelId, spare: Option<Generation>) -> BTreeSet<Generation> {
        let asking = self.model(for_model);
        let own = match spare.and_then(|id| self.workers.get(&id)) {
            Some(worker) => self.oldest_for(worker),
            None => self.unserved(asking).next().or(asking.queue.oldest()),
        };
        let could_run_older = |worker: &&Worker| {
            let than = match worker.model == for_model {
                true => own,
                false => asking.queue.oldest(),
            };
            let oldest = self.oldest_for(worker);
            oldest.is_some_and(|older| than.is_none_or(|than| older < than))
        };
        self.workers
            .values()
            .filter(|worker| worker.is_idle())
            .filter(could_run_older)
            .map(|worker| worker.generation)
            .collect()
    }

    /// The oldest waiting job that a worker could run.
    fn oldest_for(&self, worker: &Worker) -> Option<JobId> {
        self.model(worker.model).queue.iter().find(|job| {
            self.jobs
                .get(job)
                .is_some_and(|job| serves(worker, job.device))
        })
    }

    fn supply(&self, at: Device, staying: &Staying) -> Supply {
        let mut supply = Supply {
            free: self.budget.free(at),
            leaving: self.budget.settling(at),
            ..Supply::default()
        };
        for worker in self.workers.values() {
            let held: Mebibytes = worker.promised().map(|amount| amount.at(at)).sum();
            match staying.leave_of(worker) {
                Leave::Leaving => supply.leaving += held,
                Leave::Stays => {}
                Leave::Idle => supply.idle += held,
                Leave::Later => supply.later += held,
            }
        }
        if !self.budget.usable(at) {
            supply = Supply::default();
        }
        supply
    }

    fn shortage(&self, amount: Amount, staying: &Staying) -> Shortage {
        let short = |&(at, need): &(Device, Mebibytes)| {
            let s = self.supply(at, staying);
            need > s.free + s.leaving + s.idle + s.later
        };
        let (device, need) = amount
            .parts()
            .find(short)
            .unwrap_or((Device::Host, amount.host));
        let limit = self.budget.limit(device);
        Shortage {
            device,
            need,
            available: limit.saturating_sub(self.budget.reserved(device)),
        }
    }

    /// The idle workers that are cheapest to bring back and together make enough room.
    fn victims(&self, amount: Amount, staying: &Staying) -> Vec<Generation> {
        let mut missing: Vec<(Device, Mebibytes)> = amount
            .parts()
            .map(|(at, need)| {
                let s = self.supply(at, staying);
                (at, need.saturating_sub(s.free + s.leaving))
            })
            .collect();
        let mut idle: Vec<&Worker> = self
            .workers
            .values()
            .filter(|worker| staying.leave_of(worker) == Leave::Idle)
            .collect();
        idle.sort_by_key(|worker| (self.worth(worker), worker.generation));
        let mut victims = Vec::new();
        for worker in idle {
            let gives = |at: Device| -> Mebibytes { worker.promised().map(|a| a.at(at)).sum() };
            let helps = |&(at, need): &(Device, Mebibytes)| {
                need > Mebibytes::ZERO && gives(at) > Mebibytes::ZERO
            };
            if missing.iter().any(helps) {
                for (at, need) in &mut missing {
                    *need = need.saturating_sub(gives(*at));
                }
                victims.push(worker.generation);
            }
        }
        victims
    }

    /// What keeping an idle worker is worth: the moment of its last use, put off by four times what
    /// bringing it back takes. The last worker of a model is worth more than a second one.
    fn worth(&self, worker: &Worker) -> Moment {
        let model = self.model(worker.model);
        let size: Mebibytes = worker.promised().map(Amount::total).sum();
        // Where no load was measured: a gibibyte a second.
        let guess = Duration::from_millis(size.0);
        let load = model.pace.load().unwrap_or(guess);
        let only = self.live(model).nth(1).is_none();
        worker.since + load * if only { 4 } else { 1 }
    }
}
