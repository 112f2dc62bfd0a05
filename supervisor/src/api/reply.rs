//! A finished picture in the words of `ipc_protocol`, and its receipt: the same at every door.

use ipc_protocol::messages::client::{Accepted, JobReport, ReceiptFacts};
use ipc_protocol::request::ImageRequest;
use pool::AcceptedJobs;

use crate::driver::handle::FinishedPicture;
use crate::picture::receipt::Receipt;
use crate::telemetry::ms;

/// The jobs of an accepted request.
pub fn accepted(jobs: &AcceptedJobs) -> Accepted {
    Accepted {
        first: jobs.jobs[0],
        count: jobs.jobs.len() as u32,
        model: jobs.model.clone(),
        size: jobs.size,
        steps: jobs.steps,
        seed: jobs.seed,
        decode_ms: jobs.decode.map(ms),
    }
}

/// Attempts, times and receipt facts of a picture; `guidance` is the one of its accepted request.
pub fn report(picture: &FinishedPicture, guidance: f32) -> JobReport {
    let facts = &picture.facts;
    JobReport {
        worker: facts.worker.clone(),
        seed: facts.seed,
        attempts: facts.attempts,
        resume_step: facts.resume_step,
        queue_ms: ms(facts.queue),
        load_ms: ms(facts.load),
        denoise_ms: ms(facts.denoise),
        decode_ms: ms(facts.decode),
        reading: picture.reading.clone(),
        receipt: ReceiptFacts {
            digest: picture.model.digest.clone(),
            sampler: picture.model.sampler.clone(),
            dtype: picture.model.dtype.to_string(),
            guidance,
        },
        metadata: picture.metadata,
    }
}

/// The receipt of a picture, equal to the one that `imagepool generate` writes for the same request.
pub fn receipt(request: &ImageRequest, jobs: &AcceptedJobs, picture: &FinishedPicture) -> Receipt {
    Receipt::of(request, &accepted(jobs), &report(picture, jobs.guidance))
}
