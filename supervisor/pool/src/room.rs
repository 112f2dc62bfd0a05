//! Whether there is room for something, and who would have to leave for it.

use std::collections::BTreeSet;
use std::time::Duration;

use ipc_protocol::ids::{Device, DeviceWish, Generation};
use ipc_protocol::units::Mebibytes;

use crate::budget::Amount;
use crate::model::{Model, ModelId};
use crate::moment::Moment;
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
        let protected = self.protected(for_model);
        let supplies: Vec<(Mebibytes, Supply)> = amount
            .parts()
            .filter(|&(_, need)| need > Mebibytes::ZERO)
            .map(|(at, need)| (need, self.supply(at, &protected, spare)))
            .collect();
        let enough = |of: fn(&Supply) -> Mebibytes| supplies.iter().all(|(need, s)| *need <= of(s));
        if enough(|s| s.free + s.leaving) {
            return Room::Leaving;
        }
        if enough(|s| s.free + s.leaving + s.idle) {
            return Room::Evict(self.victims(amount, &protected, spare));
        }
        if enough(|s| s.free + s.leaving + s.idle + s.later) {
            return Room::Later;
        }
        Room::Never(self.shortage(amount, &protected, spare))
    }

    /// The workers that stay whatever others need: each model's first ones, up to its floor. Those
    /// of the model that asks do not stand in its own way when it has more than its floor.
    fn protected(&self, _for_model: ModelId) -> BTreeSet<Generation> {
        let kept = |model: &Model| model.floor(&self.settings);
        let of_model = |model: &'_ Model| -> Vec<Generation> {
            match kept(model) {
                0 => Vec::new(),
                floor => self.live(model).map(|w| w.generation).take(floor).collect(),
            }
        };
        self.models.iter().flat_map(of_model).collect()
    }

    fn supply(
        &self,
        at: Device,
        protected: &BTreeSet<Generation>,
        spare: Option<Generation>,
    ) -> Supply {
        let mut supply = Supply {
            free: self.budget.free(at),
            leaving: self.budget.settling(at),
            ..Supply::default()
        };
        for worker in self.workers.values() {
            let held: Mebibytes = worker.promised().map(|amount| amount.at(at)).sum();
            let stays = protected.contains(&worker.generation) || spare == Some(worker.generation);
            match (worker.is_live(), worker.is_idle()) {
                (false, _) => supply.leaving += held,
                (true, _) if stays => {}
                (true, true) => supply.idle += held,
                (true, false) => supply.later += held,
            }
        }
        if !self.budget.usable(at) {
            supply = Supply::default();
        }
        supply
    }

    fn shortage(
        &self,
        amount: Amount,
        protected: &BTreeSet<Generation>,
        spare: Option<Generation>,
    ) -> Shortage {
        let short = |&(at, need): &(Device, Mebibytes)| {
            let s = self.supply(at, protected, spare);
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
    fn victims(
        &self,
        amount: Amount,
        protected: &BTreeSet<Generation>,
        spare: Option<Generation>,
    ) -> Vec<Generation> {
        let mut missing: Vec<(Device, Mebibytes)> = amount
            .parts()
            .map(|(at, need)| {
                let s = self.supply(at, protected, spare);
                (at, need.saturating_sub(s.free + s.leaving))
            })
            .collect();
        let mut idle: Vec<&Worker> = self
            .workers
            .values()
            .filter(|worker| worker.is_idle() && spare != Some(worker.generation))
            .filter(|worker| !protected.contains(&worker.generation))
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
