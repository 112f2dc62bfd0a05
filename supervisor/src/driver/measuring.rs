//! Asks the GPU driver, in a process that may hang, beside the loop.

use std::path::Path;
use std::time::Duration;

use tokio::task::spawn_blocking;

use super::Driver;
use super::gpus::FoundGpus;
use crate::config::Config;
use crate::probe::gpu::GpuAnswer;
use crate::probe::visible;
use crate::process::{programs, spawn};
use crate::telemetry;
use crate::telemetry::jobs::JobEnergy;

/// The program that asks. A program that embeds the pool may be without it, and has no GPUs then.
const PROGRAM: &str = "supervisor";
/// How long the driver may take to answer while the daemon starts: it may be loaded only then.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long it may take later.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Finds the GPUs that this daemon may use. Without an answer there are none until the next start.
pub(super) fn find(config: &Config) -> FoundGpus {
    let library = config.gpu_library.as_deref();
    if let Err(error) = programs::find(PROGRAM) {
        telemetry::daemon::no_gpu(&error);
        return FoundGpus::default();
    }
    let report = match ask(library, FIRST_ANSWER_MAX) {
        Ok(GpuAnswer::Report(report)) => report,
        Ok(GpuAnswer::Nothing(why)) if library.is_none() => {
            telemetry::daemon::no_gpu(&why);
            return FoundGpus::default();
        }
        Ok(GpuAnswer::Nothing(why)) | Err(why) => {
            telemetry::daemon::gpus_unanswered(&why);
            return FoundGpus::default();
        }
    };
    report
        .failed
        .iter()
        .for_each(|why| telemetry::daemon::gpus_unanswered(why));
    let wanted = std::env::var(spawn::VISIBLE_GPUS).ok();
    let usable = visible::usable(&report.gpus, wanted.as_deref());
    FoundGpus {
        driver: report.driver.clone(),
        gpus: usable.into_iter().cloned().collect(),
    }
}

fn ask(library: Option<&Path>, at_most: Duration) -> Result<GpuAnswer, String> {
    let said =
        programs::find(PROGRAM).and_then(|program| spawn::probe_gpus(&program, library, at_most));
    let said = said.map_err(|error| format!("cannot ask the GPU driver: {error}"))?;
    GpuAnswer::read(said?.trim_end())
}

impl Driver {
    /// Tells the pool of measurements that have become too old.
    pub(super) fn note_age(&mut self) {
        for aged in self.gpus.age(self.clock.now()) {
            self.happen(aged);
        }
    }

    /// Asks the driver beside the loop, if it is time to.
    pub(super) fn measure_gpus(&mut self) {
        let wanted = self.gpus.lacks_measurement() && self.pool.waits();
        if !self.gpus.begins(self.clock.now(), wanted) {
            return;
        }
        let outbox = self.handle.outbox.clone();
        let config = self.library.config.clone();
        spawn_blocking(move || {
            outbox.tell_of_gpus(ask(config.gpu_library.as_deref(), ANSWER_MAX));
        });
    }

    /// Tells the pool what the driver answered.
    pub(super) fn hear_of_gpus(&mut self, answer: Result<GpuAnswer, String>) {
        let (events, silence) = self.gpus.answered(answer, self.clock.now());
        if let Some(why) = silence {
            telemetry::daemon::gpus_unanswered(&why);
        }
        for event in events {
            self.happen(event);
        }
        self.measure_energy();
    }

    /// Takes the energy of each GPU as last measured, and tells that of the jobs which had ended by then.
    pub(super) fn measure_energy(&mut self) {
        for (device, reading, measured) in self.gpus.energies() {
            for (job, model, joules) in self.energy.measured(device, reading, measured) {
                JobEnergy {
                    job,
                    model: &model,
                    joules,
                }
                .tell();
            }
        }
    }
}
