//! The updates of a request at the client's end of a connection.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use crate::client::Client;
use crate::client_error::ClientError;
use crate::connection;
use crate::failure::Failure;
use crate::ids::JobId;
use crate::messages::client::{Accepted, CHUNK_BYTES_MAX, FromPool, JobReport};
use crate::request::ImageRequest;
use crate::units::PictureSize;

/// The most memory that is taken for a picture before its bytes arrive.
const AT_ONCE_BYTES_MAX: u64 = 64 << 20;

/// The updates of a request as they arrive. Ends after every job has its answer.
#[derive(Debug)]
pub struct Drawing<'a> {
    /// The jobs of the request; others after the daemon was lost.
    pub accepted: Accepted,
    client: &'a mut Client,
    subject: DrawingSubject,
    /// Index of the first of the accepted jobs in the request.
    offset: u32,
    /// Indices of the pictures that have no answer yet.
    unanswered: BTreeSet<u32>,
    arriving: BTreeMap<JobId, Vec<u8>>,
    /// The daemon ended, and the next call waits for another one.
    lost: bool,
}

/// The subject of the updates, which is asked for again if the daemon is lost.
#[derive(Debug)]
enum DrawingSubject {
    /// A request, with the seed that was chosen.
    Request(Box<ImageRequest>),
    /// A job of an earlier request.
    Job(JobId),
}

/// One update about a request.
#[derive(Debug, Clone)]
pub enum Update {
    /// A job waits.
    Waiting {
        /// The job.
        job: JobId,
        /// Position in the queue, from 1.
        position: u32,
        /// The reason.
        reason: String,
    },
    /// A job's model is being loaded.
    Loading {
        /// The job.
        job: JobId,
        /// Progress from 0 to 1.
        fraction: f32,
    },
    /// A job finished a step.
    Step {
        /// The job.
        job: JobId,
        /// The finished step, from 1.
        step: u32,
        /// Total number of steps.
        steps: u32,
        /// Milliseconds since the attempt began.
        elapsed_ms: u32,
    },
    /// A preview of a job's picture after a step, if the request asks for previews; a slow client misses some.
    Preview {
        /// The job.
        job: JobId,
        /// Size of the preview, one pixel per latent value.
        size: PictureSize,
        /// Rows from the top, three bytes per pixel.
        rgb8: Vec<u8>,
    },
    /// The finished picture, as the job's only answer.
    Picture(Box<Picture>),
    /// The failure, as the job's only answer.
    Failed {
        /// The job.
        job: JobId,
        /// The reason.
        failure: Failure,
    },
    /// The daemon ended. The next update comes once another daemon has accepted what is not answered yet.
    DaemonLost,
    /// Another daemon has accepted what is not answered yet: these jobs take the place of the earlier ones.
    AcceptedAgain(Accepted),
}

/// A finished picture.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The job that made it.
    pub job: JobId,
    /// The picture's place in the request, from 0.
    pub index: u32,
    /// Size of the picture.
    pub size: PictureSize,
    /// Rows from the top, three bytes per pixel.
    pub rgb8: Vec<u8>,
    /// Worker, seed and times of the job.
    pub report: JobReport,
}

impl<'a> Drawing<'a> {
    /// The updates of a request; a detached one has none.
    pub(crate) fn of_request(
        accepted: Accepted,
        client: &'a mut Client,
        request: &ImageRequest,
    ) -> Self {
        let count = if request.detached { 0 } else { accepted.count };
        let same = ImageRequest {
            seed: Some(accepted.seed),
            ..request.clone()
        };
        let subject = DrawingSubject::Request(Box::new(same));
        Self::new(accepted, client, subject, (0..count).collect())
    }

    /// The updates of a job of an earlier request.
    pub(crate) fn of_job(accepted: Accepted, client: &'a mut Client, job: JobId) -> Self {
        let index = job.0.saturating_sub(accepted.first.0);
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        Self::new(accepted, client, DrawingSubject::Job(job), [index].into())
    }

    fn new(
        accepted: Accepted,
        client: &'a mut Client,
        subject: DrawingSubject,
        unanswered: BTreeSet<u32>,
    ) -> Self {
        Self {
            accepted,
            client,
            subject,
            offset: 0,
            unanswered,
            arriving: BTreeMap::new(),
            lost: false,
        }
    }

    /// Waits for another daemon, and asks it for what is not answered yet.
    fn resume(&mut self) -> Result<Update, ClientError> {
        self.arriving.clear();
        let accepted = match &self.subject {
            DrawingSubject::Job(job) => self.client.wait_again(*job)?,
            DrawingSubject::Request(request) => {
                let (first, last) = (self.unanswered.first(), self.unanswered.last());
                let (Some(&first), Some(&last)) = (first, last) else {
                    return Err(ClientError::Unexpected("everything is answered".into()));
                };
                // Pictures between them may be answered; they come again, and are left out.
                let rest = ImageRequest {
                    seed: request.seed.map(|seed| seed.wrapping_add(first.into())),
                    count: last - first + 1,
                    ..(**request).clone()
                };
                self.offset = first;
                self.client.ask_again(&rest, &mut |_| {})?
            }
        };
        self.accepted = accepted.clone();
        let count = match self.subject {
            DrawingSubject::Job(_) => 1,
            DrawingSubject::Request(_) => accepted.count,
        };
        Ok(Update::AcceptedAgain(Accepted { count, ..accepted }))
    }

    /// The place of a job's picture in the request, from 0, if that has no answer yet. Notes the answer.
    fn answered(&mut self, job: JobId) -> Option<u32> {
        let nth = job.0.checked_sub(self.accepted.first.0)?;
        let nth = u32::try_from(nth).ok()?;
        let index = nth.checked_add(self.offset)?;
        self.unanswered.remove(&index).then_some(index)
    }

    fn next_update(&mut self) -> Result<Update, ClientError> {
        loop {
            return Ok(match connection::read(&mut &*self.client.stream)? {
                FromPool::Waiting {
                    job,
                    position,
                    reason,
                } => Update::Waiting {
                    job,
                    position,
                    reason,
                },
                FromPool::Loading { job, permille } => Update::Loading {
                    job,
                    fraction: f32::from(permille) / 1000.0,
                },
                FromPool::Step {
                    job,
                    step,
                    steps,
                    elapsed_ms,
                } => Update::Step {
                    job,
                    step,
                    steps,
                    elapsed_ms,
                },
                FromPool::Image {
                    job,
                    size,
                    preview: true,
                    len,
                    ..
                } => self.preview(job, size, len)?,
                FromPool::Image {
                    job,
                    size,
                    offset,
                    len,
                    ..
                } => {
                    self.receive(job, size, offset, len)?;
                    continue;
                }
                FromPool::Finished { job, report } => match self.finish(job, report)? {
                    Some(picture) => picture,
                    None => continue,
                },
                FromPool::Failed { job, failure } => match self.answered(job) {
                    Some(_) => Update::Failed { job, failure },
                    None => continue,
                },
                other => return Err(ClientError::unexpected(&other)),
            });
        }
    }

    /// Reads the raw bytes of a preview. They all follow one `Image` frame, so there are at most `CHUNK_BYTES_MAX`.
    fn preview(&mut self, job: JobId, size: PictureSize, len: u32) -> Result<Update, ClientError> {
        let whole = self.accepted.size;
        let is_larger = size.width > whole.width || size.height > whole.height;
        if is_larger || u64::from(len) != size.rgb8_bytes() || len > CHUNK_BYTES_MAX {
            return Err(ClientError::Unexpected(format!(
                "{len} bytes of a {size} preview"
            )));
        }
        let mut rgb8 = vec![0; len as usize];
        (&mut &*self.client.stream).read_exact(&mut rgb8)?;
        Ok(Update::Preview { job, size, rgb8 })
    }

    /// Reads the raw bytes after an `Image` frame. Every bound is checked against the accepted size.
    fn receive(
        &mut self,
        job: JobId,
        size: PictureSize,
        offset: u64,
        len: u32,
    ) -> Result<(), ClientError> {
        let whole = self.accepted.size.rgb8_bytes();
        // The whole size at once: growing would copy the pixels that have arrived.
        let arriving = self.arriving.entry(job);
        let arriving =
            arriving.or_insert_with(|| Vec::with_capacity(whole.min(AT_ONCE_BYTES_MAX) as usize));
        let in_place = offset == arriving.len() as u64
            && len <= CHUNK_BYTES_MAX
            && offset + u64::from(len) <= whole
            && size == self.accepted.size;
        if !in_place {
            return Err(ClientError::Unexpected(format!(
                "{len} bytes at {offset} of a {size} picture"
            )));
        }
        let begin = arriving.len();
        arriving.resize(begin + len as usize, 0);
        (&mut &*self.client.stream).read_exact(&mut arriving[begin..])?;
        Ok(())
    }

    /// The picture of a job; `None` if that is answered already.
    fn finish(&mut self, job: JobId, report: JobReport) -> Result<Option<Update>, ClientError> {
        let rgb8 = self.arriving.remove(&job).unwrap_or_default();
        let nth = job.0.checked_sub(self.accepted.first.0);
        let is_known = nth.is_some_and(|nth| nth < u64::from(self.accepted.count));
        if !is_known || rgb8.len() as u64 != self.accepted.size.rgb8_bytes() {
            return Err(ClientError::Unexpected(format!(
                "job {job} finished with {} bytes",
                rgb8.len()
            )));
        }
        let size = self.accepted.size;
        Ok(self.answered(job).map(|index| {
            Update::Picture(Box::new(Picture {
                job,
                index,
                size,
                rgb8,
                report,
            }))
        }))
    }
}

impl Iterator for Drawing<'_> {
    type Item = Result<Update, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.unanswered.is_empty() {
            return None;
        }
        let update = match std::mem::take(&mut self.lost) {
            true => self.resume(),
            false => self.next_update(),
        };
        match update {
            Err(error) if self.client.may_reconnect(&error) => {
                self.lost = true;
                Some(Ok(Update::DaemonLost))
            }
            Err(error) => {
                self.unanswered.clear();
                Some(Err(error))
            }
            update => Some(update),
        }
    }
}
