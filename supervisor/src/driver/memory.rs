//! The host memory of workers, measured once in a while whatever they send.

use std::time::Duration;

use ipc_protocol::ids::{Device, Generation};
use ipc_protocol::units::Mebibytes;
use pool::{Event, Footprint, Moment};
use tokio::task::{JoinHandle, spawn_blocking};

use super::Driver;
use super::process_event::ProcessEvent;
use crate::probe;

/// Time between two measurements.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// The measurement under way, and when it began.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    measuring: Option<JoinHandle<()>>,
    began: Option<Moment>,
}

impl Driver {
    /// Raises the limit of a worker's memory to its reservation, which may have grown.
    pub(super) fn raise_limit(&self, worker: Generation) {
        let Some(handle) = self.workers.get(&worker) else {
            return;
        };
        let status = self.pool.worker(self.clock.now(), worker);
        let host = Device::Host.to_string();
        if let Some(mb) = status.and_then(|status| status.reserved_mb.get(&host).copied()) {
            handle.raise_limit(Mebibytes(mb));
        }
    }

    /// Measures all workers beside the loop, because /proc may take its time.
    pub(super) fn measure_memory(&mut self) {
        let now = self.clock.now();
        let began = self.gauge.began;
        let is_due =
            !self.workers.is_empty() && began.is_none_or(|began| now.since(began) >= MEASURE_EVERY);
        let measuring = self.gauge.measuring.as_ref();
        if !is_due || measuring.is_some_and(|measuring| !measuring.is_finished()) {
            return;
        }
        let pids = self.workers.iter();
        let pids: Vec<(Generation, u32)> = pids
            .filter_map(|(worker, handle)| Some((*worker, handle.pid()?)))
            .collect();
        let outbox = self.handle.outbox.clone();
        self.gauge = Gauge {
            measuring: Some(spawn_blocking(move || {
                for (worker, pid) in pids {
                    if let Some(held) = probe::held_bytes(pid) {
                        outbox.tell(worker, ProcessEvent::Holds { bytes: held.now });
                    }
                }
            })),
            began: Some(now),
        };
    }

    pub(super) fn holds(&mut self, worker: Generation, bytes: u64) {
        let footprint = Footprint {
            device: self.gpus.held(worker),
            ..host_footprint(bytes)
        };
        self.happen(Event::FootprintMeasured { worker, footprint });
        self.raise_limit(worker);
    }
}

/// Memory of the host alone.
pub(super) fn host_footprint(bytes: u64) -> Footprint {
    Footprint {
        host: Mebibytes::holding(bytes),
        device: Mebibytes::ZERO,
    }
}
