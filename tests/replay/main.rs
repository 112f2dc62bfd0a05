//! Replays a daemon's record into a fresh pool and runs every check after each event.
//!
//! `supervisor --record FILE` writes one; `scripts/simulate --replay FILE` runs this.

#[allow(dead_code, reason = "simulated worlds ask for more")]
#[path = "../simulation/checks/mod.rs"]
mod checks;
#[path = "../simulation/observed/mod.rs"]
mod observed;
#[path = "../simulation/oracle/mod.rs"]
mod oracle;
#[path = "../simulation/trace.rs"]
mod trace;

use std::collections::VecDeque;
use std::path::Path;
use std::process::ExitCode;

use pool::{Event, Pool};
use tests::record::{EventRecord, RecordedEvent};

use crate::checks::{CheckResult, Checks, WorldClock};

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
    println!("{}", replay.summary());
    ExitCode::SUCCESS
}

/// A pool that hears what another one heard.
struct Replay {
    pool: Pool,
    checks: Checks,
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
            checks: Checks::new(settings, registry, limits, WorldClock::Real),
            events: 0,
            changes: 0,
            lines: VecDeque::new(),
        }
    }

    fn feed(&mut self, happened: &RecordedEvent) -> CheckResult {
        let RecordedEvent { line, at, event } = happened;
        self.is_of_this_pool(event)?;
        let mut actions = Vec::new();
        self.pool.handle(*at, event.clone(), &mut actions);
        self.events += 1;
        self.changes += u64::from(trace::changes(event, &actions));
        self.lines
            .push_back(trace::line(*at, *line as u64, event, &actions));
        if self.lines.len() > LINES {
            self.lines.pop_front();
        }
        self.checks.check(*at, event, &actions)?;
        self.checks.compare(*at, &self.pool, self.events)?;
        match self.checks.observed().exited {
            true => self.checks.check_end(&self.pool),
            false => Ok(()),
        }
    }

    /// Workers and jobs that only the recorded pool knows show that this one decides otherwise.
    fn is_of_this_pool(&self, event: &Event) -> CheckResult {
        let (worker, job) = match event {
            Event::WorkerStarted { worker, .. } | Event::WorkerStartFailed { worker, .. } => {
                (*worker, None)
            }
            Event::StepFinished { worker, job, .. } | Event::JobFinished { worker, job, .. } => {
                (*worker, Some(*job))
            }
            _ => return Ok(()),
        };
        let observed = self.checks.observed();
        if worker > observed.last_worker || job.is_some_and(|job| job > observed.last_job) {
            return Err(
                "the recorded pool decided otherwise than this one: it was another version".into(),
            );
        }
        Ok(())
    }

    fn summary(&self) -> String {
        let observed = self.checks.observed();
        let end = match observed.exited {
            true => "it left".to_owned(),
            false => format!(
                "it ends with {} jobs and {} workers",
                observed.jobs.len(),
                observed.workers.len()
            ),
        };
        format!(
            "events {} · changes {} · jobs {} · answers {} · pictures {} · workers {} · violations 0 · {end}",
            self.events,
            self.changes,
            observed.last_job,
            observed.answers,
            observed.pictures,
            observed.last_worker
        )
    }
}
