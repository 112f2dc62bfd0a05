//! The commands of operators that are acknowledged once they are done.

use std::collections::BTreeMap;

use ipc_protocol::ids::{Generation, WorkerName};

use crate::state::worker::Worker;
use crate::words::event::Ticket;
use crate::words::registry::ModelId;

/// A command that is acknowledged once it is done.
#[derive(Debug)]
pub(crate) struct OperatorOrder {
    ticket: Ticket,
    /// Workers that have to be reaped.
    leaving: BTreeMap<Generation, WorkerName>,
    /// Models that have to have a resident worker after that.
    starting: Vec<ModelId>,
    /// The slot it is about, if it is about one worker.
    slot: Option<u32>,
    /// The youngest worker when it was given.
    youngest: Generation,
    /// Workers that each model in `starting` has to have then.
    least: usize,
    lines: Vec<String>,
    success: bool,
}

impl OperatorOrder {
    pub(crate) fn new(ticket: Ticket, slot: Option<u32>, youngest: Generation) -> Self {
        Self {
            ticket,
            leaving: BTreeMap::new(),
            starting: Vec::new(),
            slot,
            youngest,
            least: 1,
            lines: Vec::new(),
            success: true,
        }
    }

    /// The slot it is about, if it is about one worker.
    pub(crate) fn slot(&self) -> Option<u32> {
        self.slot
    }

    /// Workers that each model that it starts has to have.
    pub(crate) fn least(&self) -> usize {
        self.least
    }

    /// Models that it starts.
    pub(crate) fn starting(&self) -> &[ModelId] {
        &self.starting
    }

    /// No worker has to be reaped for it any more.
    pub(crate) fn all_gone(&self) -> bool {
        self.leaving.is_empty()
    }

    /// Nothing is left to wait for.
    pub(crate) fn is_done(&self) -> bool {
        self.leaving.is_empty() && self.starting.is_empty()
    }

    /// It stops this worker and starts its model again.
    pub(crate) fn restarts(&self, worker: Generation) -> bool {
        !self.starting.is_empty() && self.leaving.contains_key(&worker)
    }

    /// It is about this worker. A later worker may be its replacement in another slot.
    pub(crate) fn means(&self, worker: &Worker) -> bool {
        let own = |slot| worker.name().slot == slot || worker.generation() > self.youngest;
        self.slot.is_none_or(own)
    }

    /// Adds workers that have to be reaped.
    pub(crate) fn wait_for(&mut self, workers: impl IntoIterator<Item = (Generation, WorkerName)>) {
        self.leaving.extend(workers);
    }

    /// Adds a model that has to start.
    pub(crate) fn start(&mut self, model: ModelId) {
        self.starting.push(model);
    }

    /// Sets the workers that each model that it starts has to have.
    pub(crate) fn set_least(&mut self, least: usize) {
        self.least = least;
    }

    /// Writes a line of the answer.
    pub(crate) fn note(&mut self, line: String) {
        self.lines.push(line);
    }

    /// Notes a worker or model that needed no change: supervisorctl prints that as an error, but it is not a failure.
    pub(crate) fn note_unchanged(&mut self, name: impl std::fmt::Display, what: &str) {
        self.note(format!("{name}: ERROR ({what})"));
    }

    /// Writes that a part of it failed.
    pub(crate) fn note_error(&mut self, name: impl std::fmt::Display, what: &str) {
        self.note_unchanged(name, what);
        self.success = false;
    }

    /// Writes which of its workers have been reaped; returns whether that were the last ones and models have
    /// to start now.
    pub(crate) fn note_reaped(&mut self, is_reaped: impl Fn(Generation) -> bool) -> bool {
        let gone = |id: &Generation, _: &mut WorkerName| is_reaped(*id);
        let gone: Vec<WorkerName> = self.leaving.extract_if(.., gone).map(|(_, n)| n).collect();
        for name in &gone {
            self.note(format!("{name}: stopped"));
        }
        !gone.is_empty() && self.leaving.is_empty() && !self.starting.is_empty()
    }

    /// Takes the models that have to start, to decide about each.
    pub(crate) fn take_starting(&mut self) -> Vec<ModelId> {
        std::mem::take(&mut self.starting)
    }

    /// Its conversation, the lines of its answer, and whether all went well.
    pub(crate) fn into_answer(self) -> (Ticket, Vec<String>, bool) {
        (self.ticket, self.lines, self.success)
    }
}
