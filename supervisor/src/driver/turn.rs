//! One turn of the loop: a little from every source, the urgent ones first.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::ids::Generation;
use nix::sys::signal::Signal;
use pool::{Drain, Event};

use super::Driver;
use super::inbox::LoopCommand;
use super::pulse::LoopActivity;
use super::report::StatusAnswer;
use super::settings::SettingsTask;
use crate::telemetry;

/// Messages of one worker in one turn.
const MESSAGES_PER_TURN: usize = 4;
/// Questions of clients in one turn. No client has more than one on its way.
const ASKS_PER_TURN: usize = 16;
/// News of fetches in one turn.
const FETCHES_PER_TURN: usize = 8;
/// While there are workers the loop turns at least this often, so that a longer pause is one in which it could not.
const PULSE: Duration = Duration::from_millis(500);
/// A pause between two turns from which on the loop has been kept from turning.
const STALLED: Duration = Duration::from_secs(1);

impl Driver {
    /// Takes a bounded amount from every source, in this order: commands, deadlines, workers, clients, fetches.
    /// Returns whether anything is left.
    pub(super) fn turn(&mut self) -> bool {
        self.note_pause();
        self.note_age();
        self.decide();
        self.pulse.begin(LoopActivity::MeasuringMemory);
        self.measure_memory();
        self.pulse.begin(LoopActivity::Commands);
        // One is enough: who gives another waits for a turn.
        if let Ok(command) = self.inbox.commands.try_recv() {
            self.command(command);
            self.decide();
        }
        self.pulse.begin(LoopActivity::Deadlines);
        let now = self.clock.now();
        if self.pool.next_deadline().is_some_and(|due| due <= now) {
            self.deadline_reached();
            self.decide();
        }
        self.pulse.begin(LoopActivity::Processes);
        while let Ok(news) = self.inbox.lives.try_recv() {
            self.hear(news);
            self.decide();
        }
        self.pulse.begin(LoopActivity::Workers);
        self.hear_messages();
        for _ in 0..ASKS_PER_TURN {
            let Ok(ask) = self.inbox.asks.try_recv() else {
                break;
            };
            self.pulse.begin(LoopActivity::Clients);
            self.asked(ask);
            self.decide();
        }
        self.pulse.begin(LoopActivity::Clients);
        self.report_to_all();
        self.pulse.begin(LoopActivity::OtherNews);
        for _ in 0..FETCHES_PER_TURN {
            let Ok(news) = self.inbox.fetches.try_recv() else {
                break;
            };
            self.hear_of_fetch(news);
            self.decide();
        }
        while let Ok(answer) = self.inbox.gpus.try_recv() {
            self.hear_of_gpus(answer);
            self.decide();
        }
        while let Ok(news) = self.inbox.settings.try_recv() {
            self.hear_of_settings(news);
            self.decide();
        }
        self.finish_updates();
        self.measure_gpus();
        self.inbox.has_next() || self.workers.values().any(|handle| handle.has_next())
    }

    /// Waits for something to do.
    pub(super) async fn rest(&mut self) {
        let pulse = (!self.workers.is_empty()).then(|| self.turned + PULSE);
        self.pulse.begin(LoopActivity::Resting);
        let due = [self.pool.next_deadline(), pulse, self.gpus.due()];
        let due = due.into_iter().flatten().min();
        tokio::select! {
            () = self.inbox.rung() => {}
            () = self.clock.wait_until(due) => {}
        }
    }

    /// Tells the pool of a pause in which the loop could not hear its workers.
    fn note_pause(&mut self) {
        let now = self.clock.now();
        let pause = now.since(mem::replace(&mut self.turned, now));
        if pause >= STALLED && !self.workers.is_empty() {
            let lasted = pause.saturating_sub(PULSE);
            telemetry::daemon::stalled(lasted);
            self.happen(Event::LoopStalled { lasted });
        }
    }

    fn command(&mut self, command: LoopCommand) {
        match command {
            LoopCommand::Drain { cancel } => self.happen(Event::DrainRequested {
                ticket: None,
                drain: if cancel { Drain::ExitNow } else { Drain::Exit },
            }),
            LoopCommand::Reload(answer) => self.with_settings(SettingsTask::Reload(answer)),
            LoopCommand::TruceAnswered(device) => self.truce_answered(device),
            LoopCommand::Abandon => {
                // The pool ends every job and worker; no client is left for whom a worker should finish anything.
                self.happen(Event::DrainRequested {
                    ticket: None,
                    drain: Drain::ExitNow,
                });
                for worker in self.workers.values_mut() {
                    worker.signal(Signal::SIGKILL);
                }
            }
        }
    }

    /// Lets the pool judge who is overdue. A worker whose messages wait to be read has not been silent.
    fn deadline_reached(&mut self) {
        let unread = self
            .workers
            .iter()
            .filter(|(_, handle)| handle.has_unread());
        for worker in unread.map(|(worker, _)| *worker).collect::<Vec<_>>() {
            self.happen(Event::WorkerHeard { worker });
        }
        self.happen(Event::DeadlineReached);
    }

    fn hear_messages(&mut self) {
        let workers: Vec<Generation> = self.workers.keys().copied().collect();
        for worker in workers {
            for _ in 0..MESSAGES_PER_TURN {
                let handle = self.workers.get(&worker);
                let Some(heard) = handle.and_then(|handle| handle.next_heard()) else {
                    break;
                };
                self.heard(worker, heard);
                self.decide();
            }
        }
    }

    /// One report for all who asked in this turn.
    fn report_to_all(&mut self) {
        let asked = mem::take(&mut self.reports);
        if asked.is_empty() {
            return;
        }
        let report = Arc::new(StatusAnswer::new(self.report()));
        for door in asked {
            let _ = door.send(Arc::clone(&report)); // A door that left needs none.
        }
    }
}
