//! The updates of a request at the client's end of a connection.

use std::collections::BTreeMap;
use std::io::Read;

use interprocess::local_socket::Stream;

use crate::client_error::ClientError;
use crate::connection;
use crate::failure::Failure;
use crate::ids::JobId;
use crate::messages::client::{Accepted, CHUNK_BYTES_MAX, FromPool, JobReport};
use crate::units::PictureSize;

/// The updates of a request as they arrive. Ends after every job has its answer.
#[derive(Debug)]
pub struct Drawing<'a> {
    /// The jobs of the request.
    pub accepted: Accepted,
    stream: &'a Stream,
    unanswered: u32,
    arriving: BTreeMap<JobId, Vec<u8>>,
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
    /// The updates of `unanswered` jobs of an accepted request.
    pub(crate) fn new(accepted: Accepted, stream: &'a Stream, unanswered: u32) -> Self {
        Self {
            accepted,
            stream,
            unanswered,
            arriving: BTreeMap::new(),
        }
    }

    fn next_update(&mut self) -> Result<Update, ClientError> {
        loop {
            return Ok(match connection::read(&mut &*self.stream)? {
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
                FromPool::Finished { job, report } => self.finish(job, report)?,
                FromPool::Failed { job, failure } => {
                    self.unanswered -= 1;
                    Update::Failed { job, failure }
                }
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
        (&mut &*self.stream).read_exact(&mut rgb8)?;
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
        let arriving = self.arriving.entry(job).or_default();
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
        (&mut &*self.stream).read_exact(&mut arriving[begin..])?;
        Ok(())
    }

    fn finish(&mut self, job: JobId, report: JobReport) -> Result<Update, ClientError> {
        let rgb8 = self.arriving.remove(&job).unwrap_or_default();
        let index = job.0.checked_sub(self.accepted.first.0);
        let (Some(index), true) = (
            index.filter(|index| *index < u64::from(self.accepted.count)),
            rgb8.len() as u64 == self.accepted.size.rgb8_bytes(),
        ) else {
            return Err(ClientError::Unexpected(format!(
                "job {job} finished with {} bytes",
                rgb8.len()
            )));
        };
        self.unanswered -= 1;
        Ok(Update::Picture(Box::new(Picture {
            job,
            index: index as u32,
            size: self.accepted.size,
            rgb8,
            report,
        })))
    }
}

impl Iterator for Drawing<'_> {
    type Item = Result<Update, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.unanswered == 0 {
            return None;
        }
        let update = self.next_update();
        if update.is_err() {
            self.unanswered = 0;
        }
        Some(update)
    }
}
