//! Requests without jobs: of the present event, or waiting for the files of their model.

use std::collections::BTreeMap;

use ipc_protocol::ids::{JobId, ModelKey};
use ipc_protocol::request::ImageRequest;
use pool::{Event, Moment, Ticket};

use super::ObservedPool;

/// A request as its client sent it.
#[derive(Debug, Clone)]
pub(crate) struct AskedRequest {
    pub(crate) ticket: Ticket,
    pub(crate) request: ImageRequest,
    pub(crate) user: String,
    pub(crate) entropy: u64,
}

/// A request that waits for the files of its model.
#[derive(Debug, Clone)]
pub(crate) struct AwaitingRequest {
    pub(crate) asked: AskedRequest,
    pub(crate) model: ModelKey,
    /// The ids that its jobs will have, each with the client or operator who cancelled it.
    pub(crate) jobs: BTreeMap<JobId, Option<String>>,
    pub(crate) since: Moment,
}

impl AskedRequest {
    /// Bytes of its prompts, for all of its jobs.
    pub(crate) fn text_bytes(&self) -> usize {
        let negative = self.request.negative.as_ref().map_or(0, String::len);
        (self.request.prompt.len() + negative) * self.request.count as usize
    }
}

impl AwaitingRequest {
    /// The ids of its jobs that are not cancelled.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = JobId> {
        let jobs = self.jobs.iter();
        jobs.filter(|(_, by)| by.is_none()).map(|(&job, _)| job)
    }
}

impl ObservedPool {
    /// The requests that wait for the files of a model, oldest first.
    pub(crate) fn awaiting(&self, model: &ModelKey) -> impl Iterator<Item = &AwaitingRequest> {
        let all = self.requests.values();
        all.filter(move |waiting| waiting.model == *model)
    }

    /// The request of a ticket that waits for files.
    pub(crate) fn awaiting_of(&self, ticket: Ticket) -> Option<&AwaitingRequest> {
        let mut all = self.requests.values();
        all.find(|waiting| waiting.asked.ticket == ticket)
    }

    /// The request that a reply to `ticket` judges: the one that has arrived with this event, or one that waits for the files
    /// that have. `None` if this event lets the pool judge no request of this ticket.
    pub(crate) fn judged(&self, event: &Event, ticket: Ticket) -> Option<&AskedRequest> {
        if let Some(asked) = self.asked.as_ref().filter(|asked| asked.ticket == ticket) {
            return Some(asked);
        }
        let waiting = self.awaiting_of(ticket)?;
        match event {
            Event::FilesArrived { model } if *model == waiting.model => Some(&waiting.asked),
            _ => None,
        }
    }

    /// The key of the model that a request asks for, if that is offered.
    pub(crate) fn model_for(&self, asked: &AskedRequest) -> Option<&ModelKey> {
        if let Some(waiting) = self.awaiting_of(asked.ticket) {
            return Some(&waiting.model);
        }
        let name = asked.request.model.as_ref();
        let model = self.called(name.unwrap_or(&self.settings.default_model))?;
        Some(&model.spec.key)
    }

    pub(super) fn take_awaiting(&mut self, ticket: Ticket) -> Option<AwaitingRequest> {
        let first = *self.awaiting_of(ticket)?.jobs.keys().next()?;
        self.requests.remove(&first)
    }

    pub(super) fn await_files(
        &mut self,
        now: Moment,
        ticket: Ticket,
        model: &ModelKey,
        jobs: &[JobId],
    ) {
        let asked = self.asked.take_if(|asked| asked.ticket == ticket);
        let (Some(asked), Some(&first), Some(&last)) = (asked, jobs.first(), jobs.last()) else {
            return;
        };
        let waiting = AwaitingRequest {
            asked,
            model: model.clone(),
            jobs: jobs.iter().map(|&job| (job, None)).collect(),
            since: now,
        };
        self.last_job = self.last_job.max(last);
        self.requests.insert(first, waiting);
        self.awaited += 1;
    }

    /// A job that may not exist yet is cancelled.
    pub(super) fn cancel_awaiting(&mut self, job: JobId, by: &str) {
        for waiting in self.requests.values_mut() {
            if let Some(cancelled) = waiting.jobs.get_mut(&job) {
                cancelled.get_or_insert_with(|| by.to_owned());
            }
        }
    }
}
