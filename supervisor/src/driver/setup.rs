//! The setup of the loop: the pool with its registry and budget, and the tools for its actions.

use std::io;
use std::path::{Path, PathBuf};

use ipc_protocol::ids::Device;
use ipc_protocol::segment::Backing;
use ipc_protocol::units::Mebibytes;
use pool::{DeviceLimit, Pool};

use super::gpus::FoundGpus;
use super::measuring;
use crate::catalogue::difference::{self, OfferedModels};
use crate::catalogue::library::Library;
use crate::catalogue::placement::CudaDevices;
use crate::catalogue::served::Catalogue;
use crate::clock::Clock;
use crate::config::Config;
use crate::obituaries::store::ObituaryStore;
use crate::probe;
use crate::process::groups::GroupsReached;
use crate::process::programs;
use crate::record::beginning::Beginning;
use crate::record::recorder::Recorder;
use crate::telemetry;

/// The loop's needs from outside.
#[derive(Debug)]
pub struct Setup {
    /// The mind.
    pub pool: Pool,
    /// The pool's settings, models and limits, for the record.
    pub beginning: Beginning,
    /// The models as the settings offer them, before their files are inspected.
    pub offered: OfferedModels,
    /// How workers of each model are started.
    pub catalogue: Catalogue,
    /// The library that inspects a model's files again.
    pub library: Library,
    /// Back end of the segments.
    pub backing: Backing,
    /// Whether workers confine themselves.
    pub sandbox: bool,
    /// Whether picture files have the receipt and the mark of generated pictures.
    pub metadata: bool,
    /// The clock that the pool's moments come from.
    pub clock: Clock,
    /// The GPUs of this machine that it may use.
    pub gpus: FoundGpus,
    /// Where every event is written down, if anywhere.
    pub recorder: Option<Recorder>,
    /// The obituaries of workers.
    pub obituaries: ObituaryStore,
    /// The control groups of workers.
    pub groups: GroupsReached,
}

impl Setup {
    /// A pool as the settings want it, on this machine. No model's files are looked at yet.
    ///
    /// # Errors
    /// A sentence that names the section of a model that cannot be offered.
    pub fn assemble(
        config: &Config,
        worker_program: PathBuf,
        clock: Clock,
    ) -> Result<Self, String> {
        let host = DeviceLimit {
            device: Device::Host,
            limit: host_limit(config),
            confirms: false,
        };
        let gpus = measuring::find(config);
        let devices: Vec<DeviceLimit> = [host]
            .into_iter()
            .chain(gpu_limits(config, &gpus))
            .collect();
        let cuda = cuda_devices(&devices, &worker_program);
        let offered = difference::offered(config, cuda)?;
        let registry = difference::registry(offered.values().map(|model| &model.spec))?;
        let served = offered
            .iter()
            .map(|(key, model)| (key.clone(), model.served.clone()));
        let catalogue = served.collect();
        let beginning = Beginning {
            settings: config.text.clone(),
            devices: devices.clone(),
            registry: registry.clone(),
        };
        Ok(Self {
            pool: Pool::new(config.pool.clone(), registry, devices),
            beginning,
            offered,
            catalogue,
            library: Library::new(config.clone(), worker_program, cuda),
            backing: config.backing,
            sandbox: config.sandbox,
            metadata: config.metadata,
            clock,
            gpus,
            recorder: None,
            obituaries: ObituaryStore::default(),
            groups: GroupsReached::Off,
        })
    }

    /// The same, with every event written to a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn recorded(self, path: &Path) -> io::Result<Self> {
        Ok(Self {
            recorder: Some(Recorder::begin(path, &self.beginning)?),
            ..self
        })
    }
}

/// Returns the limit of each GPU's memory: as set, else a share of all of it.
fn gpu_limits(config: &Config, found: &FoundGpus) -> impl Iterator<Item = DeviceLimit> {
    (0..)
        .map(Device::Cuda)
        .zip(&found.gpus)
        .map(|(device, gpu)| {
            let total = Mebibytes(gpu.total_bytes >> 20);
            let share = Mebibytes(total.0 * config.limit_percent / 100);
            let limit = config.device_limit.map_or(share, |limit| limit.min(total));
            let memory = (total, limit);
            telemetry::daemon::gpu(device, &gpu.name, &gpu.uuid, &found.driver, memory);
            DeviceLimit {
                device,
                limit,
                confirms: true,
            }
        })
}

/// The CUDA devices among `devices`, and whether there is a worker program for them.
fn cuda_devices(devices: &[DeviceLimit], worker: &Path) -> CudaDevices {
    let limit = |device: &DeviceLimit| match device.device {
        Device::Host => None,
        Device::Cuda(_) => Some(device.limit),
    };
    let Some(largest) = devices.iter().filter_map(limit).max() else {
        return CudaDevices::Unknown;
    };
    match programs::check_cuda_worker(worker) {
        Ok(()) => CudaDevices::UpTo(largest),
        Err(why) => {
            telemetry::daemon::gpus_unused(&why);
            CudaDevices::WithoutProgram
        }
    }
}

/// Returns the limit of the host's memory: as set, else a share of what this daemon may use.
fn host_limit(config: &Config) -> Mebibytes {
    let share = || Mebibytes(probe::host_memory().0 * config.limit_percent / 100);
    config.host_limit.unwrap_or_else(share)
}
