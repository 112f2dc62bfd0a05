//! Orders for the tests of this folder.

use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::arithmetic::Dtype;
use ipc_protocol::failure::{Failure, FailureKind, Field};
use ipc_protocol::ids::{Device, DeviceConstraint, JobId, ModelKey, WorkerName};
use ipc_protocol::reading::{Reading, UnknownWord};
use ipc_protocol::request::{ImageRequest, Priority};
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::{
    AcceptedJobs, JobPast, LastingFact, MeasuredNeed, PastLoss, PictureFacts, QuarantinedRequest,
    Ticket,
};

use super::orders::{JournalOrder, JournaledEnd, JournaledPicture, JournaledRequest};
use crate::telemetry::traces::context::TraceParent;

const SIZE: PictureSize = PictureSize {
    width: 8,
    height: 16,
};

fn model() -> ModelKey {
    ModelKey::new("m").expect("a plain key")
}

/// A request with `count` jobs from this id on, with every field set.
pub fn request(first: u64, count: u64) -> JournaledRequest {
    JournaledRequest {
        user: "uid:0/anna".into(),
        request: Arc::new(ImageRequest {
            model: Some("alias".into()),
            size: Some(SIZE),
            steps: Some(3),
            guidance: Some(1.3),
            negative: Some("blur \u{1b}".into()),
            seed: Some(u64::MAX),
            count: u32::try_from(count).expect("a few"),
            device: DeviceConstraint::On(Device::Cuda(1)),
            priority: Priority::Low,
            timeout_ms: Some(9),
            detached: true,
            previews: true,
            ..ImageRequest::new(format!("prompt of {first}"))
        }),
        created: 1_800_000_000,
        trace: TraceParent::read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        accepted: Arc::new(AcceptedJobs {
            ticket: Ticket(0),
            jobs: (first..first + count).map(JobId).collect(),
            model: model(),
            size: SIZE,
            steps: 3,
            guidance: 1.3,
            seed: u64::MAX,
            decode: None,
            digest: "d".into(),
        }),
    }
}

pub fn accept(first: u64, count: u64) -> JournalOrder {
    JournalOrder::Accept(request(first, count))
}

pub fn finished() -> JournaledEnd {
    JournaledEnd::Finished(Box::new(JournaledPicture {
        facts: PictureFacts {
            worker: WorkerName {
                model: model(),
                slot: 2,
            },
            attempts: 2,
            resume_step: 1,
            queue: Duration::from_micros(3),
            load: Duration::from_millis(4),
            denoise: Duration::from_secs(5),
            decode: Duration::from_micros(6),
            seed: u64::MAX,
            size: SIZE,
            steps: 3,
        },
        reading: Reading {
            was_cut: true,
            unknown: vec![UnknownWord::new("astronaut", Some("rocket"))],
            examples: vec!["fox".into()],
            tokens: 7,
        },
        digest: "d".into(),
        sampler: "euler".into(),
        dtype: Dtype::Bf16,
        metadata: true,
    }))
}

pub fn failed() -> JournaledEnd {
    JournaledEnd::Failed(Failure {
        kind: FailureKind::Quarantined,
        field: Some(Field::Prompt),
        message: "it died".into(),
        retry_after_ms: Some(5),
    })
}

pub fn end(job: u64, end: JournaledEnd) -> JournalOrder {
    JournalOrder::End {
        job: JobId(job),
        end,
    }
}

pub fn past() -> JobPast {
    JobPast {
        attempts: 3,
        losses: vec![PastLoss {
            how: "signal 11".into(),
            step: 2,
            suspect: true,
        }],
        fruitless: 2,
        out_of_memory: 1,
        resume_step: 0,
    }
}

pub fn lost(job: u64) -> JournalOrder {
    JournalOrder::Remember(LastingFact::JobLost {
        job: JobId(job),
        past: past(),
    })
}

pub fn quarantined(name: &str) -> QuarantinedRequest {
    QuarantinedRequest {
        name: name.into(),
        user: "uid:7".into(),
        digest: "d".into(),
        prompt: "p".into(),
        negative: Some("n".into()),
        size: SIZE,
        steps: 3,
        guidance: 1.3,
        deaths: vec!["signal 11".into()],
        age: Duration::from_secs(2),
    }
}

pub fn need() -> MeasuredNeed {
    MeasuredNeed {
        model: model(),
        digest: "d".into(),
        host: Mebibytes(3),
        device: Mebibytes(4),
    }
}

pub fn remember(fact: LastingFact) -> JournalOrder {
    JournalOrder::Remember(fact)
}
