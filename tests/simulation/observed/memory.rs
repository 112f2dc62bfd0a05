//! The arithmetic of memory: what a worker needs, what is free, and what could be free.

use std::collections::{BTreeMap, BTreeSet};

use ipc_protocol::ids::{Device, DeviceConstraint, Generation, ModelKey};
use ipc_protocol::units::{Mebibytes, PictureSize};

use super::{ModelRecord, ObservedPool, ProcessRecord};

/// An amount of memory on each device.
pub(crate) type MemoryParts = BTreeMap<Device, Mebibytes>;

impl ObservedPool {
    /// Memory of one more worker: its weights and a picture of the default size, a quarter more after a load ran out of
    /// memory, and at least the largest measured footprint and a margin. `None` if it cannot run there.
    pub(crate) fn need(&self, model: &ModelRecord, device: Device) -> Option<MemoryParts> {
        let usual = self.activation(model, device, model.spec.default_size);
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

    /// Memory for one picture, in MB: a base, a part per megapixel and a part per megapixel squared, each rounded up, and
    /// at least the model's minimum.
    pub(crate) fn activation(&self, model: &ModelRecord, device: Device, size: PictureSize) -> u64 {
        let activation = match (device, model.spec.need.on_cuda) {
            (Device::Cuda(_), Some(part)) => part.activation,
            (Device::Cuda(_), None) | (Device::Host, _) => model.spec.need.activation,
        };
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

    /// Memory of a picture of `size` beyond one of the default size.
    pub(crate) fn extra(
        &self,
        model: &ModelRecord,
        device: Device,
        size: PictureSize,
    ) -> Mebibytes {
        let usual = self.activation(model, device, model.spec.default_size);
        Mebibytes(self.activation(model, device, size).saturating_sub(usual))
    }

    /// Memory reserved for a worker on a device.
    pub(crate) fn held(&self, process: &ProcessRecord, on: Device) -> Mebibytes {
        let base = process.promised.get(&on).copied().unwrap_or_default();
        match process.device == on {
            true => base + process.extra,
            false => base,
        }
    }

    /// Memory reserved for workers that are not reaped.
    pub(crate) fn reserved(&self, on: Device) -> Mebibytes {
        self.workers
            .values()
            .map(|process| self.held(process, on))
            .sum()
    }

    /// Memory of dead workers that is not confirmed as free: all of it, or what was given up or not.
    pub(crate) fn settling_on(&self, on: Device, given_up: Option<bool>) -> Mebibytes {
        let here = self.settling.values().filter(|part| {
            part.device == on && given_up.is_none_or(|given_up| part.given_up == given_up)
        });
        here.map(|part| part.part).sum()
    }

    /// Memory without what is reserved, what others hold, and what was given up.
    pub(crate) fn available(&self, on: Device) -> Mebibytes {
        let taken = self.reserved(on) + self.settling_on(on, Some(true));
        self.ceiling(on).saturating_sub(taken)
    }

    /// Memory that can be reserved now: none while the device is unmeasured or rests.
    pub(crate) fn free(&self, on: Device) -> Mebibytes {
        if self
            .devices
            .get(&on)
            .is_some_and(|record| record.aged || record.rests.is_some())
        {
            return Mebibytes::ZERO;
        }
        let taken = self.reserved(on) + self.settling_on(on, None);
        self.ceiling(on).saturating_sub(taken)
    }

    /// Memory that could be reserved without any worker.
    fn ceiling(&self, on: Device) -> Mebibytes {
        let Some(record) = self.devices.get(&on).filter(|record| !record.lost) else {
            return Mebibytes::ZERO;
        };
        match (record.total, record.foreign) {
            (Some(total), Some(foreign)) if !record.aged => {
                record.limit.min(total.saturating_sub(foreign))
            }
            (Some(_) | None, Some(_) | None) => record.limit,
        }
    }

    /// Whether other programs hold so much that less than the limit can be reserved.
    pub(crate) fn is_squeezed(&self, on: Device) -> bool {
        self.devices
            .get(&on)
            .is_some_and(|record| self.ceiling(on) < record.limit)
    }

    /// Workers that may not be evicted: the first ones of each model, up to the number that it keeps.
    pub(crate) fn staying(&self) -> BTreeSet<Generation> {
        let mut staying = BTreeSet::new();
        for (key, model) in &self.models {
            let floor = self.floor(model);
            staying.extend(self.live(key).map(|(id, _)| id).take(floor));
        }
        staying
    }

    /// Memory that could be reserved after every worker except `staying` has left.
    pub(crate) fn at_best(&self, on: Device, staying: &BTreeSet<Generation>) -> Mebibytes {
        let stays = self.workers.iter().filter(|(id, _)| staying.contains(id));
        let taken: Mebibytes = stays.map(|(_, process)| self.held(process, on)).sum();
        let unreclaimed = self.settling_on(on, Some(true));
        self.ceiling(on).saturating_sub(taken + unreclaimed)
    }

    pub(crate) fn has_room(&self, parts: &MemoryParts) -> bool {
        parts.iter().all(|(&at, &part)| part <= self.free(at))
    }

    /// The usable devices that a worker of a model may run on, for a request that asks for `wish`.
    pub(crate) fn places(&self, model: &ModelRecord, wish: DeviceConstraint) -> Vec<Device> {
        let wish = match wish {
            DeviceConstraint::Auto => model.spec.device,
            DeviceConstraint::On(_) => wish,
        };
        let wished =
            |device: Device| wish == DeviceConstraint::Auto || wish == DeviceConstraint::On(device);
        let usable = self.devices.iter().filter(|(_, record)| !record.lost);
        let devices = usable.map(|(&device, _)| device).filter(|&at| wished(at));
        devices
            .filter(|&at| self.need(model, at).is_some())
            .collect()
    }

    /// Whether a picture of `size` could be drawn there, by a worker that is there or by one more, after every worker
    /// that may be evicted has left.
    pub(crate) fn could_have(&self, key: &ModelKey, at: Device, size: PictureSize) -> bool {
        let model = &self.models[key];
        let (extra, staying) = (self.extra(model, at, size), self.staying());
        let there = self.live(key).filter(|(_, process)| process.device == at);
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
