//! Applies actions to the records, after the checks have seen them.

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_protocol::ids::{Device, DeviceConstraint, Generation, JobId};
use ipc_protocol::units::Mebibytes;
use pool::{AcceptedJobs, Action, Moment, Notice, Outcome, Parameters, Run, Start, StopReason};

use super::{AskedRequest, JobRecord, ObservedPool, ProcessRecord, ProcessState, StopSteps};

impl ObservedPool {
    pub(crate) fn action(&mut self, now: Moment, action: &Action) {
        match action {
            Action::Accept(accepted) => self.accept(now, accepted),
            Action::Start(start) => self.start(now, start),
            Action::Run(run) => self.run(now, run),
            Action::Cancel { worker, job } => {
                if let Some(process) = self.workers.get_mut(worker) {
                    process.state = ProcessState::Unwinding(*job);
                    (process.since, process.progressed) = (now, now);
                }
            }
            Action::AskToLeave { worker } => self.leave(now, *worker, 1),
            Action::Terminate { worker } => self.leave(now, *worker, 2),
            Action::Kill { worker } => self.leave(now, *worker, 3),
            Action::Measure { worker } => {
                if let Some(process) = self.workers.get_mut(worker) {
                    process.asked = Some(now);
                }
            }
            Action::Answer { job, outcome } => self.answer(*job, outcome),
            Action::Tell(notice) => self.notice(notice),
            Action::Exit => self.exited = true,
            Action::Refuse { ticket, .. } => {
                if self
                    .asked
                    .take_if(|asked| asked.ticket == *ticket)
                    .is_none()
                {
                    self.take_awaiting(*ticket);
                }
            }
            Action::AwaitFiles {
                ticket,
                model,
                jobs,
            } => self.await_files(now, *ticket, model, jobs),
            Action::Fetch { model } => {
                self.fetching.insert(model.clone());
            }
            Action::StopFetch { model } => {
                self.fetching.remove(model);
            }
            Action::Acknowledge { .. }
            | Action::Report { .. }
            | Action::Remember(_)
            | Action::AskTruce { .. }
            | Action::EndTruce { .. } => {}
        }
    }

    fn accept(&mut self, now: Moment, accepted: &AcceptedJobs) {
        let ticket = accepted.ticket;
        let (asked, mut cancelled) = match self.asked.take_if(|asked| asked.ticket == ticket) {
            Some(asked) => (asked, BTreeMap::new()),
            None => {
                let Some(waiting) = self.take_awaiting(ticket) else {
                    return;
                };
                self.entered += 1;
                (waiting.asked, waiting.jobs)
            }
        };
        let AskedRequest { request, user, .. } = asked;
        let usage = self.usage.entry(user.clone()).or_default();
        usage.push((now, request.count));
        let key = &accepted.model;
        let places = self.places(&self.models[key], request.device);
        let everywhere = places
            .iter()
            .all(|&at| self.could_have(key, at, accepted.size));
        let wish = match (everywhere, self.devices.len()) {
            (true, _) | (_, 1) => Some(request.device),
            (false, _) => None,
        };
        let negative = request.negative.filter(|text| !text.is_empty());
        let timeout = request.timeout_ms.map(Duration::from_millis);
        let parameters = Parameters {
            prompt: request.prompt.as_str().into(),
            negative: negative.map(Into::into),
            size: accepted.size,
            steps: accepted.steps,
            guidance: accepted.guidance,
            seed: accepted.seed,
            previews: request.previews,
        };
        for (nth, &job) in (0..).zip(&accepted.jobs) {
            let record = JobRecord {
                model: key.clone(),
                ticket: accepted.ticket,
                user: user.clone(),
                detached: request.detached,
                cancelled: cancelled.remove(&job).flatten(),
                priority: request.priority,
                wish,
                parameters: Parameters {
                    seed: parameters.seed.wrapping_add(nth),
                    ..parameters.clone()
                },
                accepted: now,
                deadline: timeout.map(|timeout| now + timeout),
                since: now,
                on: None,
                attempts: 0,
                step: 0,
                resume_step: 0,
                began: now,
                more: Mebibytes::ZERO,
                again: false,
                losses: Vec::new(),
                furthest: 0,
                cleared: 0,
                fruitless: 0,
                silences: 0,
                fruitless_since: None,
                out_of_memory: 0,
            };
            self.last_job = self.last_job.max(job);
            self.jobs.insert(job, record);
            self.model_mut(key).waiting.insert(job);
        }
    }

    fn start(&mut self, now: Moment, start: &Start) {
        let process = ProcessRecord {
            name: start.name.clone(),
            device: start.device,
            promised: start.reserved.clone(),
            extra: Mebibytes::ZERO,
            state: ProcessState::Starting,
            pid: None,
            started: now,
            since: now,
            heard: now,
            progressed: now,
            worked: now,
            watched: now,
            work: 0,
            asked: None,
            samples: Vec::new(),
            permille: 0,
            footprint: None,
            growth: Mebibytes::ZERO,
            stretched: false,
            outdated: false,
            was_loading: true,
            jobs_done: 0,
            stop_reason: None,
            load_failure: None,
            stop_steps: None,
        };
        self.last_worker = start.worker;
        self.workers.insert(start.worker, process);
        self.counts.spawns += 1;
        self.counts.swaps += u64::from(self.evicting.remove(&start.model));
        let model = self.model_mut(&start.model);
        model.owed = model.owed.saturating_sub(1);
        model.workers.insert(start.worker);
    }

    fn run(&mut self, now: Moment, run: &Run) {
        let Some(record) = self.jobs.get_mut(&run.job) else {
            return;
        };
        (record.on, record.began) = (Some(run.worker), now);
        (record.step, record.resume_step) = (run.resume_step, run.resume_step);
        record.attempts = run.attempt;
        let (key, size, more) = (record.model.clone(), record.parameters.size, record.more);
        let on = self.workers.get(&run.worker).map(|process| process.device);
        let usual = self.extra(&self.models[&key], on.unwrap_or(Device::Host), size);
        // It gets more than it was accepted with if there is room for that.
        let extra = match on.is_some_and(|on| usual + more <= self.free(on)) {
            true => usual + more,
            false => usual,
        };
        self.model_mut(&key).waiting.remove(&run.job);
        if let Some(process) = self.workers.get_mut(&run.worker) {
            process.state = ProcessState::Busy(run.job);
            (process.since, process.progressed) = (now, now);
            process.shows_work(now);
            process.extra = extra;
            process.stretched |= extra > Mebibytes::ZERO;
        }
    }

    /// Takes the stop plan of a worker to `step`: 1 is a request to leave, 2 SIGTERM, 3 SIGKILL.
    fn leave(&mut self, now: Moment, worker: Generation, step: u32) {
        let Some(process) = self.workers.get_mut(&worker) else {
            return;
        };
        let before = process.stop_steps;
        let killed = before.and_then(|steps| steps.killed);
        process.stop_steps = Some(StopSteps {
            from: before.map_or(process.since, |steps| steps.from),
            steps: step,
            last: now,
            killed: killed.or((step == 3).then_some(now)),
        });
        if process.is_live() {
            // Room for its picture stays reserved until it exits.
            let extra = std::mem::take(&mut process.extra);
            *process.promised.entry(process.device).or_default() += extra;
            process.state = ProcessState::Leaving(process.job());
            process.since = now;
        }
    }

    fn answer(&mut self, job: JobId, outcome: &Outcome) {
        let Some(record) = self.jobs.remove(&job) else {
            return;
        };
        self.answers += 1;
        self.pictures += u64::from(matches!(outcome, Outcome::Picture(_)));
        self.model_mut(&record.model).waiting.remove(&job);
        if let Some(process) = record.on.and_then(|on| self.workers.get_mut(&on))
            && process.state == ProcessState::Leaving(Some(job))
        {
            process.state = ProcessState::Leaving(None);
        }
    }

    fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Stopping { worker, why, name } => {
                if let Some(process) = self.workers.get_mut(worker) {
                    process.stop_reason.get_or_insert(*why);
                }
                if *why == StopReason::Idle {
                    self.model_mut(&name.model).owed = 0;
                }
            }
            Notice::Evicted {
                name, for_model, ..
            } => {
                self.counts.evictions += 1;
                if name.model != *for_model {
                    self.evicting.insert(for_model.clone());
                }
            }
            Notice::Unreclaimed { worker, .. } => {
                if let Some(settling) = self.settling.get_mut(worker) {
                    settling.given_up = true;
                }
            }
            _ => {}
        }
    }

    /// The devices that a job may run on, as far as that is known.
    pub(crate) fn places_of(&self, record: &JobRecord) -> Vec<Device> {
        let wish = record.wish.unwrap_or(DeviceConstraint::Auto);
        self.places(&self.models[&record.model], wish)
    }
}
