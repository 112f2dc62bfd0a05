//! Jobs and pictures for the tests of this folder.

use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::arithmetic::Dtype;
use ipc_protocol::ids::{JobId, ModelKey, WorkerName};
use ipc_protocol::reading::Reading;
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::PictureSize;
use pool::{AcceptedJobs, Moment, PictureFacts, Progress, Ticket};

use super::table::RequestFacts;
use crate::driver::handle::{Caller, FinishedPicture, JobUpdate, ModelReceipt};

pub const SIZE: PictureSize = PictureSize {
    width: 8,
    height: 8,
};

pub fn model() -> ModelKey {
    ModelKey::new("m").expect("a plain key")
}

/// The jobs of a request, from this id on.
pub fn accepted(first: u64, count: u64) -> AcceptedJobs {
    AcceptedJobs {
        ticket: Ticket(first),
        jobs: (first..first + count).map(JobId).collect(),
        model: model(),
        size: SIZE,
        steps: 4,
        guidance: 0.0,
        seed: 7,
        decode: None,
        digest: "d".into(),
    }
}

/// A request of `user` at a moment.
pub fn request(user: &str, detached: bool, since: Moment) -> RequestFacts {
    RequestFacts {
        user: user.into(),
        request: Arc::new(ImageRequest {
            detached,
            ..ImageRequest::new("a star")
        }),
        created: 1_800_000_000,
        since,
        trace: None,
    }
}

/// The answer of a job with a picture of `bytes` bytes, which its facts do not tell.
pub fn picture(job: u64, bytes: usize) -> JobUpdate {
    JobUpdate::Picture(Arc::new(FinishedPicture {
        job: JobId(job),
        rgb8: vec![0; bytes],
        facts: PictureFacts {
            worker: WorkerName {
                model: model(),
                slot: 0,
            },
            attempts: 1,
            resume_step: 0,
            queue: Duration::ZERO,
            load: Duration::ZERO,
            denoise: Duration::from_secs(4),
            decode: Duration::from_secs(1),
            seed: 7,
            size: SIZE,
            steps: 4,
        },
        reading: Reading::default(),
        model: ModelReceipt {
            digest: String::new(),
            sampler: "euler".into(),
            dtype: Dtype::F32,
        },
        metadata: true,
    }))
}

pub fn step(job: u64, index: u32) -> JobUpdate {
    JobUpdate::Progress {
        job: JobId(job),
        progress: Progress::Step {
            index,
            total: 4,
            elapsed: Duration::from_secs(u64::from(index)),
        },
    }
}

pub fn caller(user: &str) -> Caller {
    Caller {
        user: user.into(),
        operator: false,
    }
}

pub fn operator() -> Caller {
    Caller {
        user: "uid:0".into(),
        operator: true,
    }
}
