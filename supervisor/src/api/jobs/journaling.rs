//! Detached jobs on their way to the journal, and back after a restart.

use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::JobId;
use ipc_protocol::request::ImageRequest;
use pool::{AcceptedJobs, JobPast, RestoredJob};

use super::facts::{JobEnd, JobFacts};
use super::kept::{DropReason, ResultLimits};
use super::record::Keeping;
use super::table::{EndedJob, RequestFacts};
use crate::driver::handle::{FinishedPicture, JobUpdate, ModelReceipt};
use crate::journal::contents::{RememberedJob, RememberedRequest};
use crate::journal::handle::Journal;
use crate::journal::orders::{
    JournalOrder, JournaledEnd, JournaledPicture, JournaledRequest, PixelsKept,
};
use crate::telemetry;
use crate::telemetry::traces::context::TraceParent;

/// Writes detached jobs to the journal, if one is kept. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Journaling(Option<Journal>);

/// The jobs of an earlier daemon.
#[derive(Debug, Default)]
pub(super) struct LeftJobs {
    /// In the order of their ends.
    pub ended: Vec<EndedJob>,
    /// In the order of their ids.
    pub unanswered: Vec<UnansweredJob>,
}

/// A job of an earlier daemon without an answer.
#[derive(Debug)]
pub(super) struct UnansweredJob {
    pub facts: JobFacts,
    /// Time since its request.
    pub waited: Duration,
    pub trace: Option<TraceParent>,
    pub restored: RestoredJob,
}

impl LeftJobs {
    /// The number of pictures that are kept.
    pub fn pictures(&self) -> usize {
        let is_kept = |ended: &&EndedJob| ended.picture.is_some();
        self.ended.iter().filter(is_kept).count()
    }
}

/// The pixels of a picture, for a thread that writes them.
struct SharedPixels(Arc<FinishedPicture>);

impl AsRef<[u8]> for SharedPixels {
    fn as_ref(&self) -> &[u8] {
        &self.0.rgb8
    }
}

impl Journaling {
    pub fn new(journal: Option<Journal>) -> Self {
        Self(journal)
    }

    /// Writes down a detached request and waits until it is on the disk.
    ///
    /// # Errors
    /// `NotKept`: it is not, so that it would not outlive the daemon.
    pub async fn keep_request(
        &self,
        facts: &RequestFacts,
        accepted: &Arc<AcceptedJobs>,
    ) -> Result<(), Failure> {
        let Some(journal) = &self.0 else {
            return Ok(());
        };
        let request = JournaledRequest {
            user: facts.user.clone(),
            request: Arc::clone(&facts.request),
            created: facts.created,
            trace: facts.trace,
            accepted: Arc::clone(accepted),
        };
        let written = journal.write(JournalOrder::Accept(request)).await;
        written.map_err(|why| {
            // It may still reach the disk.
            let jobs = accepted.jobs.clone();
            let _ = journal.tell(JournalOrder::Forget { jobs });
            let message = format!(
                "a detached job must outlive the daemon, and the journal {why}; free its disk, or draw without detaching"
            );
            Failure::new(FailureKind::NotKept, message)
        })
    }

    /// Writes down the end of a detached job, if the update is one, and waits until it is on the disk. If that fails, the
    /// next daemon draws the job again, with the same bytes.
    pub async fn keep_end(&self, facts: &RequestFacts, update: &JobUpdate) {
        let Some(journal) = self.0.as_ref().filter(|_| facts.request.detached) else {
            return;
        };
        let (job, end) = match update {
            JobUpdate::Progress { .. } | JobUpdate::Preview { .. } => return,
            // The daemon ends before the job: the next one draws it.
            JobUpdate::Failed { failure, .. } if failure.kind == FailureKind::Draining => return,
            JobUpdate::Failed { job, failure } => (*job, JournaledEnd::Failed(failure.clone())),
            JobUpdate::Picture(picture) => {
                let pixels = SharedPixels(Arc::clone(picture));
                if let Err(error) = journal.keep_pixels(picture.job, pixels).await {
                    return telemetry::job_journal::pixels_not_kept(picture.job.0, &error);
                }
                (picture.job, JournaledEnd::Finished(Box::new(of(picture))))
            }
        };
        // If it is not written now, the journal keeps it for later and has told that.
        let _ = journal.write(JournalOrder::End { job, end }).await;
    }

    /// Sorts the jobs of an earlier daemon. `unix` is the present date, in seconds since 1970.
    pub fn sort(
        &self,
        requests: Vec<RememberedRequest>,
        limits: ResultLimits,
        unix: u64,
    ) -> LeftJobs {
        let mut left = LeftJobs::default();
        let mut ended = Vec::new();
        for remembered in requests {
            let request = remembered.request;
            let waited = Duration::from_secs(unix.saturating_sub(request.created));
            for (job, state) in remembered.jobs {
                let facts = facts(&request, job);
                match state {
                    RememberedJob::Unanswered(past) => {
                        left.unanswered
                            .push(unanswered(&request, facts, waited, past));
                    }
                    RememberedJob::Ended { end, age, pixels } => {
                        ended.push((age, request.clone(), facts, end, pixels));
                    }
                }
            }
        }
        ended.sort_by_key(|(age, ..)| *age);
        let mut bytes = limits.memory_mb.saturating_mul(1 << 20);
        for (age, request, facts, end, pixels) in ended {
            let waited = Duration::from_secs(unix.saturating_sub(request.created));
            let since_end = waited.saturating_sub(age);
            let restored = self.ended(&facts, end, (age, pixels), limits, &mut bytes);
            match restored {
                Some((end, picture, keeping)) => left.ended.push(EndedJob {
                    facts,
                    waited: since_end,
                    end,
                    age,
                    picture,
                    keeping,
                }),
                None => {
                    let past = JobPast::default();
                    left.unanswered
                        .push(unanswered(&request, facts, waited, past));
                }
            }
        }
        left.ended.reverse();
        left.unanswered.sort_by_key(|job| job.facts.job);
        left
    }

    /// The end of a job, with its picture if that is kept and fits `bytes`; `None` if its pixels cannot be read.
    fn ended(
        &self,
        facts: &JobFacts,
        end: JournaledEnd,
        (age, pixels): (Duration, PixelsKept),
        limits: ResultLimits,
        bytes: &mut u64,
    ) -> Option<(JobEnd, Option<Arc<FinishedPicture>>, Keeping)> {
        let picture = match end {
            JournaledEnd::Failed(failure) => {
                return Some((JobEnd::Failed(failure), None, Keeping::Never));
            }
            JournaledEnd::Finished(picture) => picture,
        };
        let size = picture.facts.size.rgb8_bytes();
        let needs = size + facts.text_bytes();
        let drop_reason = match pixels {
            PixelsKept::Expired => Some(DropReason::Time),
            PixelsKept::Displaced => Some(DropReason::Memory),
            PixelsKept::Yes if age >= limits.keep => Some(DropReason::Time),
            PixelsKept::Yes if *bytes < needs => Some(DropReason::Memory),
            PixelsKept::Yes => None,
        };
        let finished = JobEnd::Finished(picture.facts.clone());
        if let Some(reason) = drop_reason {
            return Some((finished, None, Keeping::Dropped(reason)));
        }
        *bytes -= needs;
        let read = self.0.as_ref()?.read_pixels(facts.job, size);
        let lost = |error: &std::io::Error| telemetry::job_journal::pixels_lost(facts.job.0, error);
        let rgb8 = read.inspect_err(lost).ok()?;
        let picture = Arc::new(finished_picture(facts.job, *picture, rgb8));
        Some((finished, Some(picture), Keeping::Kept))
    }
}

fn of(picture: &FinishedPicture) -> JournaledPicture {
    JournaledPicture {
        facts: picture.facts.clone(),
        reading: picture.reading.clone(),
        digest: picture.model.digest.clone(),
        sampler: picture.model.sampler.clone(),
        dtype: picture.model.dtype,
        metadata: picture.metadata,
    }
}

fn finished_picture(job: JobId, picture: JournaledPicture, rgb8: Vec<u8>) -> FinishedPicture {
    FinishedPicture {
        job,
        rgb8,
        facts: picture.facts,
        reading: picture.reading,
        model: ModelReceipt {
            digest: picture.digest,
            sampler: picture.sampler,
            dtype: picture.dtype,
        },
        metadata: picture.metadata,
    }
}

/// The facts of a job of an earlier daemon, without its end.
fn facts(request: &JournaledRequest, job: JobId) -> JobFacts {
    JobFacts {
        job,
        user: request.user.clone(),
        model: request.accepted.model.clone(),
        request: Arc::clone(&request.request),
        index: index(request, job),
        created: request.created,
        accepted: Some(Arc::clone(&request.accepted)),
        end: None,
    }
}

/// The picture's place in the request, from 0.
fn index(request: &JournaledRequest, job: JobId) -> u32 {
    let first = request.accepted.jobs.first().copied().unwrap_or(job);
    u32::try_from(job.0.saturating_sub(first.0)).unwrap_or(u32::MAX)
}

/// A job that the pool gets again: a request for one picture, with the values that were chosen.
fn unanswered(
    request: &JournaledRequest,
    facts: JobFacts,
    waited: Duration,
    past: JobPast,
) -> UnansweredJob {
    let accepted = &request.accepted;
    let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
    let rest = |timeout: u64| timeout.saturating_sub(waited_ms).max(1);
    let one = ImageRequest {
        model: Some(accepted.model.as_str().to_owned()),
        size: Some(accepted.size),
        steps: Some(accepted.steps),
        guidance: Some(accepted.guidance),
        seed: facts.seed(),
        count: 1,
        timeout_ms: request.request.timeout_ms.map(rest),
        ..(*request.request).clone()
    };
    UnansweredJob {
        waited,
        trace: request.trace,
        restored: RestoredJob {
            job: facts.job,
            request: one,
            user: request.user.clone(),
            digest: accepted.digest.clone(),
            past,
        },
        facts,
    }
}
