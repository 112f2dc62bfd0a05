//! The energy of pictures: that of a GPU between two measurements, shared among its jobs.
//!
//! A GPU is measured about once a second, so a job's energy is known with the first measurement after its end. While no
//! job runs, a GPU takes its idle power, which is charged to none.

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_protocol::ids::{Device, JobId, ModelKey};
use pool::Moment;

/// The energy meter of every GPU.
#[derive(Debug, Default)]
pub(super) struct EnergyMeter {
    gpus: BTreeMap<Device, GpuMeter>,
}

/// Energy and power of a GPU, as its driver measures them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct EnergyReading {
    /// Since the driver was loaded, in millijoules.
    pub energy_mj: Option<u64>,
    /// Now, in milliwatts.
    pub power_mw: Option<u32>,
}

#[derive(Debug)]
struct GpuMeter {
    measured: Moment,
    reading: EnergyReading,
    /// Up to here the time is shared among the jobs.
    shared: Moment,
    /// Power while no job ran, in watts.
    idle_watts: Option<f64>,
    jobs: BTreeMap<JobId, EnergyShare>,
}

/// A job's share of a GPU.
#[derive(Debug)]
struct EnergyShare {
    model: ModelKey,
    /// Its part of the time since the last measurement: with two jobs each has half.
    time: Duration,
    /// Up to the last measurement; `None` if the driver did not say once.
    joules: Option<f64>,
    has_ended: bool,
}

/// A finished job with its energy in joules.
pub(super) type MeasuredJob = (JobId, ModelKey, f64);

impl EnergyMeter {
    /// A job begins on a GPU.
    pub fn began(&mut self, device: Device, job: JobId, model: &ModelKey, now: Moment) {
        let Some(gpu) = self.gpus.get_mut(&device) else {
            return; // No GPU, or none that was measured.
        };
        gpu.share_time(now);
        let share = EnergyShare {
            model: model.clone(),
            time: Duration::ZERO,
            joules: Some(0.0),
            has_ended: false,
        };
        gpu.jobs.insert(job, share);
    }

    /// A job's picture is drawn.
    pub fn finished(&mut self, device: Device, job: JobId, now: Moment) {
        if let Some(gpu) = self.gpus.get_mut(&device) {
            gpu.share_time(now);
            if let Some(share) = gpu.jobs.get_mut(&job) {
                share.has_ended = true;
            }
        }
    }

    /// A job's attempt ended without a picture; it counts nowhere.
    pub fn lost(&mut self, device: Device, job: JobId, now: Moment) {
        if let Some(gpu) = self.gpus.get_mut(&device) {
            gpu.share_time(now);
            gpu.jobs.remove(&job);
        }
    }

    /// A GPU was measured at `now`. Returns the jobs that had ended; nothing new for a measurement that is known.
    pub fn measured(
        &mut self,
        device: Device,
        reading: EnergyReading,
        now: Moment,
    ) -> Vec<MeasuredJob> {
        let gpu = self.gpus.entry(device).or_insert_with(|| GpuMeter {
            measured: now,
            reading,
            shared: now,
            idle_watts: None,
            jobs: BTreeMap::new(),
        });
        if now <= gpu.measured {
            return Vec::new();
        }
        gpu.share_time(now);
        gpu.charge(reading, now);
        let ended = gpu.jobs.extract_if(.., |_, share| share.has_ended);
        ended
            .filter_map(|(job, share)| Some((job, share.model, share.joules?)))
            .collect()
    }
}

impl GpuMeter {
    /// Shares the time since the last call among the jobs that ran.
    fn share_time(&mut self, now: Moment) {
        let passed = now.since(std::mem::replace(&mut self.shared, now));
        let running = self.jobs.values_mut().filter(|share| !share.has_ended);
        let running: Vec<&mut EnergyShare> = running.collect();
        let part = passed.checked_div(u32::try_from(running.len()).unwrap_or(u32::MAX));
        for share in running {
            share.time += part.unwrap_or_default();
        }
    }

    /// Charges the energy since the last measurement to the jobs, by their time.
    fn charge(&mut self, reading: EnergyReading, now: Moment) {
        let passed = now.since(self.measured).as_secs_f64();
        let joules = self.reading.joules_until(reading, passed);
        let busy: f64 = self.jobs.values().map(|job| job.time.as_secs_f64()).sum();
        (self.measured, self.reading) = (now, reading);
        if busy == 0.0 {
            self.idle_watts = joules.map(|joules| joules / passed);
            return;
        }
        let charged = joules.map(|joules| {
            let mean = joules / passed;
            let idle = self.idle_watts.unwrap_or(mean).min(mean);
            joules - idle * (passed - busy).max(0.0)
        });
        for share in self.jobs.values_mut() {
            let time = std::mem::take(&mut share.time).as_secs_f64();
            let more = charged.map(|joules| joules * time / busy);
            share.joules = share.joules.zip(more).map(|(joules, more)| joules + more);
        }
    }
}

impl EnergyReading {
    /// Joules from this reading until a later one, `seconds` after it: by the counter, else by the power.
    fn joules_until(self, later: Self, seconds: f64) -> Option<f64> {
        let counted = self.energy_mj.zip(later.energy_mj);
        let counted = counted.and_then(|(before, now)| now.checked_sub(before));
        let power = || {
            let (before, now) = self.power_mw.zip(later.power_mw)?;
            let mean = (f64::from(before) + f64::from(now)) / 2.0;
            Some(mean / 1000.0 * seconds)
        };
        counted.map(|mj| mj as f64 / 1000.0).or_else(power)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPU: Device = Device::Cuda(0);
    const ONE: JobId = JobId(1);
    const TWO: JobId = JobId(2);

    fn at(seconds: f64) -> Moment {
        Moment((seconds * 1e6) as u64)
    }

    fn counted(joules: u64) -> EnergyReading {
        EnergyReading {
            energy_mj: Some(joules * 1000),
            power_mw: None,
        }
    }

    fn syn() -> ModelKey {
        ModelKey::new("syn").expect("a key")
    }

    /// A meter whose GPU took 100 W without jobs for a second, up to now.
    fn idle() -> EnergyMeter {
        let mut meter = EnergyMeter::default();
        assert_eq!(meter.measured(GPU, counted(1000), at(0.0)), []);
        assert_eq!(meter.measured(GPU, counted(1100), at(1.0)), []);
        meter
    }

    #[test]
    fn a_job_is_charged_what_the_gpu_took_beyond_its_idle_time() {
        let mut meter = idle();
        meter.began(GPU, ONE, &syn(), at(1.25));
        meter.finished(GPU, ONE, at(1.75));
        // Half a second at 100 W, and half a second at 500 W.
        let told = meter.measured(GPU, counted(1400), at(2.0));
        assert_eq!(told, [(ONE, syn(), 250.0)]);
        assert_eq!(meter.measured(GPU, counted(1500), at(3.0)), [], "told once");
    }

    #[test]
    fn jobs_that_run_together_share_the_energy() {
        let mut meter = idle();
        meter.began(GPU, ONE, &syn(), at(1.0));
        assert_eq!(meter.measured(GPU, counted(1600), at(2.0)), []);
        meter.began(GPU, TWO, &syn(), at(2.0));
        meter.finished(GPU, ONE, at(3.0));
        meter.finished(GPU, TWO, at(3.0));
        let told = meter.measured(GPU, counted(2100), at(3.0));
        assert_eq!(told, [(ONE, syn(), 750.0), (TWO, syn(), 250.0)]);
    }

    #[test]
    fn without_a_counter_the_power_is_used_and_without_both_a_job_has_no_energy() {
        let power = |watts: u32| EnergyReading {
            energy_mj: None,
            power_mw: Some(watts * 1000),
        };
        let mut meter = EnergyMeter::default();
        meter.measured(GPU, power(300), at(0.0));
        meter.began(GPU, ONE, &syn(), at(0.0));
        meter.finished(GPU, ONE, at(2.0));
        let told = meter.measured(GPU, power(500), at(2.0));
        assert_eq!(told, [(ONE, syn(), 800.0)]);
        meter.began(GPU, TWO, &syn(), at(2.0));
        meter.finished(GPU, TWO, at(3.0));
        let silent = EnergyReading::default();
        assert_eq!(meter.measured(GPU, silent, at(3.0)), []);
    }

    #[test]
    fn an_attempt_without_a_picture_and_a_job_on_the_cpu_are_not_told() {
        let mut meter = idle();
        meter.began(Device::Host, ONE, &syn(), at(1.0));
        meter.began(GPU, TWO, &syn(), at(1.0));
        meter.lost(GPU, TWO, at(1.5));
        assert_eq!(meter.measured(GPU, counted(2000), at(2.0)), []);
    }
}
