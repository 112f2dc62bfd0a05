//! Requests that wait for the files of their models.
//!
//! What a request may ask for is known once the files of its model are. Until then it is no job; its jobs have ids,
//! so that operators can see and cancel them. No time limit of it runs.

use std::collections::BTreeMap;

use ipc_protocol::ids::JobId;

use crate::words::event::Ticket;
use crate::words::moment::Moment;
use crate::words::new_request::NewRequest;
use crate::words::registry::ModelId;

/// A request that waits for files.
#[derive(Debug)]
pub(crate) struct WaitingRequest {
    asked: NewRequest,
    jobs: Vec<JobId>,
    /// Those that end as soon as they are jobs, and who cancelled them.
    cancelled: BTreeMap<JobId, String>,
    since: Moment,
}

/// All requests that wait for files, by model; oldest first.
#[derive(Debug, Default)]
pub(crate) struct WaitingRequests {
    by_model: BTreeMap<ModelId, Vec<WaitingRequest>>,
}

impl WaitingRequest {
    /// A request that waits since `now`; `jobs` are the ids that its jobs will have.
    pub(crate) fn new(asked: NewRequest, jobs: Vec<JobId>, now: Moment) -> Self {
        Self {
            asked,
            jobs,
            cancelled: BTreeMap::new(),
            since: now,
        }
    }

    pub(crate) fn ticket(&self) -> Ticket {
        self.asked.ticket
    }

    pub(crate) fn since(&self) -> Moment {
        self.since
    }

    /// The ids of its jobs that are not cancelled.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = JobId> {
        let cancelled = |id: &JobId| self.cancelled.contains_key(id);
        self.jobs.iter().copied().filter(move |id| !cancelled(id))
    }

    /// It ends with the connection behind `ticket`.
    fn ends_with(&self, ticket: Ticket) -> bool {
        self.asked.ticket == ticket && !self.asked.request.detached
    }

    /// The request, the ids of all its jobs, and who cancelled which of them.
    pub(crate) fn into_parts(self) -> (NewRequest, Vec<JobId>, BTreeMap<JobId, String>) {
        (self.asked, self.jobs, self.cancelled)
    }
}

impl WaitingRequests {
    /// The requests that wait for the files of a model, oldest first.
    pub(crate) fn of(&self, model: ModelId) -> &[WaitingRequest] {
        self.by_model.get(&model).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn waits_for(&self, model: ModelId) -> bool {
        !self.of(model).is_empty()
    }

    /// Every model whose files are waited for.
    pub(crate) fn models(&self) -> impl Iterator<Item = ModelId> {
        self.by_model.keys().copied()
    }

    /// Places in the queue of a model that its waiting requests will take, those of cancelled jobs among them.
    pub(crate) fn places(&self, model: ModelId) -> usize {
        let requests = self.of(model).iter();
        requests.map(|request| request.jobs.len()).sum()
    }

    /// Places in all queues that waiting requests will take.
    pub(crate) fn all_places(&self) -> usize {
        self.models().map(|model| self.places(model)).sum()
    }

    /// Bytes of text that waiting requests hold.
    pub(crate) fn text_bytes(&self) -> usize {
        let requests = self.by_model.values().flatten();
        requests.map(|request| request.asked.text_bytes()).sum()
    }

    /// Adds a request; returns whether it is the first that waits for the files of its model.
    pub(crate) fn push(&mut self, model: ModelId, request: WaitingRequest) -> bool {
        let requests = self.by_model.entry(model).or_default();
        requests.push(request);
        requests.len() == 1
    }

    /// The request of a job that is not cancelled, with its model.
    pub(crate) fn find(&self, job: JobId) -> Option<(ModelId, &WaitingRequest)> {
        let mut all = self
            .by_model
            .iter()
            .flat_map(|(&model, requests)| requests.iter().map(move |request| (model, request)));
        all.find(|(_, request)| request.wanted().any(|id| id == job))
    }

    /// Notes that `by` cancelled a job; returns its request's ticket if no job of it is wanted any more.
    pub(crate) fn cancel(&mut self, job: JobId, by: &str) -> Option<Ticket> {
        let mut all = self.by_model.values_mut().flatten();
        let request = all.find(|request| request.wanted().any(|id| id == job))?;
        request.cancelled.insert(job, by.to_owned());
        let none_left = request.wanted().next().is_none();
        none_left.then_some(request.asked.ticket)
    }

    /// The request that ends with the connection behind `ticket`.
    pub(crate) fn ends_with(&self, ticket: Ticket) -> bool {
        let mut all = self.by_model.values().flatten();
        all.any(|request| request.ends_with(ticket))
    }

    /// Takes out the request of a conversation, with its model.
    pub(crate) fn take(&mut self, ticket: Ticket) -> Option<(ModelId, WaitingRequest)> {
        let waits = |request: &WaitingRequest| request.asked.ticket == ticket;
        let (&model, requests) = self
            .by_model
            .iter_mut()
            .find(|(_, requests)| requests.iter().any(waits))?;
        let taken = requests.remove(requests.iter().position(waits)?);
        if requests.is_empty() {
            self.by_model.remove(&model);
        }
        Some((model, taken))
    }

    /// Takes out the oldest request that waits for the files of a model.
    pub(crate) fn take_oldest(&mut self, model: ModelId) -> Option<WaitingRequest> {
        let ticket = self.of(model).first()?.ticket();
        self.take(ticket).map(|(_, request)| request)
    }
}
