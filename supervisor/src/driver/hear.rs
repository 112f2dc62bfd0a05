//! Messages and exits of workers, turned into events. Nothing a worker says is believed before it was compared with
//! what we know of it.

use ipc_protocol::exit_code::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipc_protocol::arithmetic::Dtype;
use ipc_protocol::ids::{Device, Generation, JobId};
use ipc_protocol::mark::Mark;
use ipc_protocol::messages::worker::{FromWorker, JobFault, ToWorker, Welcome};
use ipc_protocol::reading::Reading;
use ipc_protocol::sandbox::SandboxReached;
use ipc_protocol::segment::Slot;
use ipc_protocol::units::PictureSize;
use ipc_protocol::untrusted::Untrusted;
use ipc_protocol::version::{PROTOCOL, mismatch};
use nix::sys::signal::Signal;
use pool::{Event, Exit, Footprint, KilledBy, Moment, Phases};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::Driver;
use super::ask::{JobUpdate, ModelReceipt};
use super::inbox::Outbox;
use super::job::PendingPicture;
use super::memory::host_footprint;
use super::process_event::{ProcessEvent, StartedProcess, WorkerProcessEvent, phases};
use crate::clock::Clock;
use crate::link::{Environment, Heard, Link};
use crate::probe::{self, HeldMemory};
use crate::process::stderr::{self, LastLines, StderrEvent};
use crate::process::{exit, watch};
use crate::telemetry;
use crate::telemetry::jobs::StepDone;
use crate::telemetry::traces::job::AttemptEnd;

/// How long the files of a worker that ended with SIGBUS may take to be looked at.
const LOOK_MAX: Duration = Duration::from_secs(1);

impl Driver {
    pub(super) fn hear(&mut self, WorkerProcessEvent { worker, news }: WorkerProcessEvent) {
        if !self.workers.contains_key(&worker) {
            return; // An older life of that slot; its words change nothing.
        }
        match news {
            ProcessEvent::Started(process) => self.born(worker, *process),
            ProcessEvent::NotStarted(message, fault) => {
                self.note_ended(worker);
                self.workers.remove(&worker);
                self.happen(Event::WorkerStartFailed {
                    worker,
                    message,
                    fault,
                });
            }
            ProcessEvent::Measured(cpu) => self.happen(Event::CpuMeasured { worker, cpu }),
            ProcessEvent::Holds { bytes } => self.holds(worker, bytes),
            ProcessEvent::Exited(exit) => {
                if let Some(handle) = self.workers.get_mut(&worker) {
                    handle.ended(exit);
                }
                self.bury(worker);
            }
        }
    }

    /// Handles what arrived on a worker's socket, or its end.
    pub(super) fn heard(&mut self, worker: Generation, heard: Heard) {
        match heard {
            Heard::Message(message) => self.said(worker, *message),
            Heard::Garbled(what) => self.broke(worker, what),
            Heard::Closed => {
                if let Some(handle) = self.workers.get(&worker) {
                    handle.finish();
                }
                self.fell_silent(worker);
            }
        }
    }

    /// A process exists: watch it, follow its stderr, greet it.
    fn born(&mut self, worker: Generation, process: StartedProcess) {
        let StartedProcess {
            pid,
            label,
            mut child,
            socket,
            segment,
            limit,
        } = process;
        let Some(handle) = self.workers.get_mut(&worker) else {
            return;
        };
        let (lines, pipe) = (handle.stderr.clone(), child.stderr.take());
        let (name, clock) = (handle.name.to_string(), self.clock);
        let follower = tokio::spawn(async move {
            let tell = |told: StderrEvent<'_>| match told {
                StderrEvent::Line(line) => telemetry::workers::wrote(&name, line),
                StderrEvent::Hidden(count) => telemetry::workers::wrote_too_much(&name, count),
            };
            if let Some(pipe) = pipe {
                stderr::follow(pipe, lines, || clock.now(), tell).await;
            }
        });
        let stderr = watch::Stderr {
            follower,
            lines: handle.stderr.clone(),
        };
        let outbox = self.handle.outbox.clone();
        let signaller = watch::watch(child, label, stderr, limit, {
            let (outbox, marks) = (outbox.clone(), handle.served.marks.clone());
            move |exit| tell_exit(outbox, worker, exit, marks)
        });
        let clock = self.clock;
        let around = LinkEnvironment {
            clock,
            outbox,
            pid,
            held: Arc::clone(&handle.held),
        };
        let link = Link::open(socket, Arc::new(around));
        let served = &handle.served;
        let (arithmetic, decoding) = served.compute_on(handle.device);
        // A process that sees only its own GPU counts from there.
        let device = match self.gpus.uuid(handle.device) {
            Some(_) => Device::Cuda(0),
            None => handle.device,
        };
        let welcome = ToWorker::Welcome(Welcome {
            protocol: PROTOCOL,
            generation: worker,
            supervisor_pid: self.identity.pid,
            source: served.source.clone(),
            device,
            threads: served.threads,
            arithmetic,
            geometry: served.geometry,
            stamp: served.folder_stamp().to_owned(),
            decoding,
        });
        match link {
            Ok(link) => {
                handle.embody(pid, link, signaller, segment);
                let greeted = handle.say(welcome);
                self.happen(Event::WorkerStarted { worker, pid });
                if greeted.is_err() {
                    self.broke(worker, "it does not take its first frame".into());
                }
            }
            Err(error) => {
                // It has no socket to live by, so it ends by itself or is ended; its exit is reported as usual.
                signaller.finish();
                handle.silent = true;
                handle.load_error = Some(error.to_string());
                self.happen(Event::WorkerStarted { worker, pid });
            }
        }
    }

    fn said(&mut self, worker: Generation, message: FromWorker) {
        match message {
            FromWorker::Hello {
                protocol,
                generation,
                sandbox,
                ..
            } => self.greeted(worker, protocol, generation, sandbox),
            FromWorker::Loading { permille } => self.happen(Event::LoadProgressed {
                worker,
                permille: permille.min(1000),
            }),
            FromWorker::Ready { dtype, because, .. } => {
                self.computes(worker, dtype, because.map(printable).as_deref());
                self.files_were_loaded(worker);
                let footprint = self.peak(worker);
                self.happen(Event::WorkerReady { worker, footprint });
            }
            FromWorker::Heartbeat { work, .. } => {
                self.happen(Event::WorkerWorked { worker, work });
            }
            FromWorker::Step {
                job,
                step,
                slot,
                bytes,
                preview,
                elapsed_ms,
            } => {
                let took = Duration::from_millis(elapsed_ms.into());
                self.stepped(worker, job, (step, took), (slot, bytes), preview);
            }
            FromWorker::Done {
                job,
                size,
                reading,
                timings,
                ..
            } => self.drew(worker, job, size, reading, phases(timings)),
            FromWorker::Failed { job, fault } => {
                if let Some(handle) = self.workers.get_mut(&worker) {
                    handle.running.take_if(|running| running.job == job);
                    let device = handle.device;
                    self.attempt_lost(device, job, AttemptEnd::GivenUp);
                }
                self.happen(Event::JobFailed {
                    worker,
                    job,
                    fault: printable_fault(fault),
                });
            }
            FromWorker::GivingUp { message } => {
                let message = printable(message);
                if let Some(handle) = self.workers.get_mut(&worker) {
                    handle.load_error = Some(message.clone());
                }
                self.happen(Event::LoadFailed { worker, message });
            }
        }
    }

    /// A step is finished, and its latents are where the worker says.
    fn stepped(
        &mut self,
        worker: Generation,
        job: JobId,
        (step, took): (u32, Duration),
        latents: (Slot, u64),
        preview: Option<PictureSize>,
    ) {
        let now = self.clock.now();
        let Some(handle) = self.workers.get_mut(&worker) else {
            return;
        };
        let stepped = handle.step(job, step, latents, now);
        let preview = preview.map(|size| Ok::<_, String>((size, handle.preview(size)?)));
        match stepped.and_then(|since| Ok((since, preview.transpose()?))) {
            Ok((since, preview)) => {
                StepDone {
                    job,
                    worker: &handle.name,
                    step,
                    took: took.min(since),
                }
                .tell();
                let entry = self.jobs.get_mut(&job);
                if let Some(trace) = entry.and_then(|entry| entry.trace.as_mut()) {
                    trace.stepped(step, now);
                }
                if let Some((size, rgb8)) = preview {
                    let rgb8 = rgb8.into();
                    let preview = JobUpdate::Preview {
                        job,
                        step,
                        size,
                        rgb8,
                    };
                    self.tell_door(job, preview);
                }
                self.publish_latents(worker, job, took, since);
                self.happen(Event::StepFinished { worker, job, step });
            }
            Err(what) => self.broke(worker, what),
        }
    }

    /// A picture is finished: it is copied once and waits for the pool's `Answer`.
    fn drew(
        &mut self,
        worker: Generation,
        job: JobId,
        size: PictureSize,
        reading: Reading,
        phases: Phases,
    ) {
        let Some(handle) = self.workers.get_mut(&worker) else {
            return;
        };
        let (rgb8, dtype) = match handle.picture(job, size) {
            Ok(picture) => picture,
            Err(what) => return self.broke(worker, what),
        };
        handle.running = None;
        self.energy.finished(handle.device, job, self.clock.now());
        let model = ModelReceipt {
            digest: self.digest_of(worker),
            sampler: self.workers[&worker].served.sampler.clone(),
            dtype,
        };
        if let Some(entry) = self.jobs.get_mut(&job) {
            if let Some(trace) = &mut entry.trace {
                trace.attempt_ended(AttemptEnd::Finished, self.clock.now());
            }
            entry.drawn = Some(PendingPicture {
                rgb8,
                encode: phases.encode,
                reading,
                model,
            });
        }
        self.happen(Event::JobFinished {
            worker,
            job,
            phases,
        });
    }

    /// An attempt at a job ended without a picture.
    fn attempt_lost(&mut self, device: Device, job: JobId, end: AttemptEnd) {
        let now = self.clock.now();
        self.energy.lost(device, job, now);
        let entry = self.jobs.get_mut(&job);
        if let Some(trace) = entry.and_then(|entry| entry.trace.as_mut()) {
            trace.attempt_ended(end, now);
        }
    }

    /// The most that a worker held while it loaded, as the kernel counted it; nothing once it is gone.
    fn peak(&self, worker: Generation) -> Option<Footprint> {
        let handle = self.workers.get(&worker)?;
        let held = (*handle
            .held
            .lock()
            .expect("no holder of this lock can panic"))?;
        Some(host_footprint(held.peak))
    }

    fn greeted(
        &mut self,
        worker: Generation,
        protocol: u32,
        generation: Generation,
        sandbox: SandboxReached,
    ) {
        if protocol != PROTOCOL {
            return self.broke(worker, mismatch(protocol));
        }
        if generation != worker {
            return self.broke(worker, format!("it calls itself generation {generation}"));
        }
        if let Some(handle) = self.workers.get_mut(&worker) {
            handle.sandbox = Some(sandbox);
        }
        if self.sandbox.replace(sandbox) != Some(sandbox) {
            telemetry::workers::confined(sandbox);
        }
        self.happen(Event::WorkerSaidHello { worker });
    }

    /// A worker chose its arithmetic: for receipts, and for operators, who wished for one.
    fn computes(&mut self, worker: Generation, dtype: Dtype, because: Option<&str>) {
        let Some(handle) = self.workers.get_mut(&worker) else {
            return;
        };
        handle.dtype = Some(dtype);
        let wished = handle.served.arithmetic.dtype;
        telemetry::workers::computes(&handle.name, wished, dtype, because);
    }

    /// Handles a worker's protocol violation. Its earlier latents may be invalid too: no attempt resumes from
    /// them, and later messages are ignored.
    pub(super) fn broke(&mut self, worker: Generation, what: String) {
        if let Some(handle) = self.workers.get_mut(&worker) {
            handle.forget_latents();
            handle.deafen();
        }
        self.happen(Event::WorkerBrokeProtocol { worker, what });
        self.fell_silent(worker);
    }

    fn fell_silent(&mut self, worker: Generation) {
        if let Some(handle) = self.workers.get_mut(&worker) {
            handle.silent = true;
        }
        self.bury(worker);
    }

    /// Reports a death once the exit status and every message of the worker are known.
    fn bury(&mut self, worker: Generation) {
        let Some(handle) = self.workers.get(&worker) else {
            return;
        };
        let (Some(exit), true) = (handle.exit, handle.silent) else {
            return;
        };
        let salvaged = handle.salvage();
        let lack = why_aborted(exit, &handle.stderr);
        let last_lines = handle.stderr.newest(5);
        if !last_lines.is_empty() && exit != Exit::Code(0) {
            telemetry::workers::last_lines(&handle.name, &last_lines);
        }
        let device = handle.device;
        if let Some((job, _)) = salvaged {
            self.attempt_lost(device, job, AttemptEnd::Lost);
        }
        self.note_ended(worker);
        let handle = self.workers.remove(&worker);
        if let Some(handle) = handle.filter(|_| is_fault_of_files(exit)) {
            self.suspect_files(handle);
        }
        // A worker that died before its first step leaves what the one before it had left.
        let resume_step = salvaged.and_then(|(job, checkpoint)| {
            let job = self.jobs.get_mut(&job)?;
            job.checkpoint = checkpoint.or_else(|| job.checkpoint.take());
            job.checkpoint.as_ref().map(|checkpoint| checkpoint.step)
        });
        if let Some(message) = lack {
            self.happen(Event::LoadFailed { worker, message });
        }
        self.happen(Event::WorkerExited {
            worker,
            exit,
            resume_step,
        });
    }
}

/// The line in which a worker said that an allocation failed, where it ended for that.
fn why_aborted(exit: Exit, stderr: &LastLines) -> Option<String> {
    match exit {
        Exit::Signal {
            by: KilledBy::AllocationFailed,
            ..
        } => {
            let mut lines = stderr.newest(usize::MAX).into_iter();
            lines.find(|line| exit::lacked(line))
        }
        Exit::Signal {
            by:
                KilledBy::Us
                | KilledBy::Operator
                | KilledBy::KernelOom
                | KilledBy::OwnLimit
                | KilledBy::CutFile
                | KilledBy::Other,
            ..
        }
        | Exit::Code(_) => None,
    }
}

/// Tells how a worker ended. After a SIGBUS its files are looked at first, beside the loop: a file that was cut
/// explains it, and files on a disk that does not answer explain nothing.
fn tell_exit(outbox: Outbox, worker: Generation, exit: Exit, marks: Vec<Mark>) {
    let bus = Exit::Signal {
        signal: Signal::SIGBUS as i32,
        by: KilledBy::Other,
    };
    if exit != bus || marks.is_empty() {
        return outbox.tell(worker, ProcessEvent::Exited(exit));
    }
    tokio::spawn(async move {
        let looked = spawn_blocking(move || marks.iter().all(Mark::is_current));
        let exit = match timeout(LOOK_MAX, looked).await {
            Ok(Ok(false)) => Exit::Signal {
                signal: Signal::SIGBUS as i32,
                by: KilledBy::CutFile,
            },
            Ok(Ok(true) | Err(_)) | Err(_) => exit,
        };
        outbox.tell(worker, ProcessEvent::Exited(exit));
    });
}

/// The surroundings of a worker's link.
struct LinkEnvironment {
    clock: Clock,
    outbox: Outbox,
    pid: u32,
    held: Arc<Mutex<Option<HeldMemory>>>,
}

impl Environment for LinkEnvironment {
    fn now(&self) -> Moment {
        self.clock.now()
    }

    fn wake(&self) {
        self.outbox.wake();
    }

    fn measure(&self) {
        let held = probe::held_bytes(self.pid);
        *self.held.lock().expect("no holder of this lock can panic") = held;
    }
}

/// Exit codes of missing, damaged and contradictory files, and a signal because mapped files changed.
fn is_fault_of_files(exit: Exit) -> bool {
    match exit {
        Exit::Code(number) => matches!(
            ExitCode::from_number(number),
            Some(ExitCode::UnusableWeights | ExitCode::BadConfiguration)
        ),
        Exit::Signal { by, .. } => by == KilledBy::CutFile,
    }
}

/// The same fault with its text made safe to print.
fn printable_fault(fault: JobFault) -> JobFault {
    match fault {
        JobFault::BadRequest { field, message } => {
            let message = printable(message);
            JobFault::BadRequest { field, message }
        }
        JobFault::OutOfMemory { message } => {
            let message = printable(message);
            JobFault::OutOfMemory { message }
        }
        JobFault::NotFinite { stage } => {
            let stage = printable(stage);
            JobFault::NotFinite { stage }
        }
        JobFault::Cancelled => JobFault::Cancelled,
        JobFault::Other { message } => {
            let message = printable(message);
            JobFault::Other { message }
        }
    }
}

/// A worker's words as they may stand in a sentence of ours.
fn printable(words: String) -> String {
    Untrusted::new(words).to_string()
}
