//! Replays a daemon's record into a fresh pool and runs every check after each event.
//!
//! `supervisor --record FILE` writes one; `scripts/simulate --replay FILE` runs this.

#[path = "../simulation/oracle/mod.rs"]
mod oracle;
#[allow(dead_code, reason = "sandboxes that are made up ask for more")]
#[path = "../simulation/shadow/mod.rs"]
mod shadow;
#[path = "../simulation/trace.rs"]
mod trace;
#[path = "../simulation/waits.rs"]
mod waits;

use std::collections::VecDeque;
use std::path::Path;
use std::process::ExitCode;

use ipc_protocol::ids::{Generation, JobId};
use pool::{Action, Event, Pool};
use tests::record::{EventRecord, RecordedEvent};

use crate::oracle::Oracle;
use crate::shadow::{Shadow, Verdict};
use crate::waits::Waits;

/// Lines printed before a violation.
const LINES: usize = 40;

fn main() -> ExitCode {
    let Some(file) = std::env::args_os().nth(1) else {
        eprintln!("replay needs the FILE that `supervisor --record FILE` wrote");
        return ExitCode::from(2);
    };
    let record = match EventRecord::read(Path::new(&file)) {
        Ok(record) => record,
        Err(why) => {
            println!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let mut replay = Replay::of(&record);
    for happened in &record.events {
        if let Err(what) = replay.feed(happened) {
            for line in &replay.lines {
                println!("{line}");
            }
            println!("\nVIOLATION at line {}: {what}", happened.line);
            return ExitCode::FAILURE;
        }
    }
    println!("{}", replay.told());
    ExitCode::SUCCESS
}

/// A pool that hears what another one heard.
struct Replay {
    pool: Pool,
    shadow: Shadow,
    oracle: Oracle,
    waits: Waits,
    started: Generation,
    accepted: JobId,
    events: u64,
    changes: u64,
    /// The last ones.
    lines: VecDeque<String>,
}

impl Replay {
    fn of(record: &EventRecord) -> Self {
        let (settings, beginning) = (&record.settings, &record.beginning);
        let (registry, limits) = (&beginning.registry, &beginning.devices);
        Self {
            pool: record.pool(),
            shadow: Shadow::new(settings, registry, limits),
            oracle: Oracle::new(settings, registry, limits),
            waits: Waits::new(settings, registry, limits),
            started: Generation(0),
            accepted: JobId(0),
            events: 0,
            changes: 0,
            lines: VecDeque::new(),
        }
    }

    fn feed(&mut self, happened: &RecordedEvent) -> Verdict {
        let RecordedEvent { line, at, event } = happened;
        self.is_of_this_pool(event)?;
        let mut actions = Vec::new();
        self.shadow.before(event);
        self.pool.handle(*at, event.clone(), &mut actions);
        self.events += 1;
        self.changes += u64::from(trace::changes(event, &actions));
        self.lines
            .push_back(trace::line(*at, *line as u64, event, &actions));
        if self.lines.len() > LINES {
            self.lines.pop_front();
        }
        self.remember(&actions);
        self.shadow.after(*at, event, &actions)?;
        self.oracle.check(*at, event, &actions)?;
        self.waits.check(*at, event, &actions)?;
        if matches!(event, Event::RequestArrived { .. }) {
            self.shadow.check_queues()?;
        }
        self.shadow.compare(*at, &self.pool)?;
        match self.shadow.has_exited() {
            true => self.shadow.check_rest(&self.pool),
            false => Ok(()),
        }
    }

    /// Workers and jobs that only the recorded pool knows show that this one decides otherwise.
    fn is_of_this_pool(&self, event: &Event) -> Verdict {
        let (worker, job) = match event {
            Event::WorkerStarted { worker, .. } | Event::WorkerStartFailed { worker, .. } => {
                (*worker, None)
            }
            Event::StepFinished { worker, job, .. } | Event::JobFinished { worker, job, .. } => {
                (*worker, Some(*job))
            }
            _ => return Ok(()),
        };
        if worker > self.started || job.is_some_and(|job| job > self.accepted) {
            return Err(
                "the recorded pool decided otherwise than this one: it was another version".into(),
            );
        }
        Ok(())
    }

    fn remember(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Start(start) => self.started = start.worker,
                Action::Accept(accepted) => {
                    let last = accepted.jobs.last().copied();
                    self.accepted = last.unwrap_or(self.accepted);
                }
                Action::Refuse { .. }
                | Action::Acknowledge { .. }
                | Action::Run(_)
                | Action::Cancel { .. }
                | Action::AskToLeave { .. }
                | Action::Terminate { .. }
                | Action::Kill { .. }
                | Action::Measure { .. }
                | Action::Report { .. }
                | Action::Answer { .. }
                | Action::Tell(_)
                | Action::Exit => {}
            }
        }
    }

    fn told(&self) -> String {
        let end = match self.shadow.has_exited() {
            true => "it left".to_owned(),
            false => format!(
                "it ends with {} jobs and {} workers",
                self.shadow.live_jobs(),
                self.shadow.live_workers()
            ),
        };
        format!(
            "events {} · changes {} · jobs {} · answers {} · pictures {} · workers {} · violations 0 · {end}",
            self.events,
            self.changes,
            self.accepted,
            self.shadow.answers,
            self.shadow.pictures,
            self.started
        )
    }
}
