//! Runs one job: its steps, its latents after each step, and its picture in the segment.

#![expect(
    clippy::disallowed_methods,
    reason = "the phases of a job are measured here; no decision depends on the time"
)]

use std::sync::Arc;
use std::time::Instant;

use ipc_protocol::failure::Field;
use ipc_protocol::messages::worker::{FromWorker, JobFault, JobOrder, Timings};
use ipc_protocol::segment::{Segment, SegmentError, Slot};
use ipc_protocol::units::PictureSize;

use crate::cancel::CancelMark;
use crate::fault::{WorkerFault, short};
use crate::footprint;
use crate::leash::SupervisorSender;
use crate::pipelines::{Denoising, JobParameters, LatentCheckpoint, Pipeline, Rgb8};

/// A job's surroundings in the worker.
#[derive(Debug)]
pub struct JobRunner {
    /// The shared memory for latents and pictures.
    pub segment: Segment,
    /// The connection to the supervisor.
    pub voice: Arc<SupervisorSender>,
    /// The mark of a cancelled job.
    pub cancel: CancelMark,
}

impl JobRunner {
    /// Runs a job and sends its answer. Returns a fault if the process has to exit because of it.
    pub fn carry_out(&self, order: &JobOrder, pipeline: &mut dyn Pipeline) -> Option<WorkerFault> {
        match self.draw(order, pipeline) {
            Ok(done) => {
                self.voice.say(&done);
                None
            }
            Err(fault) => match answer(&fault) {
                None => Some(fault),
                Some(told) => {
                    self.voice.say(&FromWorker::Failed {
                        job: order.job,
                        fault: told,
                    });
                    None
                }
            },
        }
    }

    fn draw(
        &self,
        order: &JobOrder,
        pipeline: &mut dyn Pipeline,
    ) -> Result<FromWorker, WorkerFault> {
        let mut timings = Timings::default();
        let begin = Instant::now();
        let resume = self.checkpoint(order)?;
        let mut denoising = pipeline.start(&parameters(order), resume)?;
        timings.encode_ms = elapsed_ms(begin);
        let begin = Instant::now();
        while denoising.steps_done() < order.steps {
            if self.cancel.is_set_for(order.job) {
                return Err(WorkerFault::Cancelled);
            }
            self.step(order, denoising.as_mut())?;
        }
        timings.denoise_ms = elapsed_ms(begin);
        let begin = Instant::now();
        let reading = denoising.reading();
        let picture = denoising.decode()?;
        self.write(Slot::Picture, &picture.bytes)?;
        timings.decode_ms = elapsed_ms(begin);
        Ok(FromWorker::Done {
            job: order.job,
            size: size(&picture),
            reading,
            timings,
            peak_bytes: footprint::measure().peak_bytes,
        })
    }

    /// Runs one step, writes its latents to the segment, and then sends `Step`: in this order, because the
    /// supervisor reads the latents after it received `Step`.
    fn step(&self, order: &JobOrder, denoising: &mut dyn Denoising) -> Result<(), WorkerFault> {
        let begin = Instant::now();
        denoising.step(&|| self.cancel.is_set_for(order.job))?;
        let step = denoising.steps_done();
        let latents = denoising.latents()?;
        let slot = Slot::of_step(step);
        self.write(slot, &latents)?;
        let preview = if order.previews {
            denoising.preview()?
        } else {
            None
        };
        if let Some(picture) = &preview {
            self.write(Slot::Preview, &picture.bytes)?;
        }
        self.voice.say(&FromWorker::Step {
            job: order.job,
            step,
            slot,
            bytes: latents.len() as u64,
            preview: preview.as_ref().map(size),
            elapsed_ms: elapsed_ms(begin),
        });
        Ok(())
    }

    fn checkpoint(&self, order: &JobOrder) -> Result<Option<LatentCheckpoint>, WorkerFault> {
        if order.resume_step == 0 {
            return Ok(None);
        }
        let bytes = self
            .segment
            .read(Slot::Resume, order.resume_bytes)
            .map_err(segment_fault)?;
        Ok(Some(LatentCheckpoint {
            steps_done: order.resume_step,
            bytes,
        }))
    }

    fn write(&self, slot: Slot, bytes: &[u8]) -> Result<(), WorkerFault> {
        self.segment.write(slot, bytes).map_err(segment_fault)
    }
}

fn segment_fault(error: SegmentError) -> WorkerFault {
    WorkerFault::Compute(error.to_string())
}

fn parameters(order: &JobOrder) -> JobParameters {
    JobParameters {
        prompt: order.prompt.clone(),
        negative: order.negative.clone(),
        width: order.size.width,
        height: order.size.height,
        steps: order.steps,
        guidance: order.guidance,
        seed: order.seed,
    }
}

fn size(picture: &Rgb8) -> PictureSize {
    PictureSize {
        width: picture.width,
        height: picture.height,
    }
}

fn elapsed_ms(begin: Instant) -> u32 {
    u32::try_from(begin.elapsed().as_millis()).unwrap_or(u32::MAX)
}

/// Returns the answer to a fault that affects only the job, else `None`. A fault that ends the process is reported
/// by the exit: if it was reported before, the supervisor could send the next job to a worker that is about to exit.
fn answer(fault: &WorkerFault) -> Option<JobFault> {
    Some(match fault {
        WorkerFault::Cancelled => JobFault::Cancelled,
        WorkerFault::NotFinite { stage } => JobFault::NotFinite {
            stage: short(stage.clone()),
        },
        WorkerFault::BadRequest { field, sentence } => JobFault::BadRequest {
            field: field_of(field),
            message: short(sentence.clone()),
        },
        WorkerFault::DeviceMemoryFull(what) => JobFault::OutOfMemory {
            message: short(what.clone()),
        },
        WorkerFault::Compute(_) => JobFault::Other {
            message: fault.sentence(),
        },
        WorkerFault::WeightsMissing { .. }
        | WorkerFault::WeightsCorrupt { .. }
        | WorkerFault::Configuration { .. }
        | WorkerFault::OutOfMemoryLoading(_)
        | WorkerFault::OutOfMemoryRunning(_)
        | WorkerFault::DeviceLost(_)
        | WorkerFault::DeviceGone(_) => return None,
    })
}

fn field_of(name: &str) -> Field {
    match name {
        "size" => Field::Size,
        "steps" => Field::Steps,
        "guidance" => Field::Guidance,
        "negative" => Field::Negative,
        "seed" => Field::Seed,
        _ => Field::Prompt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_reported_by_a_frame_or_by_the_exit_and_never_by_both() {
        let text = || "x".to_owned();
        let faults = [
            WorkerFault::Cancelled,
            WorkerFault::NotFinite { stage: text() },
            WorkerFault::BadRequest {
                field: "size",
                sentence: text(),
            },
            WorkerFault::Compute(text()),
            WorkerFault::configuration(text(), text(), text()),
            WorkerFault::OutOfMemoryLoading(text()),
            WorkerFault::OutOfMemoryRunning(text()),
            WorkerFault::DeviceMemoryFull(text()),
            WorkerFault::DeviceLost(text()),
            WorkerFault::DeviceGone(text()),
        ];
        for fault in faults {
            let ends = fault.exit_code().is_some();
            assert_eq!(answer(&fault).is_none(), ends, "{fault}");
        }
    }
}
