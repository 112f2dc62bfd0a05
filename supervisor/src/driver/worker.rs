//! The loop's entry of a worker, besides the pool's: its socket, its memory, its end.

use std::mem;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipc_protocol::arithmetic::Dtype;
use ipc_protocol::ids::{Device, JobId, ModelKey, WorkerName};
use ipc_protocol::sandbox::SandboxReached;
use ipc_protocol::segment::{Segment, Slot};
use ipc_protocol::units::{Mebibytes, PictureSize};
use nix::sys::signal::Signal;
use pool::{Exit, Moment};

use super::job::SavedLatents;
use crate::catalogue::served::Served;
use crate::link::{Deaf, Heard, Link};
use crate::probe::HeldMemory;
use crate::process::stderr::LastLines;
use crate::process::watch::Signaller;

/// One worker, from its `Start` to its reaped exit.
#[derive(Debug)]
pub(super) struct WorkerHandle {
    pub name: WorkerName,
    pub model: ModelKey,
    pub device: Device,
    /// The files that it loads, and their facts.
    pub served: Served,
    pub stderr: LastLines,
    pub running: Option<RunningJob>,
    /// The dtype that it computes in, once it is ready.
    pub dtype: Option<Dtype>,
    /// How far it has confined itself, once it reported that.
    pub sandbox: Option<SandboxReached>,
    /// Its memory, as last measured beside the loop.
    pub held: Arc<Mutex<Option<HeldMemory>>>,
    /// Why it could not load, in its own words.
    pub load_error: Option<String>,
    /// How it ended, while frames it had sent before are still on their way.
    pub exit: Option<Exit>,
    /// Nothing more will be heard of it.
    pub silent: bool,
    body: Option<Body>,
    /// A signal that was wanted before there was a process.
    owed: Option<Signal>,
}

/// A worker's parts that exist once its process does.
#[derive(Debug)]
struct Body {
    pid: u32,
    link: Link,
    signaller: Signaller,
    segment: Segment,
}

/// The order a worker carries out.
#[derive(Debug)]
pub(super) struct RunningJob {
    pub job: JobId,
    pub size: PictureSize,
    pub steps: u32,
    /// Finished steps, those of earlier attempts included.
    pub step: u32,
    /// When its last step was heard of, or it began.
    pub heard: Moment,
    /// The newest latents that a frame named: where, and how many bytes.
    pub latents: Option<(Slot, u64)>,
}

impl WorkerHandle {
    pub fn new(
        name: WorkerName,
        model: ModelKey,
        device: Device,
        served: Served,
        stderr: LastLines,
    ) -> Self {
        Self {
            name,
            model,
            device,
            served,
            stderr,
            running: None,
            dtype: None,
            sandbox: None,
            held: Arc::default(),
            load_error: None,
            exit: None,
            silent: false,
            body: None,
            owed: None,
        }
    }

    /// The process exists.
    pub fn embody(&mut self, pid: u32, link: Link, signaller: Signaller, segment: Segment) {
        if let Some(signal) = self.owed.take() {
            signaller.send(signal);
        }
        self.body = Some(Body {
            pid,
            link,
            signaller,
            segment,
        });
    }

    /// Its process, once there is one.
    pub fn pid(&self) -> Option<u32> {
        self.body.as_ref().map(|body| body.pid)
    }

    /// Queues a frame; a worker without a socket is as deaf as one that does not read it.
    pub fn say(&self, message: ipc_protocol::messages::worker::ToWorker) -> Result<(), Deaf> {
        self.body.as_ref().ok_or(Deaf)?.link.say(message)
    }

    /// The oldest thing that it did with its socket and that was not taken yet.
    pub fn next_heard(&self) -> Option<Heard> {
        self.open_link()?.next()
    }

    /// Whether there is anything that `next_heard` gives now.
    pub fn has_next(&self) -> bool {
        self.open_link().is_some_and(Link::has_next)
    }

    /// Whether it did anything with its socket that was not taken yet.
    pub fn has_unread(&self) -> bool {
        self.open_link().is_some_and(Link::has_unread)
    }

    /// Listens to it no more.
    pub fn deafen(&mut self) {
        self.silent = true;
        if let Some(body) = &self.body {
            body.link.deafen();
        }
    }

    /// Its socket, while anything may still be heard of it.
    fn open_link(&self) -> Option<&Link> {
        let body = self.body.as_ref().filter(|_| !self.silent)?;
        Some(&body.link)
    }

    /// Sends a signal now, or as soon as there is a process.
    pub fn signal(&mut self, signal: Signal) {
        match &self.body {
            Some(body) => body.signaller.send(signal),
            // Nothing weakens a kill.
            None if self.owed != Some(Signal::SIGKILL) => self.owed = Some(signal),
            None => {}
        }
    }

    /// Sends an operator's signal. Returns whether there is a process.
    pub fn signal_for_operator(&self, signal: Signal) -> bool {
        let Some(body) = self.body.as_ref().filter(|_| self.exit.is_none()) else {
            return false;
        };
        body.signaller.send_for_operator(signal);
        true
    }

    /// Raises the limit of its memory to a reservation on the host that may have grown.
    pub fn raise_limit(&self, reserved: Mebibytes) {
        if let Some(body) = &self.body {
            body.signaller.raise_limit(reserved);
        }
    }

    /// Sees that a worker without a socket does not linger.
    pub fn finish(&self) {
        if let Some(body) = &self.body {
            body.signaller.finish();
        }
    }

    /// How it ended; what it had said before is still to be heard.
    pub fn ended(&mut self, exit: Exit) {
        self.exit = Some(exit);
        if let Some(body) = &self.body {
            body.link.hear_the_rest();
        }
    }

    pub fn segment(&self) -> Option<&Segment> {
        self.body.as_ref().map(|body| &body.segment)
    }

    /// Takes a `Step` frame that was read `now`, or says what is wrong with it. Returns the time since the one before.
    pub fn step(
        &mut self,
        job: JobId,
        step: u32,
        (slot, bytes): (Slot, u64),
        now: Moment,
    ) -> Result<Duration, String> {
        let Some(running) = self.running.as_mut().filter(|running| running.job == job) else {
            return Err(format!("a step of job {job}, which it does not have"));
        };
        if step != running.step + 1 || step > running.steps || slot != Slot::of_step(step) {
            return Err(format!(
                "step {step} in {slot:?} after step {} of {}",
                running.step, running.steps
            ));
        }
        // Another worker could not resume from fewer.
        let expected = self.served.latents.bytes(running.size);
        if bytes != expected {
            return Err(format!("{bytes} bytes of latents, where {expected} belong"));
        }
        running.step = step;
        running.latents = Some((slot, bytes));
        Ok(now.since(mem::replace(&mut running.heard, now)))
    }

    /// The preview that a `Step` names, or what is wrong with it. The worker may be at its next step by
    /// now: a preview may mix two, which the picture never does.
    pub fn preview(&self, size: PictureSize) -> Result<Vec<u8>, String> {
        let expected = self
            .running
            .as_ref()
            .map(|job| self.served.latents.plane(job.size));
        if expected != Some(size) {
            return Err(format!("a {size} preview"));
        }
        let segment = self
            .segment()
            .ok_or("a preview without a shared memory segment")?;
        let rgb8 = segment.read(Slot::Preview, size.rgb8_bytes());
        rgb8.map_err(|error| error.to_string())
    }

    /// Discards the published latents; no attempt may resume from them.
    pub fn forget_latents(&mut self) {
        if let Some(running) = &mut self.running {
            running.latents = None;
        }
    }

    /// The pixels of a finished job, copied once, and what they were computed in; or what is wrong with
    /// its `Done`.
    pub fn picture(&self, job: JobId, size: PictureSize) -> Result<(Vec<u8>, Dtype), String> {
        let Some(running) = self.running.as_ref().filter(|running| running.job == job) else {
            return Err(format!("a picture of job {job}, which it does not have"));
        };
        if size != running.size {
            return Err(format!(
                "a {size} picture where {} was asked for",
                running.size
            ));
        }
        if running.step != running.steps {
            return Err(format!(
                "a picture after step {} of {}",
                running.step, running.steps
            ));
        }
        let dtype = self.dtype.ok_or("a picture before it was ready")?;
        let segment = self.segment().ok_or("a picture without a segment")?;
        let rgb8 = segment.read(Slot::Picture, size.rgb8_bytes());
        Ok((rgb8.map_err(|error| error.to_string())?, dtype))
    }

    /// The job it ran, with a copy of the newest latents of it where a frame had named any.
    pub fn salvage(&self) -> Option<(JobId, Option<SavedLatents>)> {
        let running = self.running.as_ref()?;
        let checkpoint = running.latents.and_then(|(slot, bytes)| {
            Some(SavedLatents {
                step: running.step,
                latents: self.segment()?.read(slot, bytes).ok()?,
                stamp: self.served.stamp.clone(),
            })
        });
        Some((running.job, checkpoint))
    }
}
