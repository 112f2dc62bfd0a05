//! One conversation with a door: what it asks for and what it is owed.

use ipc_protocol::failure::Failure;
use ipc_protocol::ids::ModelKey;
use ipc_protocol::messages::client::Fetching;
use pool::{AcceptedJobs, Ticket};
use tokio::sync::{mpsc, oneshot, watch};

use super::ask::{AwaitedFiles, JobUpdate};
use crate::telemetry::traces::context::TraceParent;

/// One conversation with a door.
#[derive(Debug)]
pub(super) struct Conversation {
    /// On whose behalf it asks.
    pub user: String,
    /// Its jobs go on without it.
    pub detached: bool,
    /// The caller's span, if it sent one.
    pub trace: Option<TraceParent>,
    pub stage: RequestStage,
    pub updates: mpsc::Sender<JobUpdate>,
}

/// The stage of a conversation's request.
#[derive(Debug)]
pub(super) enum RequestStage {
    /// It is neither accepted nor refused.
    Asked {
        answer: oneshot::Sender<Result<(Ticket, AcceptedJobs), Failure>>,
        /// The newest state of `awaited`; its door reads it when it is ready.
        waiting: watch::Sender<Option<AwaitedFiles>>,
        /// The files it waits for, if it does.
        awaited: Option<AwaitedFiles>,
    },
    /// It was accepted.
    Accepted {
        /// Jobs that still owe an answer.
        unanswered: usize,
    },
}

impl Conversation {
    /// The files that its request waits for.
    pub fn awaited(&self) -> Option<&AwaitedFiles> {
        match &self.stage {
            RequestStage::Asked { awaited, .. } => awaited.as_ref(),
            RequestStage::Accepted { .. } => None,
        }
    }

    /// Notes that its request waits for files, and tells its door.
    pub fn await_files(&mut self, files: AwaitedFiles) {
        if let RequestStage::Asked {
            waiting, awaited, ..
        } = &mut self.stage
        {
            waiting.send_replace(Some(files.clone()));
            *awaited = Some(files);
        }
    }

    /// Tells its door how far the files of `model` are if its request waits for them.
    pub fn tell_far(&mut self, model: &ModelKey, far: &Fetching) {
        if let RequestStage::Asked {
            waiting,
            awaited: Some(files),
            ..
        } = &mut self.stage
            && files.model == *model
        {
            files.far = Some(far.clone());
            waiting.send_replace(Some(files.clone()));
        }
    }

    /// Tells which jobs its request became. A door that left says so itself.
    pub fn accept(&mut self, accepted: AcceptedJobs) {
        let stage = RequestStage::Accepted {
            unanswered: accepted.jobs.len(),
        };
        match std::mem::replace(&mut self.stage, stage) {
            RequestStage::Asked { answer, .. } => {
                let _ = answer.send(Ok((accepted.ticket, accepted)));
            }
            RequestStage::Accepted { .. } => {}
        }
    }

    /// Tells that its request is refused. A door that left needs no refusal.
    pub fn refuse(self, failure: Failure) {
        match self.stage {
            RequestStage::Asked { answer, .. } => {
                let _ = answer.send(Err(failure));
            }
            RequestStage::Accepted { .. } => {}
        }
    }

    /// Jobs that still owe an answer.
    pub fn unanswered(&self) -> usize {
        match self.stage {
            RequestStage::Asked { .. } => 0,
            RequestStage::Accepted { unanswered } => unanswered,
        }
    }

    /// Tells how a job goes, unless the room left is owed to answers. A door that left misses it.
    pub fn report(&self, update: JobUpdate) {
        if self.updates.capacity() > self.unanswered() {
            let _ = self.updates.try_send(update);
        }
    }

    /// Tells a job's one answer; there is always room for it, and a door that left needs none.
    pub fn answer(&mut self, update: JobUpdate) {
        if let RequestStage::Accepted { unanswered } = &mut self.stage {
            *unanswered -= 1;
        }
        let _ = self.updates.try_send(update);
    }
}
