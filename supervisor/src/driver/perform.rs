//! Each action of the pool, carried out: one match, one arm each.

use std::sync::Arc;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{Device, Generation, JobId};
use ipc_protocol::messages::client::Told;
use ipc_protocol::messages::worker::{JobOrder, ModelSource, ToWorker};
use ipc_protocol::segment::Slot;
use ipc_protocol::units::Mebibytes;
use nix::sys::signal::Signal;
use pool::{AcceptedJobs, Action, Event, JobFault, Outcome, Run, Start, Ticket};

use super::Driver;
use super::ask::{AwaitedFiles, FinishedPicture, JobUpdate};
use super::job::JobEntry;
use super::pool_event::PoolEvent;
use super::process_event::{ProcessEvent, StartedProcess};
use super::worker::{RunningJob, WorkerHandle};
use crate::catalogue::served::Served;
use crate::process::stderr::LastLines;
use crate::process::{cpu, spawn};
use crate::telemetry;
use crate::telemetry::jobs::{
    JobEnded, JobFields, JobFinished, JobStarted, RequestRefused, StartedAttempt,
};
use crate::telemetry::traces::job::{JobTrace, TracedEnd};
use crate::telemetry::workers::WorkerOrdered;

impl Driver {
    pub(super) fn perform(&mut self, action: Action) {
        telemetry::events::action(&action);
        match action {
            Action::Accept(accepted) => self.accept(accepted),
            Action::Refuse { ticket, failure } => self.refuse(ticket, failure),
            Action::AwaitFiles {
                ticket,
                model,
                jobs,
            } => {
                let far = self.fetches.far(&model).cloned();
                self.await_files(ticket, AwaitedFiles { model, jobs, far });
            }
            Action::Fetch { model } => self.fetch(model),
            Action::StopFetch { model } => self.stop_fetch(&model),
            Action::Acknowledge {
                ticket,
                lines,
                success,
            } => {
                if let Some(told) = self.operators.remove(&ticket) {
                    let _ = told.send(Ok(Told {
                        lines,
                        success,
                        more: false,
                    })); // An operator who left needs no lines.
                }
            }
            Action::Start(start) => self.start(start),
            Action::Run(run) => self.run_job(run),
            Action::Cancel { worker, job } => {
                if let Some(handle) = self.workers.get(&worker) {
                    // Deaf or gone: the pool's deadline for a cancelled job sees to it.
                    let _ = handle.say(ToWorker::Cancel { job });
                }
            }
            Action::AskToLeave { worker } => {
                if let Some(handle) = self.workers.get(&worker) {
                    // Deaf or gone: the next step of the stop plan does not ask.
                    let _ = handle.say(ToWorker::Leave);
                }
            }
            Action::Terminate { worker } => self.signal(worker, Signal::SIGTERM),
            Action::Kill { worker } => self.signal(worker, Signal::SIGKILL),
            Action::Measure { worker } => self.measure(worker),
            Action::AskTruce { device } => self.ask_truce(device),
            Action::EndTruce { device } => self.end_truce(device),
            Action::Report { job, progress } => {
                self.tell_door(job, JobUpdate::Progress { job, progress });
            }
            Action::Answer { job, outcome } => self.answer(job, outcome),
            Action::Remember(fact) => {
                if let Some(lasting) = &self.lasting {
                    lasting.remember(fact);
                }
            }
            Action::Tell(notice) => {
                telemetry::events::tell(&notice);
                self.publish(PoolEvent::Noticed(notice));
            }
            Action::Exit => self.exited = true,
        }
    }

    /// Tells a job's door how it goes.
    pub(super) fn tell_door(&self, job: JobId, update: JobUpdate) {
        if let Some(entry) = self.jobs.get(&job)
            && let Some(conversation) = self.conversations.get(&entry.ticket)
        {
            conversation.report(update);
        }
    }

    pub(super) fn refuse(&mut self, ticket: Ticket, failure: Failure) {
        if let Some(conversation) = self.conversations.remove(&ticket) {
            RequestRefused {
                user: &conversation.user,
                failure: &failure,
            }
            .tell();
            conversation.refuse(failure);
        } else if let Some(told) = self.operators.remove(&ticket) {
            let _ = told.send(Err(failure)); // An operator who left needs no lines.
        }
    }

    fn await_files(&mut self, ticket: Ticket, files: AwaitedFiles) {
        if let Some(lasting) = &mut self.lasting {
            lasting.use_ids(&files.jobs);
        }
        let Some(conversation) = self.conversations.get_mut(&ticket) else {
            return;
        };
        telemetry::jobs::await_files(&conversation.user, &files.model, &files.jobs);
        conversation.await_files(files);
    }

    fn accept(&mut self, accepted: AcceptedJobs) {
        if let Some(lasting) = &mut self.lasting {
            lasting.use_ids(&accepted.jobs);
        }
        let ticket = accepted.ticket;
        let Some(conversation) = self.conversations.get_mut(&ticket) else {
            return;
        };
        for (nth, job) in (0..).zip(&accepted.jobs) {
            let fields = JobFields {
                job: *job,
                user: conversation.user.clone(),
                model: accepted.model.clone(),
                size: accepted.size,
                steps: accepted.steps,
                seed: accepted.seed.wrapping_add(nth),
            };
            telemetry::jobs::accepted(&fields);
            let entry = JobEntry {
                ticket,
                fields,
                started: None,
                checkpoint: self.restored_latents.remove(job),
                drawn: None,
                detached: conversation.detached,
                published: None,
                trace: match self.traces {
                    Some(_) => JobTrace::begin(conversation.trace, self.clock.now()),
                    None => None,
                },
            };
            self.jobs.insert(*job, entry);
        }
        let (jobs, model) = (accepted.jobs.clone(), accepted.model.clone());
        conversation.accept(accepted);
        for job in jobs {
            let model = model.clone();
            self.publish(PoolEvent::JobAccepted { job, model });
        }
    }

    fn start(&mut self, start: Start) {
        WorkerOrdered(&start).tell();
        let worker = start.worker;
        // The worker loads the files that are known now; changes found while it starts do not apply to it.
        let served = self.catalogue[&start.model].clone();
        let geometry = served.geometry;
        let order = spawn::SpawnOrder {
            program_of: program_of(&served, start.device),
            generation: worker,
            label: format!("{}-{worker}", self.identity),
            geometry,
            gpu: self.gpus.uuid(start.device).map(str::to_owned),
            reserved: host_part(&start),
        };
        let stderr = LastLines::copied_to(self.logs.open(&start.name));
        self.workers.insert(
            worker,
            WorkerHandle::new(start.name, start.model, start.device, served, stderr),
        );
        let outbox = self.handle.outbox.clone();
        self.spawner.spawn(order, move |spawned| {
            let news = match spawned {
                Ok(spawned) => ProcessEvent::Started(Box::new(StartedProcess {
                    // A child that was not waited for has a pid.
                    pid: spawned.child.id().unwrap_or_default(),
                    label: spawned.label,
                    child: spawned.child,
                    socket: spawned.socket,
                    segment: spawned.segment,
                    limit: spawned.limit,
                })),
                Err(error) => ProcessEvent::NotStarted(error.to_string(), error.fault()),
            };
            outbox.tell(worker, news);
        });
    }

    fn run_job(&mut self, run: Run) {
        self.raise_limit(run.worker);
        let Some(handle) = self.workers.get_mut(&run.worker) else {
            return;
        };
        let checkpoint = self
            .jobs
            .get(&run.job)
            .and_then(|job| job.checkpoint.as_ref());
        let of_other_files =
            checkpoint.is_some_and(|checkpoint| checkpoint.stamp != handle.served.stamp);
        if run.resume_step > 0 && of_other_files {
            return self.happen(Event::JobFailed {
                worker: run.worker,
                job: run.job,
                fault: JobFault::Other {
                    message: "the files of its model changed while it was drawn: ask for it again"
                        .into(),
                },
            });
        }
        let resume = match run.resume_step {
            0 => Ok(0),
            step => resume(handle, self.jobs.get(&run.job), step),
        };
        let parameters = run.parameters;
        handle.running = Some(RunningJob {
            job: run.job,
            size: parameters.size,
            steps: parameters.steps,
            step: run.resume_step,
            heard: self.clock.now(),
            latents: None,
        });
        let order = JobOrder {
            job: run.job,
            prompt: parameters.prompt.to_string(),
            negative: parameters.negative.as_deref().map(str::to_owned),
            size: parameters.size,
            steps: parameters.steps,
            guidance: parameters.guidance,
            seed: parameters.seed,
            resume_step: run.resume_step,
            resume_bytes: *resume.as_ref().unwrap_or(&0),
            previews: parameters.previews,
        };
        let told = resume.and_then(|_| {
            let said = handle.say(ToWorker::Run(order));
            said.map_err(|deaf| deaf.to_string())
        });
        match told {
            Err(what) => self.broke(run.worker, what),
            Ok(()) => self.attempt_began(run.worker, run.job, run.attempt, run.resume_step),
        }
    }

    /// A worker has got a job, which it continues after `resume_step`.
    fn attempt_began(&mut self, worker: Generation, id: JobId, attempt: u32, resume_step: u32) {
        let (Some(handle), Some(job)) = (self.workers.get(&worker), self.jobs.get_mut(&id)) else {
            return;
        };
        let (worker, device, now) = (handle.name.clone(), handle.device, self.clock.now());
        let started = StartedAttempt { worker, attempt };
        JobStarted {
            fields: &job.fields,
            started: &started,
            resume_step,
        }
        .tell();
        self.energy.began(device, id, &handle.model, now);
        if let Some(trace) = &mut job.trace {
            trace.started(&started, device, resume_step, now);
        }
        job.started = Some(started);
    }

    /// Reads a worker's CPU time beside the loop: /proc may take its time.
    fn measure(&mut self, worker: Generation) {
        let pid = self.workers.get(&worker).and_then(WorkerHandle::pid);
        let outbox = self.handle.outbox.clone();
        tokio::task::spawn_blocking(move || {
            let measured = pid.and_then(cpu::measure);
            outbox.tell(worker, ProcessEvent::Measured(measured));
        });
    }

    fn signal(&mut self, worker: Generation, signal: Signal) {
        if let Some(handle) = self.workers.get_mut(&worker) {
            handle.signal(signal);
        }
    }

    fn answer(&mut self, job: JobId, outcome: Outcome) {
        let Some(mut entry) = self.jobs.remove(&job) else {
            return;
        };
        let update = match (outcome, entry.drawn.take()) {
            (Outcome::Picture(facts), Some(drawn)) => {
                JobFinished {
                    fields: &entry.fields,
                    facts: &facts,
                    encode: drawn.encode,
                }
                .tell();
                let encode = drawn.encode;
                let end = TracedEnd::Picture {
                    facts: &facts,
                    encode,
                };
                self.trace_ended(&mut entry, &end);
                JobUpdate::Picture(Arc::new(FinishedPicture {
                    job,
                    rgb8: drawn.rgb8,
                    facts,
                    reading: drawn.reading,
                    model: drawn.model,
                    metadata: self.metadata,
                }))
            }
            (Outcome::Picture(_), None) => self.failed(
                &mut entry,
                Failure::new(
                    FailureKind::Internal,
                    format!("job {job} is finished and its picture is missing"),
                ),
            ),
            (Outcome::Failure(failure), _) => self.failed(&mut entry, failure),
        };
        self.publish(PoolEvent::JobEnded {
            job,
            model: entry.fields.model.clone(),
            failure: update.failure().map(|failure| failure.kind),
        });
        if let Some(conversation) = self.conversations.get_mut(&entry.ticket) {
            conversation.answer(update);
            if conversation.unanswered() == 0 {
                self.conversations.remove(&entry.ticket);
            }
        }
    }

    /// The answer of a job that ended without a picture.
    fn failed(&self, entry: &mut JobEntry, failure: Failure) -> JobUpdate {
        JobEnded {
            fields: &entry.fields,
            last: entry.started.as_ref(),
            failure: &failure,
        }
        .tell();
        self.trace_ended(entry, &TracedEnd::Failure(&failure));
        JobUpdate::Failed {
            job: entry.fields.job,
            failure,
        }
    }

    /// Sends the spans of a job that has its answer.
    fn trace_ended(&self, entry: &mut JobEntry, end: &TracedEnd<'_>) {
        let (Some(sink), Some(trace)) = (&self.traces, entry.trace.take()) else {
            return;
        };
        let now = self.clock.now();
        let wall_ns = |moment| self.clock.wall_ns(moment);
        let spans = trace.spans(&entry.fields, end, now, wall_ns);
        spans.iter().for_each(|span| sink.offer(span));
    }
}

/// Writes the latents from which a job resumes into its next worker's segment; returns their bytes.
fn resume(handle: &WorkerHandle, job: Option<&JobEntry>, step: u32) -> Result<u64, String> {
    let checkpoint = job
        .and_then(|job| job.checkpoint.as_ref())
        .filter(|checkpoint| checkpoint.step == step)
        .ok_or_else(|| format!("no latents of step {step} are kept"))?;
    let segment = handle.segment().ok_or("it has no segment")?;
    segment
        .write(Slot::Resume, &checkpoint.latents)
        .map_err(|error| error.to_string())?;
    Ok(checkpoint.latents.len() as u64)
}

/// Memory of the host that is reserved for a worker.
fn host_part(start: &Start) -> Mebibytes {
    let host = start.reserved.get(&Device::Host);
    host.copied().unwrap_or(Mebibytes::ZERO)
}

/// The device whose worker program serves a model: a synthetic one computes on the CPU wherever it runs.
fn program_of(served: &Served, device: Device) -> Device {
    match served.source {
        ModelSource::Synthetic { .. } => Device::Host,
        ModelSource::Embedded { .. } | ModelSource::Folder { .. } => device,
    }
}
