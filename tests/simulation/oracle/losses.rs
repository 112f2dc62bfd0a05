//! What workers say of their jobs, and what it means for a job that its worker is gone.

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{Generation, JobId};
use pool::{Event, Exit, Fault, KilledBy, Moment};

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
            Event::WorkerStartFailed { worker, .. } => {
                if let Some(hand) = self.workers.remove(worker) {
                    self.note_failure(now, &hand.model);
                }
                News::None
            }
            Event::WorkerExited { worker, exit, .. } => match self.workers.remove(worker) {
                Some(hand) => self.gone(now, &hand, *exit),
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

    fn gave_up(&mut self, now: Moment, job: JobId, fault: &Fault) -> News {
        match fault {
            Fault::BadRequest { .. } => News::GaveUp(job, FailureKind::BadValue),
            Fault::OutOfMemory { .. } => self.lose(job, true),
            Fault::NotFinite { .. } | Fault::Cancelled | Fault::Other { .. } => {
                if let Some(model) = self.jobs.get(&job).map(|fate| fate.model.clone()) {
                    self.note_failure(now, &model);
                }
                News::GaveUp(job, FailureKind::ModelFailed)
            }
        }
    }

    fn gone(&mut self, now: Moment, hand: &Hand, exit: Exit) -> News {
        if hand.told.is_some_and(|why| !why.is_fault()) {
            let fate = hand.job.and_then(|job| self.jobs.get_mut(&job));
            if let Some(fate) = fate {
                fate.on = None;
            }
            return News::None;
        }
        let out_of_memory = match exit {
            Exit::Code(code) => matches!(code, 75 | 80),
            Exit::Signal { by, .. } => by == KilledBy::KernelOom,
        };
        let cannot_load = matches!(exit, Exit::Code(66 | 78 | 83)) || out_of_memory && !hand.loaded;
        // Signals that people send, and a device that is gone, say nothing against a job.
        let innocent = match exit {
            Exit::Code(code) => code == 82,
            Exit::Signal { signal, by } => {
                by == KilledBy::Other && matches!(signal, 1 | 2 | 3 | 9 | 15)
            }
        };
        let told = hand.told.is_some();
        if told || !innocent {
            self.note_failure(now, &hand.model);
        }
        if cannot_load && !told {
            self.trouble(&hand.model).last_load_failure = Some(now);
        }
        match hand.job {
            Some(job) => self.lose(job, told || !innocent && !cannot_load),
            None => News::None,
        }
    }

    fn lose(&mut self, job: JobId, suspect: bool) -> News {
        let Some(fate) = self.jobs.get_mut(&job) else {
            return News::None;
        };
        fate.on = None;
        fate.losses += 1;
        fate.suspects += u32::from(suspect);
        if fate.losses >= self.settings.max_attempts && fate.suspects == fate.losses {
            let fingerprint = self.fingerprint(&self.jobs[&job].model, &self.jobs[&job].parameters);
            self.quarantine.insert(fingerprint);
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
