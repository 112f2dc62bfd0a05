//! Memory: what processes hold or may still hold is never more than may be.

use ipc_protocol::ids::{Device, Generation};
use ipc_protocol::units::Mebibytes;

use super::{Life, Seen, Shadow, Verdict};

impl Shadow {
    pub(super) fn release(&mut self, worker: Generation, on: impl Fn(Device) -> bool) {
        let range = (worker, Device::Host)..=(worker, Device::Cuda(u32::MAX));
        let parts: Vec<Device> = self
            .held
            .range(range)
            .map(|(&(_, device), _)| device)
            .collect();
        for device in parts.into_iter().filter(|&device| on(device)) {
            if let Some(part) = self.held.remove(&(worker, device)) {
                let sum = self.sums.entry(device).or_default();
                *sum = *sum - part;
            }
        }
    }

    /// Promised to processes that hold memory is never more than may be.
    pub(super) fn check_memory(&self) -> Verdict {
        for (device, &limit) in &self.limits {
            let mut sum = self.sums.get(device).copied().unwrap_or_default();
            sum += self.extra_on(*device);
            if sum > limit {
                return Err(format!(
                    "{} MB promised on {device}, limit {}",
                    sum.0, limit.0
                ));
            }
        }
        Ok(())
    }

    /// Room for the pictures being drawn beyond the usual size.
    pub(super) fn extra_on(&self, device: Device) -> Mebibytes {
        let extra = |seen: &Seen| {
            let (Life::Busy(job) | Life::Unwinding(job) | Life::Leaving(Some(job))) = seen.life
            else {
                return Mebibytes::ZERO;
            };
            match self.jobs.contains_key(&job) {
                true => seen.extra,
                false => Mebibytes::ZERO,
            }
        };
        let here = self.workers.values().filter(|seen| seen.device == device);
        here.map(extra).sum()
    }
}
