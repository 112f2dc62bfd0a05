//! Gauges, taken from the loop's report, so that they cannot disagree with `imagepool status`.

use std::collections::BTreeMap;

use ipc_protocol::status::{DeviceState, StatusReport, WorkerState};

use super::names;
use super::series::{LiveValue, Metric};

/// States of a GPU.
const DEVICE_STATES: [DeviceState; 4] = [
    DeviceState::Ready,
    DeviceState::Unmeasured,
    DeviceState::Resting,
    DeviceState::Lost,
];
/// States of a worker process.
const WORKER_STATES: [WorkerState; 3] = [
    WorkerState::Starting,
    WorkerState::Running,
    WorkerState::Stopping,
];

/// One line of a gauge.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GaugeSample {
    /// Of its labels, in their order.
    pub values: Vec<String>,
    pub value: f64,
}

/// The samples of each gauge, by its name without the prefix.
pub(super) type GaugeSamples = BTreeMap<&'static str, Vec<GaugeSample>>;

/// Takes every gauge from a report.
pub(super) fn samples(report: &StatusReport) -> GaugeSamples {
    let mut samples = Samples(BTreeMap::new());
    let supervisor = &report.supervisor;
    samples.put(&names::BUILD_INFO, [supervisor.version.as_str()], 1.0);
    samples.put(&names::UPTIME, [], supervisor.uptime_s);
    queue(&mut samples, report);
    workers(&mut samples, report);
    memory(&mut samples, report);
    devices(&mut samples, report);
    samples.0
}

struct Samples(GaugeSamples);

impl Samples {
    fn put<const N: usize>(&mut self, metric: &LiveValue<N>, values: [&str; N], value: f64) {
        let name = metric.describe().name;
        let values = values.map(str::to_owned).to_vec();
        let sample = GaugeSample { values, value };
        self.0.entry(name).or_default().push(sample);
    }
}

fn queue(samples: &mut Samples, report: &StatusReport) {
    let waiting = report.queue.iter().filter(|job| job.state != "running");
    let mut depths: BTreeMap<&str, u64> = BTreeMap::new();
    for model in &report.models {
        depths.insert(model.key.as_str(), 0);
    }
    let mut oldest = 0.0_f64;
    for job in waiting {
        *depths.entry(job.model.as_str()).or_default() += 1;
        oldest = oldest.max(job.waiting_s);
    }
    for (model, depth) in depths {
        samples.put(&names::QUEUE_DEPTH, [model], depth as f64);
    }
    samples.put(&names::QUEUE_OLDEST_AGE, [], oldest);
}

fn workers(samples: &mut Samples, report: &StatusReport) {
    for model in &report.models {
        let own = || {
            report
                .workers
                .iter()
                .filter(|worker| worker.model == model.key)
        };
        let key = model.key.as_str();
        for state in WORKER_STATES {
            let count = own().filter(|worker| worker.state == state).count();
            samples.put(&names::WORKERS, [key, state.word()], count as f64);
        }
        let busy = own().filter(|worker| worker.job.is_some()).count();
        samples.put(&names::WORKERS_BUSY, [key], busy as f64);
    }
}

fn memory(samples: &mut Samples, report: &StatusReport) {
    for book in &report.memory {
        for (kind, amount_mb) in [
            ("limit", Some(book.limit_mb)),
            ("reserved", Some(book.reserved_mb)),
            ("measured", book.measured_mb),
            ("foreign", book.foreign_mb),
            ("settling", Some(book.settling_mb)),
        ] {
            if let Some(amount_mb) = amount_mb {
                let bytes = amount_mb as f64 * f64::from(1 << 20);
                samples.put(&names::MEMORY, [&book.device, kind], bytes);
            }
        }
    }
}

fn devices(samples: &mut Samples, report: &StatusReport) {
    for gpu in &report.devices {
        let device = gpu.device.as_str();
        let facts = [device, &gpu.name, &gpu.uuid, &gpu.driver];
        samples.put(&names::DEVICE_INFO, facts, 1.0);
        for state in DEVICE_STATES {
            let is_so = f64::from(u8::from(gpu.state == state));
            samples.put(&names::DEVICE_STATE, [device, state.word()], is_so);
        }
        let temperature = gpu.temperature_c.map(f64::from);
        let errors = gpu.uncorrected_errors.map(|count| count as f64);
        for (metric, value) in [
            (&names::DEVICE_TEMPERATURE, temperature),
            (&names::DEVICE_POWER, gpu.power_w.map(f64::from)),
            (&names::DEVICE_ERRORS, errors),
        ] {
            if let Some(value) = value {
                samples.put(metric, [device], value);
            }
        }
    }
}
