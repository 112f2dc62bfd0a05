//! Memory, counted from outside: what a worker needs, what is free, and what could be.

use std::collections::{BTreeMap, BTreeSet};

use ipc_protocol::ids::{Device, DeviceWish, Generation, ModelKey};
use ipc_protocol::units::{Mebibytes, PictureSize};

use super::{Hand, Model, Scene};

/// So much of each device.
pub(crate) type Parts = BTreeMap<Device, Mebibytes>;

impl Scene {
    /// Residency and a usual picture, a quarter more after a load ran out of memory, and never less
    /// than the worst that was seen and a margin.
    pub(crate) fn need(&self, model: &Model, device: Device) -> Option<Parts> {
        let usual = self.activation(model, model.spec.default_size);
        let more = |part: u64, percent: u64| part + part * percent / 100;
        let margin = self.settings.margin_percent;
        let mut parts = BTreeMap::new();
        match device {
            Device::Host => {
                let held = model.spec.need.on_cpu?.0 + usual;
                let need = more(held, model.raised).max(more(model.worst.host.0, margin));
                parts.insert(Device::Host, Mebibytes(need));
            }
            Device::Cuda(_) => {
                let held = model.spec.need.on_cuda?;
                let need = more(held.device.0 + usual, model.raised);
                let need = need.max(more(model.worst.device.0, margin));
                let host = more(held.host.0, model.raised);
                parts.insert(Device::Host, Mebibytes(host));
                parts.insert(device, Mebibytes(need));
            }
        }
        Some(parts)
    }

    /// Base, pixels and pixels squared, each rounded up, and at least the least.
    pub(crate) fn activation(&self, model: &Model, size: PictureSize) -> u64 {
        let activation = &model.spec.need.activation;
        let megapixel = 1_048_576_u128;
        let pixels = u128::from(size.width) * u128::from(size.height);
        let up = |of: u128, by: u128| of / by + u128::from(!of.is_multiple_of(by));
        let linear = up(u128::from(activation.per_megapixel.0) * pixels, megapixel);
        let square = u128::from(activation.per_megapixel_squared.0) * pixels * pixels;
        let sum = u128::from(activation.base.0) + linear + up(square, megapixel * megapixel);
        u64::try_from(sum)
            .unwrap_or(u64::MAX)
            .max(activation.least.0)
    }

    /// What a picture of `size` takes beyond the usual one.
    pub(crate) fn extra(&self, model: &Model, size: PictureSize) -> Mebibytes {
        let usual = self.activation(model, model.spec.default_size);
        Mebibytes(self.activation(model, size).saturating_sub(usual))
    }

    pub(crate) fn held(&self, hand: &Hand, on: Device) -> Mebibytes {
        let base = hand.promised.get(&on).copied().unwrap_or_default();
        match hand.device == on {
            true => base + hand.extra,
            false => base,
        }
    }

    /// Promised to workers that are not reaped.
    pub(crate) fn reserved(&self, on: Device) -> Mebibytes {
        self.workers.values().map(|hand| self.held(hand, on)).sum()
    }

    pub(crate) fn settling_on(&self, on: Device, given_up: Option<bool>) -> Mebibytes {
        let here = self.settling.values().filter(|part| {
            part.device == on && given_up.is_none_or(|given_up| part.given_up == given_up)
        });
        here.map(|part| part.part).sum()
    }

    /// What may be promised now.
    pub(crate) fn free(&self, on: Device) -> Mebibytes {
        let taken = self.reserved(on) + self.settling_on(on, None);
        self.ceiling(on).saturating_sub(taken)
    }

    /// What may be promised with nobody there.
    fn ceiling(&self, on: Device) -> Mebibytes {
        let Some(place) = self.devices.get(&on).filter(|place| !place.lost) else {
            return Mebibytes::ZERO;
        };
        match (place.total, place.foreign) {
            (Some(total), Some(foreign)) => place.limit.min(total.saturating_sub(foreign)),
            (Some(_) | None, Some(_) | None) => place.limit,
        }
    }

    /// Others hold so much there that what is promised may be more than there is.
    pub(crate) fn is_squeezed(&self, on: Device) -> bool {
        self.devices
            .get(&on)
            .is_some_and(|place| self.ceiling(on) < place.limit)
    }

    /// Workers that nobody may end: each model's first ones, up to its floor.
    pub(crate) fn staying(&self) -> BTreeSet<Generation> {
        let mut staying = BTreeSet::new();
        for (key, model) in &self.models {
            let floor = self.floor(model);
            staying.extend(self.live(key).map(|(id, _)| id).take(floor));
        }
        staying
    }

    /// What could be promised with everybody gone that may go.
    pub(crate) fn at_best(&self, on: Device, staying: &BTreeSet<Generation>) -> Mebibytes {
        let stays = self.workers.iter().filter(|(id, _)| staying.contains(id));
        let taken: Mebibytes = stays.map(|(_, hand)| self.held(hand, on)).sum();
        let unreclaimed = self.settling_on(on, Some(true));
        self.ceiling(on).saturating_sub(taken + unreclaimed)
    }

    pub(crate) fn has_room(&self, parts: &Parts) -> bool {
        parts.iter().all(|(&at, &part)| part <= self.free(at))
    }

    /// Where a worker of it may run.
    pub(crate) fn places(&self, model: &Model, wish: DeviceWish) -> Vec<Device> {
        let wish = match wish {
            DeviceWish::Auto => model.spec.device,
            DeviceWish::On(_) => wish,
        };
        let wished = |device: Device| wish == DeviceWish::Auto || wish == DeviceWish::On(device);
        let usable = self.devices.iter().filter(|(_, place)| !place.lost);
        let devices = usable.map(|(&device, _)| device).filter(|&at| wished(at));
        devices
            .filter(|&at| self.need(model, at).is_some())
            .collect()
    }

    /// A picture of `size` could be drawn there: by a worker that is there, or by one more.
    pub(crate) fn could_have(&self, key: &ModelKey, at: Device, size: PictureSize) -> bool {
        let model = &self.models[key];
        let (extra, staying) = (self.extra(model, size), self.staying());
        let there = self.live(key).filter(|(_, hand)| hand.device == at);
        for (id, _) in there {
            let mut staying = staying.clone();
            staying.insert(id);
            if extra <= self.at_best(at, &staying) {
                return true;
            }
        }
        let Some(mut parts) = self.need(model, at) else {
            return false;
        };
        *parts.entry(at).or_default() += extra;
        let enough = |(&at, &part): (&Device, &Mebibytes)| part <= self.at_best(at, &staying);
        parts.iter().all(enough)
    }
}
