//! What workers say of their jobs, and what it means for a job that its worker is gone.

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{Generation, JobId};
use pool::{Event, Exit, JobFault, KilledBy, Moment, StartFault, StopReason};

use super::{Hand, News, Oracle, Troubles};

impl Oracle {
    pub(super) fn hear_worker(&mut self, now: Moment, event: &Event) -> News {
        match event {
            Event::WorkerReady { worker, .. } => {
                if let Some(hand) = self.workers.get_mut(worker) {
                    hand.loaded = true;
                }
                News::None
            }
            Event::JobFinished { worker, job, .. } => match self.let_go(*worker, *job) {
                true => News::Finished(*job),
                false => News::None,
            },
            Event::JobFailed { worker, job, fault } if self.let_go(*worker, *job) => {
                self.gave_up(now, *job, fault)
            }
            Event::WorkerStartFailed { worker, fault, .. } => {
                if let Some(hand) = self.workers.remove(worker) {
                    self.trouble(&hand.model).last_load_failure = Some(now);
                    if *fault == StartFault::Program {
                        self.note_failure(now, &hand.model);
                    }
                }
                News::None
            }
            Event::WorkerExited {
                worker,
                exit,
                resume_step,
            } => match self.workers.remove(worker) {
                Some(hand) => self.gone(now, &hand, *exit, resume_step.unwrap_or(0)),
                None => News::None,
            },
            _ => News::None,
        }
    }

    /// Takes a job off its worker, if the worker has it and it still wants an answer.
    fn let_go(&mut self, worker: Generation, job: JobId) -> bool {
        let hand = self.workers.get_mut(&worker);
        let Some(hand) = hand.filter(|hand| hand.job == Some(job)) else {
            return false;
        };
        hand.job = None;
        match self.jobs.get_mut(&job) {
            Some(fate) => fate.on.take() == Some(worker),
            None => false,
        }
    }

    fn gave_up(&mut self, now: Moment, job: JobId, fault: &JobFault) -> News {
        match fault {
            JobFault::BadRequest { .. } => News::GaveUp(job, FailureKind::BadValue),
            JobFault::OutOfMemory { .. } => self.lose(now, job, End::Memory, 0),
            JobFault::NotFinite { .. } | JobFault::Cancelled | JobFault::Other { .. } => {
                if let Some(model) = self.jobs.get(&job).map(|fate| fate.model.clone()) {
                    self.note_failure(now, &model);
                }
                News::GaveUp(job, FailureKind::ModelFailed)
            }
        }
    }

    fn gone(&mut self, now: Moment, hand: &Hand, exit: Exit, salvaged: u32) -> News {
        let end = end_of(hand, exit);
        let blames_model = !matches!(end, End::Wanted | End::Outside);
        if blames_model {
            self.note_failure(now, &hand.model);
        }
        if !hand.loaded && end != End::Wanted {
            self.trouble(&hand.model).last_load_failure = Some(now);
        }
        if end == End::Files {
            self.trouble(&hand.model).last_load_failure = Some(now);
        }
        match hand.job {
            Some(job) => self.lose(now, job, end, salvaged),
            None => News::None,
        }
    }

    fn lose(&mut self, now: Moment, job: JobId, end: End, salvaged: u32) -> News {
        let Some(fate) = self.jobs.get_mut(&job) else {
            return News::None;
        };
        fate.on = None;
        fate.losses += 1;
        fate.suspects += u32::from(end == End::OwnMaking);
        fate.memory += u32::from(end == End::Memory);
        fate.fruitless = match salvaged > fate.salvaged {
            true => 0,
            false => fate.fruitless + 1,
        };
        fate.salvaged = fate.salvaged.max(salvaged);
        if fate.suspects >= self.settings.max_attempts {
            let fingerprint = self.fingerprint(&self.jobs[&job].model, &self.jobs[&job].parameters);
            self.quarantine.insert(now, fingerprint);
        }
        News::Lost(job)
    }

    pub(super) fn trouble(&mut self, model: &str) -> &mut Troubles {
        self.troubles.entry(model.to_owned()).or_default()
    }

    pub(super) fn note_failure(&mut self, now: Moment, model: &str) {
        let troubles = self.trouble(model);
        troubles.in_a_row += 1;
        troubles.last_failure = Some(now);
    }
}

/// What the end of a worker says of the job that it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Somebody of us wanted it.
    Wanted,
    /// The machine, the kernel or somebody on it.
    Outside,
    /// It had no memory for this job.
    Memory,
    /// Its model's files are not what they were.
    Files,
    /// Nobody knows: it said nothing any more.
    Unknown,
    OwnMaking,
}

fn end_of(hand: &Hand, exit: Exit) -> End {
    match hand.told {
        Some(why) if !why.is_fault() => return End::Wanted,
        Some(StopReason::Starved) => return End::Outside,
        Some(StopReason::Silent) => return End::Unknown,
        Some(_) => return End::OwnMaking,
        None => {}
    }
    match exit {
        Exit::Code(66 | 78 | 83) => End::Files,
        Exit::Code(75 | 80) => End::Memory,
        Exit::Code(81 | 82) => End::Outside,
        Exit::Code(_) => End::OwnMaking,
        Exit::Signal { signal, by } => match (by, signal) {
            (KilledBy::KernelOom, _) | (KilledBy::Other, 1 | 2 | 3 | 9 | 15) => End::Outside,
            (KilledBy::AllocationFailed, _) => End::Memory,
            (KilledBy::Other, 7) => End::Files,
            (KilledBy::Us | KilledBy::Other, _) => End::OwnMaking,
        },
    }
}
