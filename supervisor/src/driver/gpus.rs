//! The GPUs of this daemon, their tenants, and the events that a measurement becomes.
//!
//! GPUs are measured while a worker is on one or its memory settles, and when something waits for a measurement. A
//! measurement older than `AGED` promises nothing: memory that nobody has looked at is not free memory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipc_protocol::ids::{Device, Generation};
use ipc_protocol::status::{DeviceState, DeviceStatus};
use ipc_protocol::units::Mebibytes;
use pool::{Action, DeviceObstacle, Event, Moment};

use super::energy::EnergyReading;
use crate::probe::gpu::{GpuAnswer, GpuFacts, GpuReport};
use crate::probe::share::{GpuHistory, GpuTenant};

/// Time between two measurements while workers are on GPUs.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// The same while memory of a dead worker settles.
const SETTLING_EVERY: Duration = Duration::from_millis(200);
/// Age from which a measurement is too old to promise memory from.
const AGED: Duration = Duration::from_secs(5);
/// A driver that gives no answer for this long has lost its GPUs.
const LOST_AFTER: Duration = Duration::from_secs(30);
/// Longest time between two questions to a driver that gives no answer.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The GPUs as the driver described them when the daemon started.
#[derive(Debug, Clone, Default)]
pub struct FoundGpus {
    /// Version of the driver; empty without one.
    pub driver: String,
    /// The usable GPUs; the place of each is its number.
    pub gpus: Vec<GpuFacts>,
}

/// The GPUs, and the measurement under way.
#[derive(Debug)]
pub(super) struct GpuWatch {
    driver: String,
    gpus: BTreeMap<Device, WatchedGpu>,
    /// The workers on GPUs, and dead ones whose memory settles.
    tenants: BTreeMap<Generation, (Device, GpuTenant)>,
    /// The workers that ended since the driver was asked last.
    ended_since_asked: BTreeSet<Generation>,
    is_asking: bool,
    asked: Option<Moment>,
    /// Questions without an answer in a row, and since when.
    failures: u32,
    failing_since: Option<Moment>,
    is_wanted: bool,
    /// The answer under way is about a time before other programs were asked to leave.
    is_outdated: bool,
    /// GPUs are measured often until then: other programs leave.
    watched_until: Option<Moment>,
}

#[derive(Debug)]
struct WatchedGpu {
    facts: GpuFacts,
    history: GpuHistory,
    measured: Moment,
    is_aged: bool,
    is_lost: bool,
    /// Memory of each worker there, as last told.
    held: BTreeMap<Generation, u64>,
    /// Memory of each dead worker there, as the pool knows it.
    left: BTreeMap<Generation, Mebibytes>,
}

impl GpuWatch {
    pub fn new(found: FoundGpus, now: Moment) -> Self {
        let gpus = (0..).map(Device::Cuda).zip(found.gpus);
        let watched = |facts| WatchedGpu {
            facts,
            history: GpuHistory::default(),
            measured: now,
            is_aged: false,
            is_lost: false,
            held: BTreeMap::new(),
            left: BTreeMap::new(),
        };
        Self {
            driver: found.driver,
            gpus: gpus
                .map(|(device, facts)| (device, watched(facts)))
                .collect(),
            tenants: BTreeMap::new(),
            ended_since_asked: BTreeSet::new(),
            is_asking: false,
            asked: None,
            failures: 0,
            failing_since: None,
            is_wanted: false,
            is_outdated: false,
            watched_until: None,
        }
    }

    /// The measurement that was taken when the daemon started, as events.
    pub fn first_measurement(&mut self, now: Moment) -> Vec<Event> {
        let report = GpuReport {
            driver: self.driver.clone(),
            gpus: self.gpus.values().map(|gpu| gpu.facts.clone()).collect(),
            failed: Vec::new(),
        };
        self.measured(&report, now)
    }

    /// Each GPU as last described; `obstacles` are the pool's reasons to place nothing there.
    pub fn status(
        &self,
        obstacles: &BTreeMap<Device, DeviceObstacle>,
        now: Moment,
    ) -> Vec<DeviceStatus> {
        let status = |(device, gpu): (&Device, &WatchedGpu)| {
            let obstacle = obstacles.get(device);
            let facts = gpu.facts.clone();
            DeviceStatus {
                device: device.to_string(),
                name: facts.name,
                uuid: facts.uuid,
                compute: facts.compute,
                driver: self.driver.clone(),
                total_mb: facts.total_bytes >> 20,
                state: obstacle.map_or(DeviceState::Ready, |obstacle| obstacle.state),
                reason: obstacle.map(|obstacle| obstacle.reason.clone()),
                measured_s: now.since(gpu.measured).as_secs_f64(),
                temperature_c: facts.temperature_c,
                power_w: facts.power_mw.map(|power| power as f32 / 1000.0),
                uncorrected_errors: facts.uncorrected_errors,
            }
        };
        self.gpus.iter().map(status).collect()
    }

    /// The energy of each GPU when it was last measured. A part of a divided GPU has no energy of its own.
    pub fn energies(&self) -> impl Iterator<Item = (Device, EnergyReading, Moment)> {
        let whole = self
            .gpus
            .iter()
            .filter(|(_, gpu)| gpu.facts.part_of.is_none());
        whole.map(|(device, gpu)| {
            let reading = EnergyReading {
                energy_mj: gpu.facts.energy_mj,
                power_mw: gpu.facts.power_mw,
            };
            (*device, reading, gpu.measured)
        })
    }

    /// The id under which CUDA knows a GPU.
    pub fn uuid(&self, device: Device) -> Option<&str> {
        self.gpus.get(&device).map(|gpu| gpu.facts.uuid.as_str())
    }

    /// Memory of a worker on its GPU, as last told; zero if unknown.
    pub fn held(&self, worker: Generation) -> Mebibytes {
        let mut gpus = self.gpus.values();
        let held = gpus.find_map(|gpu| gpu.held.get(&worker).copied());
        Mebibytes::holding(held.unwrap_or_default())
    }

    /// Notes a worker that is being started.
    pub fn note_action(&mut self, action: &Action) {
        if let Action::Start(start) = action
            && self.gpus.contains_key(&start.device)
        {
            let promised = start.reserved.get(&start.device);
            let tenant = GpuTenant {
                pid: 0,
                promised: promised.map_or(0, |promised| promised.0 << 20),
                is_ready: false,
                is_dead: false,
            };
            self.tenants.insert(start.worker, (start.device, tenant));
        }
    }

    /// Notes what becomes of the workers on GPUs.
    pub fn note_event(&mut self, event: &Event) {
        match event {
            Event::WorkerStarted { worker, pid } => {
                if let Some(tenant) = self.tenant_mut(*worker) {
                    tenant.pid = *pid;
                }
            }
            Event::WorkerReady { worker, .. } => {
                if let Some(tenant) = self.tenant_mut(*worker) {
                    tenant.is_ready = true;
                }
            }
            Event::WorkerExited { worker, .. } => {
                if let Some(tenant) = self.tenant_mut(*worker) {
                    tenant.is_dead = true;
                    self.ended_since_asked.insert(*worker);
                    // What it held is measured at once.
                    self.asked = None;
                }
            }
            Event::WorkerStartFailed { worker, .. } => drop(self.tenants.remove(worker)),
            _ => {}
        }
    }

    fn tenant_mut(&mut self, worker: Generation) -> Option<&mut GpuTenant> {
        self.tenants.get_mut(&worker).map(|(_, tenant)| tenant)
    }

    /// The GPUs whose last measurement has just become too old.
    pub fn age(&mut self, now: Moment) -> Vec<Event> {
        let old = |gpu: &&mut WatchedGpu| !gpu.is_aged && now.since(gpu.measured) >= AGED;
        let mut events = Vec::new();
        for (&device, gpu) in &mut self.gpus {
            if let Some(gpu) = Some(gpu).filter(old) {
                gpu.is_aged = true;
                events.push(Event::MeasurementAged { device });
            }
        }
        events
    }

    /// Discards the measurement of a GPU: other programs have just been asked to leave it. For a while it is
    /// measured as often as one on which memory settles.
    pub fn outdate(&mut self, device: Device, now: Moment) -> Option<Event> {
        let gpu = self.gpus.get_mut(&device)?;
        gpu.is_aged = true;
        self.asked = None;
        self.is_outdated = self.is_asking;
        self.watched_until = Some(now + AGED);
        Some(Event::MeasurementAged { device })
    }

    /// Some decision would need a measurement that there is not.
    pub fn lacks_measurement(&self) -> bool {
        self.gpus.values().any(|gpu| gpu.is_aged || gpu.is_lost)
    }

    /// Whether to ask the driver now; `is_wanted` says that something waits for a measurement.
    pub fn begins(&mut self, now: Moment, is_wanted: bool) -> bool {
        self.is_wanted = is_wanted;
        let begins = self.due().is_some_and(|due| due <= now);
        if begins {
            self.is_asking = true;
            self.asked = Some(now);
            self.ended_since_asked.clear();
        }
        begins
    }

    /// When to ask the driver next, if nothing else happens.
    pub fn due(&self) -> Option<Moment> {
        let settles = self.tenants.values().any(|(_, tenant)| tenant.is_dead);
        let is_watched = self
            .watched_until
            .is_some_and(|until| self.asked.is_none_or(|asked| asked < until));
        let every = match (self.failures, settles, self.tenants.is_empty()) {
            _ if self.is_asking => return None,
            (1.., ..) => Duration::from_secs(1 << (self.failures - 1).min(5)).min(RETRY_MAX),
            (0, true, _) => SETTLING_EVERY,
            (0, false, _) if is_watched => SETTLING_EVERY,
            (0, false, false) => MEASURE_EVERY,
            (0, false, true) if self.is_wanted => Duration::ZERO,
            // Requests for a lost GPU are refused, so nothing waits for it.
            (0, false, true) if self.gpus.values().any(|gpu| gpu.is_lost) => RETRY_MAX,
            (0, false, true) => return None,
        };
        Some(self.asked.map_or(Moment::START, |asked| asked + every))
    }

    /// Takes the driver's answer, or the lack of one; returns what it means for the pool.
    pub fn answered(
        &mut self,
        answer: Result<GpuAnswer, String>,
        now: Moment,
    ) -> (Vec<Event>, Option<String>) {
        self.is_asking = false;
        if std::mem::take(&mut self.is_outdated) {
            return (Vec::new(), None);
        }
        let why = match answer {
            Ok(GpuAnswer::Report(report)) => {
                self.failures = 0;
                self.failing_since = None;
                return (self.measured(&report, now), None);
            }
            Ok(GpuAnswer::Nothing(why)) | Err(why) => why,
        };
        self.failures += 1;
        let since = *self.failing_since.get_or_insert(now);
        let events = match now.since(since) >= LOST_AFTER {
            true => self.lose_all(&why),
            false => Vec::new(),
        };
        (events, (self.failures == 1).then_some(why))
    }

    fn lose_all(&mut self, why: &str) -> Vec<Event> {
        let here = self.gpus.iter_mut().filter(|(_, gpu)| !gpu.is_lost);
        here.map(|(&device, gpu)| {
            gpu.is_lost = true;
            Event::DeviceLost {
                device,
                reason: why.to_owned(),
            }
        })
        .collect()
    }

    fn measured(&mut self, report: &GpuReport, now: Moment) -> Vec<Event> {
        let mut events = Vec::new();
        for (&device, gpu) in &mut self.gpus {
            let mut there = report.gpus.iter();
            let Some(facts) = there.find(|facts| facts.uuid == gpu.facts.uuid) else {
                if !std::mem::replace(&mut gpu.is_lost, true) {
                    let reason = missing(gpu, report);
                    events.push(Event::DeviceLost { device, reason });
                }
                continue;
            };
            let tenants = self.tenants.iter().filter(|(_, (at, _))| *at == device);
            let tenants: BTreeMap<Generation, GpuTenant> = tenants
                .map(|(worker, (_, tenant))| (*worker, *tenant))
                .collect();
            let shares = gpu.history.split(facts, &tenants);
            gpu.facts = facts.clone();
            gpu.measured = now;
            (gpu.is_aged, gpu.is_lost) = (false, false);
            // First what others hold, then what is free: never more is promised than there is.
            events.push(Event::MemoryMeasured {
                device,
                total: Some(Mebibytes(facts.total_bytes >> 20)),
                measured: Mebibytes::holding(shares.measured),
                foreign: Mebibytes::holding(shares.foreign),
            });
            for (worker, bytes) in shares.dead {
                // The driver may have been asked before the worker took its last memory.
                if self.ended_since_asked.contains(&worker) {
                    continue;
                }
                let left = Mebibytes::holding(bytes);
                if gpu.left.insert(worker, left) != Some(left) {
                    events.push(Event::MemoryReturned { worker, left });
                }
                if bytes == 0 {
                    gpu.left.remove(&worker);
                    self.tenants.remove(&worker);
                }
            }
            gpu.held = shares.workers;
        }
        events
    }
}

/// Why a GPU is not in a report.
fn missing(gpu: &WatchedGpu, report: &GpuReport) -> String {
    let GpuFacts { index, uuid, .. } = &gpu.facts;
    let own = format!("GPU {index}: ");
    match report.failed.iter().find(|why| why.starts_with(&own)) {
        Some(why) => why.clone(),
        None => format!("{own}the driver does not list {uuid} any more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::gpu::GpuProcess;
    use crate::probe::sample::gpu;

    const CUDA: Device = Device::Cuda(0);
    const WORKER: Generation = Generation(1);
    const SECOND: u64 = 1_000_000;

    fn facts(used_mb: u64, ours_mb: Option<u64>) -> GpuFacts {
        let process = |mb: u64| GpuProcess {
            pid: 4711,
            bytes: Some(mb << 20),
        };
        GpuFacts {
            processes: Some(ours_mb.map(process).into_iter().collect()),
            ..gpu(0, used_mb)
        }
    }

    fn answer(gpus: Vec<GpuFacts>) -> Result<GpuAnswer, String> {
        Ok(GpuAnswer::Report(GpuReport {
            driver: "1".into(),
            gpus,
            failed: vec!["GPU 0: fell off the bus".into()],
        }))
    }

    fn watch() -> GpuWatch {
        let found = FoundGpus {
            driver: "1".into(),
            gpus: vec![facts(0, None)],
        };
        GpuWatch::new(found, Moment(0))
    }

    fn with_worker() -> GpuWatch {
        let mut watch = watch();
        let tenant = GpuTenant {
            pid: 4711,
            promised: 100 << 20,
            is_ready: true,
            is_dead: false,
        };
        watch.tenants.insert(WORKER, (CUDA, tenant));
        watch
    }

    fn die(watch: &mut GpuWatch) {
        watch.note_event(&Event::WorkerExited {
            worker: WORKER,
            exit: pool::Exit::Code(0),
            resume_step: None,
        });
    }

    #[test]
    fn a_gpu_on_which_nothing_runs_is_not_measured() {
        let mut watch = watch();
        assert!(!watch.begins(Moment(60 * SECOND), false));
        assert_eq!(watch.due(), None);
        assert!(watch.begins(Moment(61 * SECOND), true), "something waits");
        assert!(!watch.begins(Moment(62 * SECOND), true), "one at a time");
    }

    #[test]
    fn a_measurement_ages_once_and_a_new_one_ends_that() {
        let mut watch = watch();
        assert_eq!(watch.age(Moment(4 * SECOND)), []);
        let aged = Event::MeasurementAged { device: CUDA };
        assert_eq!(watch.age(Moment(5 * SECOND)), [aged]);
        assert_eq!(watch.age(Moment(6 * SECOND)), []);
        assert!(watch.lacks_measurement());
        let (events, why) = watch.answered(answer(vec![facts(70, None)]), Moment(7 * SECOND));
        let measured = Event::MemoryMeasured {
            device: CUDA,
            total: Some(Mebibytes(1000)),
            measured: Mebibytes(0),
            foreign: Mebibytes(70),
        };
        assert_eq!((events, why), (vec![measured], None));
        assert!(!watch.lacks_measurement());
    }

    #[test]
    fn memory_of_a_dead_worker_is_returned_when_the_driver_has_it_back() {
        let mut watch = with_worker();
        let held = vec![facts(150, Some(100))];
        watch.answered(answer(held), Moment(0));
        assert_eq!(watch.held(WORKER), Mebibytes(100));
        die(&mut watch);
        let mut now = Moment(0);
        let mut measure = |used_mb: u64| {
            now = now + SETTLING_EVERY;
            assert!(watch.begins(now, true));
            let (events, _) = watch.answered(answer(vec![facts(used_mb, None)]), now);
            let Event::MemoryMeasured { foreign, .. } = events[0] else {
                panic!("{events:?}");
            };
            (foreign.0, events[1..].to_vec())
        };
        let returned = |left: u64| Event::MemoryReturned {
            worker: WORKER,
            left: Mebibytes(left),
        };
        assert_eq!(measure(150), (50, vec![returned(100)]));
        assert_eq!(measure(150), (50, vec![]), "told once");
        assert_eq!(measure(90), (50, vec![returned(40)]));
        assert_eq!(measure(50), (50, vec![returned(0)]));
        assert_eq!(measure(50), (50, vec![]), "no tenant is left there");
    }

    #[test]
    fn an_answer_to_a_question_from_before_the_death_of_a_worker_confirms_nothing() {
        let mut watch = with_worker();
        let now = Moment(SECOND);
        assert!(watch.begins(now, false));
        die(&mut watch);
        let (events, _) = watch.answered(answer(vec![facts(0, None)]), now);
        assert!(
            matches!(events[..], [Event::MemoryMeasured { .. }]),
            "{events:?}"
        );
        assert!(watch.begins(now, false), "it is asked again at once");
        let (events, _) = watch.answered(answer(vec![facts(100, None)]), now);
        let left = Mebibytes(100);
        let late = Event::MemoryReturned {
            worker: WORKER,
            left,
        };
        assert_eq!(events[1..], [late]);
    }

    #[test]
    fn the_end_of_a_worker_is_followed_by_a_measurement_at_once() {
        let mut watch = with_worker();
        let now = Moment(10 * SECOND);
        assert!(watch.begins(now, false));
        watch.answered(answer(vec![facts(100, Some(100))]), now);
        assert_eq!(watch.due(), Some(now + MEASURE_EVERY));
        die(&mut watch);
        assert!(watch.begins(now, false));
    }

    #[test]
    fn a_gpu_that_is_not_listed_any_more_is_lost_with_the_drivers_reason() {
        let mut watch = watch();
        let lost = Event::DeviceLost {
            device: CUDA,
            reason: "GPU 0: fell off the bus".into(),
        };
        assert_eq!(watch.answered(answer(vec![]), Moment(0)).0, [lost]);
        assert_eq!(watch.answered(answer(vec![]), Moment(1)).0, [], "told once");
        assert!(watch.begins(Moment(60 * SECOND), false), "it may be back");
        let (back, _) = watch.answered(answer(vec![facts(0, None)]), Moment(2));
        assert!(matches!(back[..], [Event::MemoryMeasured { .. }]));
    }

    #[test]
    fn a_driver_without_an_answer_is_asked_ever_less_often_and_then_has_lost_its_gpus() {
        let mut watch = with_worker();
        let mut now = Moment(0);
        let (mut asked, mut told, mut lost) = (0, 0, None);
        while lost.is_none() {
            now = watch.due().unwrap_or(now).max(now);
            assert!(watch.begins(now, false));
            asked += 1;
            now = now + Duration::from_secs(3);
            let (events, why) = watch.answered(Err("no answer".into()), now);
            told += u32::from(why.is_some());
            lost = events.first().cloned();
        }
        let reason = "no answer".to_owned();
        assert_eq!(
            lost,
            Some(Event::DeviceLost {
                device: CUDA,
                reason
            })
        );
        assert!(now.since(Moment(0)) >= LOST_AFTER);
        assert_eq!((asked, told), (6, 1));
    }
}
