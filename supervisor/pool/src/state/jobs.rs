//! All jobs without an answer, with the queues of the models they wait for.
//!
//! One job is in several places at once: in the map, in the queue of its model, among the timers. The methods
//! here change all of these places together.

use std::collections::{BTreeMap, BTreeSet};

use ipc_protocol::ids::{DeviceConstraint, Generation, JobId};

use crate::state::job::{Job, Origin};
use crate::state::queue::Queue;
use crate::words::action::Parameters;
use crate::words::moment::Moment;
use crate::words::registry::ModelId;

/// All jobs without an answer.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    all: BTreeMap<JobId, Job>,
    /// By model.
    waiting: Vec<WaitingJobs>,
    timers: BTreeSet<(Moment, JobId)>,
    waiting_bytes: usize,
    /// The last id that was reserved.
    last_id: u64,
}

/// The jobs that wait for one model.
#[derive(Debug, Default)]
struct WaitingJobs {
    queue: Queue,
    /// Those that may run on one device only.
    constrained: BTreeSet<JobId>,
}

impl Jobs {
    /// Makes a queue for one model more.
    pub(super) fn add_model(&mut self) {
        self.waiting.push(WaitingJobs::default());
    }

    pub(crate) fn get(&self, id: JobId) -> Option<&Job> {
        self.all.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: JobId) -> Option<&mut Job> {
        self.all.get_mut(&id)
    }

    /// Every job, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Job> {
        self.all.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The queue of a model.
    pub(crate) fn queue(&self, model: ModelId) -> &Queue {
        &self.waiting[model.index()].queue
    }

    /// Jobs in all queues.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.iter().map(|waiting| waiting.queue.len()).sum()
    }

    /// Bytes of text in all queues.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// The waiting jobs of a model that may run on one device only, oldest first.
    pub(crate) fn constrained(&self, model: ModelId) -> impl Iterator<Item = JobId> {
        self.waiting[model.index()].constrained.iter().copied()
    }

    /// Some waiting job of a model may run on one device only.
    pub(crate) fn has_constrained(&self, model: ModelId) -> bool {
        !self.waiting[model.index()].constrained.is_empty()
    }

    /// The job whose time limit ends first, with the moment.
    pub(crate) fn next_timer(&self) -> Option<(Moment, JobId)> {
        self.timers.first().copied()
    }

    /// Takes the next `count` ids, for jobs that will have them.
    pub(crate) fn reserve(&mut self, count: u32) -> Vec<JobId> {
        let first = self.last_id + 1;
        self.last_id += u64::from(count);
        (first..=self.last_id).map(JobId).collect()
    }

    /// Notes that ids up to `last` were used before.
    pub(crate) fn note_used(&mut self, last: JobId) {
        self.last_id = self.last_id.max(last.0);
    }

    /// Takes in a new job under an id that was reserved for it. It waits from now on.
    pub(crate) fn enter(
        &mut self,
        id: JobId,
        model: ModelId,
        origin: &Origin,
        parameters: Parameters,
        device: DeviceConstraint,
        now: Moment,
    ) {
        let job = Job::new(id, model, origin, parameters, device, now);
        if let Some(deadline) = job.deadline() {
            self.timers.insert((deadline, id));
        }
        self.waiting_bytes += job.bytes();
        let waiting = &mut self.waiting[model.index()];
        waiting.queue.push(job.entry());
        if device != DeviceConstraint::Auto {
            waiting.constrained.insert(id);
        }
        self.all.insert(id, job);
    }

    /// Takes a waiting job out of its queue for a worker; `None` if no such job waits.
    pub(super) fn run(
        &mut self,
        id: JobId,
        worker: Generation,
        now: Moment,
        spawned: Moment,
        ready: Moment,
    ) -> Option<&Job> {
        let job = self.all.get_mut(&id)?;
        job.waiting_since()?;
        let waiting = &mut self.waiting[job.model().index()];
        waiting.queue.take(job.entry());
        waiting.constrained.remove(&id);
        self.waiting_bytes -= job.bytes();
        job.run(worker, now, spawned, ready);
        Some(job)
    }

    /// Puts a running job at the head of its queue; `None` if no such job runs.
    pub(crate) fn wait_again(&mut self, id: JobId, now: Moment) -> Option<&Job> {
        let job = self.all.get_mut(&id)?;
        if job.waiting_since().is_some() {
            return None;
        }
        job.wait(now);
        self.waiting_bytes += job.bytes();
        let waiting = &mut self.waiting[job.model().index()];
        waiting.queue.push_again(id);
        if job.device() != DeviceConstraint::Auto {
            waiting.constrained.insert(id);
        }
        Some(job)
    }

    /// Takes a job out of the map, its queue and the timers.
    pub(crate) fn take(&mut self, id: JobId) -> Option<Job> {
        let job = self.all.remove(&id)?;
        if let Some(deadline) = job.deadline() {
            self.timers.remove(&(deadline, id));
        }
        if job.waiting_since().is_some() {
            let waiting = &mut self.waiting[job.model().index()];
            waiting.queue.remove(job.entry());
            waiting.constrained.remove(&id);
            self.waiting_bytes -= job.bytes();
        }
        Some(job)
    }
}
