//! The finished pictures of detached jobs, bounded in time and memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::ids::JobId;
use pool::Moment;

use crate::driver::handle::FinishedPicture;

/// The bounds of kept pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultLimits {
    /// How long a picture is kept: `pool.result_seconds`.
    pub keep: Duration,
    /// Memory for all of them, in MiB: `limits.result_mb`.
    pub memory_mb: u64,
}

/// The kept pictures.
#[derive(Debug)]
pub(super) struct KeptPictures {
    limits: ResultLimits,
    pictures: BTreeMap<JobId, KeptEntry>,
    /// Their jobs, the oldest end first.
    order: VecDeque<JobId>,
    bytes: u64,
}

#[derive(Debug)]
struct KeptEntry {
    until: Moment,
    bytes: u64,
    picture: Arc<FinishedPicture>,
}

/// Why a picture is not kept any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DropReason {
    /// Its time is over.
    Time,
    /// Newer ones needed its memory, or it alone needs more than there is.
    Memory,
}

impl KeptPictures {
    pub fn new(limits: ResultLimits) -> Self {
        Self {
            limits,
            pictures: BTreeMap::new(),
            order: VecDeque::new(),
            bytes: 0,
        }
    }

    pub fn limits(&self) -> ResultLimits {
        self.limits
    }

    /// Changes the bounds, for pictures that are kept from now on.
    pub fn set_limits(&mut self, limits: ResultLimits) {
        self.limits = limits;
    }

    /// Keeps a picture, for which `bytes` count. Returns the jobs whose pictures are dropped for it, the oldest
    /// first; the new one is among them if it needs more than all the memory.
    pub fn keep(&mut self, now: Moment, picture: Arc<FinishedPicture>, bytes: u64) -> Vec<JobId> {
        self.keep_until(now + self.limits.keep, picture, bytes)
    }

    /// The same with the moment at which it is dropped; no kept picture is dropped later than that.
    pub fn keep_until(
        &mut self,
        until: Moment,
        picture: Arc<FinishedPicture>,
        bytes: u64,
    ) -> Vec<JobId> {
        self.order.push_back(picture.job);
        let entry = KeptEntry {
            until,
            bytes,
            picture,
        };
        self.pictures.insert(entry.picture.job, entry);
        self.bytes += bytes;
        let most = self.limits.memory_mb.saturating_mul(1 << 20);
        std::iter::from_fn(|| (self.bytes > most).then(|| self.drop_oldest())?).collect()
    }

    /// Drops the pictures whose time is over; returns their jobs.
    pub fn expire(&mut self, now: Moment) -> Vec<JobId> {
        std::iter::from_fn(|| match self.due() {
            Some(due) if due <= now => self.drop_oldest(),
            Some(_) | None => None,
        })
        .collect()
    }

    /// When the next picture is dropped.
    pub fn due(&self) -> Option<Moment> {
        let oldest = self.order.front()?;
        self.pictures.get(oldest).map(|entry| entry.until)
    }

    /// A job's picture, and until when it is kept.
    pub fn get(&self, job: JobId) -> Option<(&Arc<FinishedPicture>, Moment)> {
        let entry = self.pictures.get(&job)?;
        Some((&entry.picture, entry.until))
    }

    fn drop_oldest(&mut self) -> Option<JobId> {
        let oldest = self.order.pop_front()?;
        if let Some(entry) = self.pictures.remove(&oldest) {
            self.bytes -= entry.bytes;
        }
        Some(oldest)
    }
}
