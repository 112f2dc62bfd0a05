//! The fields of the journal's records as JSON. A record of an earlier version lacks fields that were added later.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind, Field};
use ipc_protocol::ids::{JobId, ModelKey, WorkerName};
use ipc_protocol::reading::{Reading, UnknownWord};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::Mebibytes;
use pool::{
    AcceptedJobs, JobPast, MeasuredNeed, PastLoss, PictureFacts, QuarantinedRequest, Ticket,
};
use serde::{Deserialize, Serialize};

use super::orders::{JournaledEnd, JournaledPicture, JournaledRequest, PixelsKept};
use crate::telemetry::traces::context::TraceParent;

/// A request, and the values chosen for it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RequestRecord {
    user: String,
    created: u64,
    #[serde(default)]
    trace: Option<String>,
    prompt: String,
    #[serde(default)]
    negative: Option<String>,
    /// The names that the client gave; the chosen values are below.
    #[serde(default)]
    asked_model: Option<String>,
    #[serde(default)]
    asked_size: Option<String>,
    #[serde(default)]
    asked_steps: Option<u32>,
    #[serde(default)]
    asked_guidance: Option<f32>,
    #[serde(default)]
    asked_seed: Option<u64>,
    device: String,
    priority: String,
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    previews: bool,
    first: u64,
    count: u32,
    model: String,
    digest: String,
    size: String,
    steps: u32,
    guidance: f32,
    seed: u64,
}

impl RequestRecord {
    pub fn of(journaled: &JournaledRequest) -> Self {
        let (request, accepted) = (&journaled.request, &journaled.accepted);
        Self {
            user: journaled.user.clone(),
            created: journaled.created,
            trace: journaled.trace.map(|trace| trace.to_string()),
            prompt: request.prompt.clone(),
            negative: request.negative.clone(),
            asked_model: request.model.clone(),
            asked_size: request.size.map(|size| size.to_string()),
            asked_steps: request.steps,
            asked_guidance: request.guidance,
            asked_seed: request.seed,
            device: request.device.to_string(),
            priority: request.priority.to_string(),
            timeout_ms: request.timeout_ms,
            previews: request.previews,
            first: accepted.jobs.first().map_or(0, |job| job.0),
            count: u32::try_from(accepted.jobs.len()).unwrap_or(u32::MAX),
            model: accepted.model.to_string(),
            digest: accepted.digest.clone(),
            size: accepted.size.to_string(),
            steps: accepted.steps,
            guidance: accepted.guidance,
            seed: accepted.seed,
        }
    }

    /// The ids of its jobs.
    pub fn jobs(&self) -> Range<u64> {
        self.first..self.first.saturating_add(u64::from(self.count))
    }

    /// # Errors
    /// A field is invalid.
    pub fn restored(self) -> Result<JournaledRequest, String> {
        let jobs = self.jobs().map(JobId);
        let request = ImageRequest {
            prompt: self.prompt,
            model: self.asked_model,
            size: self.asked_size.map(|size| size.parse()).transpose()?,
            steps: self.asked_steps,
            guidance: self.asked_guidance,
            negative: self.negative,
            seed: self.asked_seed,
            count: self.count,
            device: self.device.parse()?,
            priority: self.priority.parse()?,
            timeout_ms: self.timeout_ms,
            user: None,
            detached: true,
            previews: self.previews,
        };
        request.check().map_err(|failure| failure.to_string())?;
        Ok(JournaledRequest {
            user: self.user,
            created: self.created,
            trace: self.trace.as_deref().and_then(TraceParent::read),
            request: Arc::new(request),
            accepted: Arc::new(AcceptedJobs {
                ticket: Ticket(0),
                jobs: jobs.collect(),
                model: ModelKey::new(&self.model)?,
                size: self.size.parse()?,
                steps: self.steps,
                guidance: self.guidance,
                seed: self.seed,
                decode: None,
                digest: self.digest,
            }),
        })
    }
}

/// The end of a job.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EndRecord {
    /// Milliseconds since 1970.
    at_ms: u64,
    end: EndKind,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EndKind {
    Finished(Box<PictureRecord>),
    Failed(StoredFailure),
    Forgotten,
}

#[derive(Debug, Serialize, Deserialize)]
struct PictureRecord {
    model: String,
    slot: u32,
    attempts: u32,
    resume_step: u32,
    queue_us: u64,
    load_us: u64,
    denoise_us: u64,
    decode_us: u64,
    seed: u64,
    size: String,
    steps: u32,
    digest: String,
    sampler: String,
    dtype: String,
    metadata: bool,
    #[serde(default)]
    was_cut: bool,
    #[serde(default)]
    unknown: Vec<(String, Option<String>)>,
    #[serde(default)]
    examples: Vec<String>,
    #[serde(default)]
    tokens: u32,
    /// `yes`, `expired` or `displaced`.
    pixels: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredFailure {
    kind: String,
    #[serde(default)]
    field: Option<String>,
    message: String,
    #[serde(default)]
    retry_after_ms: Option<u64>,
}

/// A decoded end; `None` for a job that is forgotten.
pub(super) struct RestoredEnd {
    pub at_ms: u64,
    pub end: Option<(JournaledEnd, PixelsKept)>,
}

impl EndRecord {
    pub fn of(end: &JournaledEnd, at_ms: u64) -> Self {
        let end = match end {
            JournaledEnd::Finished(picture) => {
                EndKind::Finished(Box::new(PictureRecord::of(picture)))
            }
            JournaledEnd::Failed(failure) => EndKind::Failed(StoredFailure {
                kind: failure.kind.word().to_owned(),
                field: failure.field.map(|field| field.to_string()),
                message: failure.message.clone(),
                retry_after_ms: failure.retry_after_ms,
            }),
        };
        Self { at_ms, end }
    }

    /// The record of a job of which nothing is needed any longer.
    pub fn forgotten() -> Self {
        Self {
            at_ms: 0,
            end: EndKind::Forgotten,
        }
    }

    pub fn is_forgotten(&self) -> bool {
        matches!(self.end, EndKind::Forgotten)
    }

    /// Notes that the pixels of its picture are gone.
    pub fn drop_pixels(&mut self, why: PixelsKept) {
        if let EndKind::Finished(picture) = &mut self.end {
            pixels_word(why).clone_into(&mut picture.pixels);
        }
    }

    /// # Errors
    /// A field is invalid.
    pub fn restored(self) -> Result<RestoredEnd, String> {
        let end = match self.end {
            EndKind::Finished(picture) => {
                let pixels = pixels_of(&picture.pixels)?;
                let picture = Box::new(picture.restored()?);
                Some((JournaledEnd::Finished(picture), pixels))
            }
            EndKind::Failed(failure) => Some((
                JournaledEnd::Failed(failure.restored()?),
                PixelsKept::Expired,
            )),
            EndKind::Forgotten => None,
        };
        Ok(RestoredEnd {
            at_ms: self.at_ms,
            end,
        })
    }
}

impl PictureRecord {
    fn of(picture: &JournaledPicture) -> Self {
        let (facts, reading) = (&picture.facts, &picture.reading);
        let unknown = reading.unknown.iter();
        Self {
            model: facts.worker.model.to_string(),
            slot: facts.worker.slot,
            attempts: facts.attempts,
            resume_step: facts.resume_step,
            queue_us: micros(facts.queue),
            load_us: micros(facts.load),
            denoise_us: micros(facts.denoise),
            decode_us: micros(facts.decode),
            seed: facts.seed,
            size: facts.size.to_string(),
            steps: facts.steps,
            digest: picture.digest.clone(),
            sampler: picture.sampler.clone(),
            dtype: picture.dtype.word().to_owned(),
            metadata: picture.metadata,
            was_cut: reading.was_cut,
            unknown: unknown
                .map(|unknown| (unknown.word.clone(), unknown.nearest.clone()))
                .collect(),
            examples: reading.examples.clone(),
            tokens: reading.tokens,
            pixels: pixels_word(PixelsKept::Yes).to_owned(),
        }
    }

    fn restored(self) -> Result<JournaledPicture, String> {
        let unknown = self.unknown.into_iter();
        Ok(JournaledPicture {
            facts: PictureFacts {
                worker: WorkerName {
                    model: ModelKey::new(&self.model)?,
                    slot: self.slot,
                },
                attempts: self.attempts,
                resume_step: self.resume_step,
                queue: Duration::from_micros(self.queue_us),
                load: Duration::from_micros(self.load_us),
                denoise: Duration::from_micros(self.denoise_us),
                decode: Duration::from_micros(self.decode_us),
                seed: self.seed,
                size: self.size.parse()?,
                steps: self.steps,
            },
            reading: Reading {
                was_cut: self.was_cut,
                unknown: unknown
                    .map(|(word, nearest)| UnknownWord { word, nearest })
                    .collect(),
                examples: self.examples,
                tokens: self.tokens,
            },
            digest: self.digest,
            sampler: self.sampler,
            dtype: self.dtype.parse()?,
            metadata: self.metadata,
        })
    }
}

impl StoredFailure {
    fn restored(self) -> Result<Failure, String> {
        let kind = FailureKind::from_word(&self.kind);
        let field = self.field.as_deref();
        Ok(Failure {
            kind: kind.ok_or_else(|| format!("unknown kind of failure {:?}", self.kind))?,
            // A field that this version does not know is left out.
            field: field.and_then(Field::from_word),
            message: self.message,
            retry_after_ms: self.retry_after_ms,
        })
    }
}

fn pixels_word(pixels: PixelsKept) -> &'static str {
    match pixels {
        PixelsKept::Yes => "yes",
        PixelsKept::Expired => "expired",
        PixelsKept::Displaced => "displaced",
    }
}

fn pixels_of(word: &str) -> Result<PixelsKept, String> {
    let all = [PixelsKept::Yes, PixelsKept::Expired, PixelsKept::Displaced];
    let meant = all.into_iter().find(|pixels| pixels_word(*pixels) == word);
    meant.ok_or_else(|| format!("{word:?} is not one of yes, expired, displaced"))
}

/// The earlier attempts of a job.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PastRecord {
    attempts: u32,
    /// How each worker died, after which step, and whether the job may have caused it.
    losses: Vec<(String, u32, bool)>,
    fruitless: u32,
    out_of_memory: u32,
}

impl PastRecord {
    pub fn of(past: &JobPast) -> Self {
        let losses = past.losses.iter();
        Self {
            attempts: past.attempts,
            losses: losses
                .map(|loss| (loss.how.clone(), loss.step, loss.suspect))
                .collect(),
            fruitless: past.fruitless,
            out_of_memory: past.out_of_memory,
        }
    }

    /// Without latents: the job begins at its first step.
    pub fn restored(self) -> JobPast {
        let losses = self.losses.into_iter();
        JobPast {
            attempts: self.attempts,
            losses: losses
                .map(|(how, step, suspect)| PastLoss { how, step, suspect })
                .collect(),
            fruitless: self.fruitless,
            out_of_memory: self.out_of_memory,
            resume_step: 0,
        }
    }
}

/// A request in quarantine.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct QuarantineRecord {
    /// Milliseconds since 1970.
    pub since_ms: u64,
    /// Empty in the records of earlier versions.
    #[serde(default)]
    user: String,
    digest: String,
    prompt: String,
    #[serde(default)]
    negative: Option<String>,
    size: String,
    steps: u32,
    guidance: f32,
    deaths: Vec<String>,
}

impl QuarantineRecord {
    pub fn of(request: &QuarantinedRequest, now_ms: u64) -> Self {
        Self {
            since_ms: now_ms.saturating_sub(ms(request.age)),
            user: request.user.clone(),
            digest: request.digest.clone(),
            prompt: request.prompt.clone(),
            negative: request.negative.clone(),
            size: request.size.to_string(),
            steps: request.steps,
            guidance: request.guidance,
            deaths: request.deaths.clone(),
        }
    }

    /// # Errors
    /// A field is invalid.
    pub fn restored(self, name: &str, now_ms: u64) -> Result<QuarantinedRequest, String> {
        Ok(QuarantinedRequest {
            name: name.to_owned(),
            user: self.user,
            digest: self.digest,
            prompt: self.prompt,
            negative: self.negative,
            size: self.size.parse()?,
            steps: self.steps,
            guidance: self.guidance,
            deaths: self.deaths,
            age: Duration::from_millis(now_ms.saturating_sub(self.since_ms)),
        })
    }
}

/// The memory that workers of a model were seen to hold.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NeedRecord {
    digest: String,
    host_mb: u64,
    device_mb: u64,
}

impl NeedRecord {
    pub fn of(need: &MeasuredNeed) -> Self {
        Self {
            digest: need.digest.clone(),
            host_mb: need.host.0,
            device_mb: need.device.0,
        }
    }

    /// # Errors
    /// `model` is not a key.
    pub fn restored(self, model: &str) -> Result<MeasuredNeed, String> {
        Ok(MeasuredNeed {
            model: ModelKey::new(model)?,
            digest: self.digest,
            host: Mebibytes(self.host_mb),
            device: Mebibytes(self.device_mb),
        })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
