//! Jobs: accepted once, run as they were accepted, answered once.

use std::collections::BTreeMap;

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{Generation, JobId};
use ipc_protocol::units::Mebibytes;
use pool::{ModelSpec, Moment, Outcome, Run};

use super::{Accepted, Life, Shadow, Verdict};

impl Shadow {
    pub(super) fn accept(&mut self, now: Moment, accepted: &pool::AcceptedJobs) -> Verdict {
        let Some(asked) = self.requests.remove(&accepted.ticket) else {
            return Err(format!("accepted {:?}, which did not ask", accepted.ticket));
        };
        if self.draining {
            return Err("accepted while draining".into());
        }
        let model = accepted.model.to_string();
        if accepted.jobs.len() != asked.count as usize {
            return Err(format!(
                "{} jobs for {} images",
                accepted.jobs.len(),
                asked.count
            ));
        }
        if asked.seed.is_some_and(|seed| seed != accepted.seed) {
            return Err("accepted with another seed".into());
        }
        let account = self.models.entry(model.clone()).or_default();
        // With several devices a job may be for one of them, and wait for a worker there.
        let newcomer = account.users.insert(asked.user.clone()) && self.limits.len() == 1;
        for (nth, &job) in (0_u64..).zip(&accepted.jobs) {
            if job.0 != self.last_job + 1 {
                return Err(format!("job {job} after job {}", self.last_job));
            }
            self.last_job = job.0;
            let entry = Accepted {
                model: model.clone(),
                seed: accepted.seed.wrapping_add(nth),
                prompt: asked.prompt.clone(),
                size: accepted.size,
                steps: accepted.steps,
                user: asked.user.clone(),
                priority: asked.priority,
                newcomer: newcomer && nth == 0,
                went_first: BTreeMap::new(),
                since: now,
                on: None,
                attempts: 0,
                crashes: 0,
                salvaged: 0,
                ran_with: None,
            };
            self.jobs.insert(job, entry);
        }
        Ok(())
    }

    /// How many wait that never ran is bounded; checked once what could run at once does.
    pub(crate) fn check_queues(&self) -> Verdict {
        let mut waiting: BTreeMap<&str, usize> = BTreeMap::new();
        for job in self.jobs.values() {
            if job.on.is_none() && job.attempts == 0 {
                *waiting.entry(&job.model).or_default() += 1;
            }
        }
        let most = self.settings.queue_per_model;
        for (model, count) in &waiting {
            if *count > most {
                return Err(format!("{count} wait for {model}, {most} may"));
            }
        }
        let all: usize = waiting.values().sum();
        let most = self.settings.queue_total;
        match all > most {
            true => Err(format!("{all} wait in all, {most} may")),
            false => Ok(()),
        }
    }

    pub(super) fn run(&mut self, now: Moment, run: &Run) -> Verdict {
        let Some(seen) = self.workers.get_mut(&run.worker) else {
            return Err(format!(
                "job {} for worker {}, which is gone",
                run.job, run.worker
            ));
        };
        if seen.life != Life::Idle {
            return Err(format!(
                "job {} for worker {}, which is {:?}",
                run.job, run.worker, seen.life
            ));
        }
        seen.life = Life::Busy(run.job);
        seen.extra = self.specs.get(&seen.model).map_or(Mebibytes::ZERO, |spec| {
            let activation = &spec.need.activation;
            let usual = activation.at(spec.default_size);
            activation.at(run.parameters.size).saturating_sub(usual)
        });
        let model = seen.model.clone();
        let Some(job) = self.jobs.get_mut(&run.job) else {
            return Err(format!("job {} runs and is answered", run.job));
        };
        if job.model != model {
            return Err(format!(
                "job {} of {} on a worker of {model}",
                run.job, job.model
            ));
        }
        if let Some(on) = job.on {
            return Err(format!("job {} runs on {on} already", run.job));
        }
        job.on = Some(run.worker);
        job.attempts += 1;
        if run.attempt != job.attempts {
            return Err(format!(
                "attempt {} is the {}. one",
                run.attempt, job.attempts
            ));
        }
        if job.crashes >= self.settings.max_attempts {
            return Err(format!(
                "job {} runs again after {} crashes",
                run.job, job.crashes
            ));
        }
        if run.resume_step != job.salvaged {
            return Err(format!(
                "job {} goes on from step {}, {} are done",
                run.job, run.resume_step, job.salvaged
            ));
        }
        let p = &run.parameters;
        let same = p.seed == job.seed
            && *p.prompt == *job.prompt
            && p.size == job.size
            && p.steps == job.steps
            && job.ran_with.as_ref().is_none_or(|before| before == p);
        if !same {
            return Err(format!("job {} runs with other parameters", run.job));
        }
        job.ran_with = Some(p.clone());
        let (user, priority, first) = (job.user.clone(), job.priority, job.attempts == 1);
        if self
            .models
            .get(&model)
            .is_some_and(|account| now < account.no_run_before)
        {
            return Err(format!("job {} runs while {model} is broken", run.job));
        }
        if first && self.specs.len() == 1 && !self.settings.fifo {
            self.check_shares(run.job, &user, priority)?;
        }
        Ok(())
    }

    /// Nobody's first job of a model waits for two jobs of one other user.
    pub(super) fn check_shares(
        &mut self,
        started: JobId,
        user: &str,
        priority: ipc_protocol::request::Priority,
    ) -> Verdict {
        for (id, job) in &mut self.jobs {
            let behind = job.newcomer && job.attempts == 0 && *id != started;
            if !behind || job.user == user || job.priority != priority {
                continue;
            }
            let count = job.went_first.entry(user.to_owned()).or_default();
            *count += 1;
            if *count > 1 {
                return Err(format!(
                    "{count} jobs of {user} went before newcomer's job {id}"
                ));
            }
        }
        Ok(())
    }

    pub(super) fn cancel(&mut self, worker: Generation, job: JobId) -> Verdict {
        match self.workers.get_mut(&worker) {
            Some(seen) if seen.life == Life::Busy(job) => {
                seen.life = Life::Unwinding(job);
                Ok(())
            }
            Some(seen) => Err(format!(
                "cancel of job {job} at worker {worker}: {:?}",
                seen.life
            )),
            None => Err(format!(
                "cancel of job {job} at worker {worker}, which is gone"
            )),
        }
    }

    pub(super) fn answer(&mut self, now: Moment, job: JobId, outcome: &Outcome) -> Verdict {
        let Some(done) = self.jobs.remove(&job) else {
            return Err(format!(
                "job {job} is answered twice, or was never accepted"
            ));
        };
        self.answers += 1;
        for seen in self.workers.values_mut() {
            if seen.life == Life::Leaving(Some(job)) {
                seen.life = Life::Leaving(None);
            }
        }
        match outcome {
            Outcome::Picture(facts) => {
                self.pictures += 1;
                let account = self.models.entry(done.model.clone()).or_default();
                account.last_backoff = std::time::Duration::ZERO;
                account.no_start_before = Moment::START;
                let right = facts.seed == done.seed
                    && facts.size == done.size
                    && facts.steps == done.steps
                    && facts.attempts == done.attempts
                    && facts.worker.model.as_str() == done.model;
                if !right || done.attempts == 0 {
                    return Err(format!("job {job} got another picture: {facts:?}"));
                }
                let waited = now.since(done.since);
                match facts.queue + facts.load <= waited {
                    true => Ok(()),
                    false => Err(format!("job {job} waited longer than it exists")),
                }
            }
            Outcome::Failure(failure) => {
                let least = self.settings.min_workers > 0;
                let stay = |spec: &ModelSpec| spec.pinned || spec.min_workers.is_some() || least;
                let memory = [FailureKind::MemoryExhausted, FailureKind::NeverFits];
                self.first_failure
                    .get_or_insert_with(|| format!("{job}: {}", failure.message));
                self.crowded_out |= memory.contains(&failure.kind) && self.specs.values().any(stay);
                self.check_failure(job, &done, failure.kind)
            }
        }
    }

    pub(super) fn check_failure(&self, job: JobId, done: &Accepted, kind: FailureKind) -> Verdict {
        let right = match kind {
            FailureKind::WorkerLost => done.attempts >= 16,
            FailureKind::Draining => self.draining,
            FailureKind::QueueFull | FailureKind::Internal | FailureKind::NotPermitted => false,
            _ => true,
        };
        match right {
            true => Ok(()),
            false => Err(format!(
                "job {job} ended with {kind:?} after {} crashes",
                done.crashes
            )),
        }
    }
}
