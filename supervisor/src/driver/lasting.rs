//! Facts that outlive the daemon go to the journal, and those of an earlier daemon become events.

use std::time::Duration;

use ipc_protocol::ids::{Generation, JobId};
use pool::{Event, LastingFact, Moment, RestoredJob, Ticket};
use tokio::sync::{mpsc, oneshot, watch};

use super::Driver;
use super::conversation::{Conversation, RequestStage};
use super::handle::{PROGRESS_MAX, PendingRequest};
use super::job::SavedLatents;
use crate::journal::contents::JournalContents;
use crate::journal::handle::Journal;
use crate::journal::latents::JournaledLatents;
use crate::journal::lease::IdLease;
use crate::journal::orders::JournalOrder;
use crate::telemetry::traces::context::TraceParent;

/// Time between two latents of one job in the journal.
const LATENTS_PAUSE: Duration = Duration::from_secs(1);
/// Steps that are shorter are not worth it, and their latents are overwritten too soon to be read.
const STEP_MIN: Duration = Duration::from_millis(200);

/// The journal, as the loop uses it. It never waits for it.
#[derive(Debug)]
pub(super) struct LastingFacts {
    journal: Journal,
    ids: IdLease,
    last_id: JobId,
}

impl LastingFacts {
    /// Writes down a fact for the next daemon.
    pub fn remember(&self, fact: LastingFact) {
        // A fact that is dropped is counted there.
        let _ = self.journal.tell(JournalOrder::Remember(fact));
    }

    /// Notes ids that are in use.
    pub fn use_ids(&mut self, jobs: &[JobId]) {
        if let Some(last) = jobs.last() {
            self.last_id = self.last_id.max(*last);
            self.ids.note(*last);
        }
    }

    /// A word about the journal, and a sentence.
    pub fn report(&self) -> (&'static str, String) {
        self.journal.condition().report()
    }

    /// The last id is known, so the next daemon goes on with the one after it.
    pub fn settle(&self) {
        self.ids.settle(self.last_id);
    }
}

impl Driver {
    /// Takes over what an earlier daemon left, and writes further facts to the journal.
    pub fn remember_in(&mut self, journal: &Journal, contents: &JournalContents, ids: IdLease) {
        let last_id = JobId(contents.last_id);
        self.lasting = Some(LastingFacts {
            journal: journal.clone(),
            ids,
            last_id,
        });
        self.restored.push(Event::JobIdsUsed { last: last_id });
        let needs = contents.needs.iter().cloned();
        self.restored
            .extend(needs.map(|need| Event::NeedRestored { need }));
        let quarantine = contents.quarantine.iter().rev().cloned().map(Box::new);
        self.restored
            .extend(quarantine.map(|request| Event::QuarantineRestored { request }));
    }

    /// Takes a job of an earlier daemon, before the loop runs. It enters before any request.
    pub fn restore(&mut self, mut job: RestoredJob, trace: Option<TraceParent>) -> PendingRequest {
        let ticket: Ticket = self.next_ticket();
        let lasting = self.lasting.as_ref();
        if let Some(latents) = lasting.and_then(|it| it.journal.read_latents(job.job)) {
            job.past.resume_step = latents.step;
            let saved = SavedLatents {
                step: latents.step,
                latents: latents.latents,
                stamp: latents.stamp,
            };
            self.restored_latents.insert(job.job, saved);
        }
        let (sender, updates) = mpsc::channel(1 + PROGRESS_MAX);
        let (accepted, answer) = oneshot::channel();
        let (waiting, newest) = watch::channel(None);
        let conversation = Conversation {
            user: job.user.clone(),
            detached: true,
            trace,
            stage: RequestStage::Asked {
                answer: accepted,
                waiting,
                awaited: None,
            },
            updates: sender,
        };
        self.conversations.insert(ticket, conversation);
        let job = Box::new(job);
        self.restored.push(Event::JobRestored { ticket, job });
        PendingRequest::new(answer, newest, updates, self.handle.outbox.clone())
    }

    /// Gives the latents of a step that took `took` to the journal, `since` after the step before was heard of.
    ///
    /// The worker overwrites them two steps later. They are read here only if this step was heard of in its time: the
    /// step before as well, and no later one yet.
    pub(super) fn publish_latents(
        &mut self,
        worker: Generation,
        job: JobId,
        took: Duration,
        since: Duration,
    ) {
        let now = self.clock.now();
        let (Some(lasting), Some(entry)) = (&self.lasting, self.jobs.get_mut(&job)) else {
            return;
        };
        let is_early = |at: Moment| now.since(at) < LATENTS_PAUSE;
        let is_timely = took >= STEP_MIN && since >= took / 2 && since <= took + took / 2;
        if !entry.detached || !is_timely || entry.published.is_some_and(is_early) {
            return;
        }
        let Some(handle) = self.workers.get(&worker) else {
            return;
        };
        let Some((_, Some(saved))) = handle.salvage() else {
            return;
        };
        if handle.has_unread() {
            return;
        }
        entry.published = Some(now);
        let latents = JournaledLatents {
            step: saved.step,
            stamp: saved.stamp,
            latents: saved.latents,
        };
        lasting.journal.offer_latents(job, latents);
    }
}
