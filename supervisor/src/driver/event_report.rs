//! The report of each event of the pool: its name and its facts, for all doors.

use std::time::Duration;

use ipc_protocol::event::{EventReport, FactValue};
use ipc_protocol::ids::{Generation, WorkerName};
use ipc_protocol::untrusted::Untrusted;
use pool::{Moment, Notice};

use super::pool_event::PoolEvent;
use crate::telemetry::ms;
use crate::telemetry::workers::how;

/// The report of an event that happened at `at`.
pub(super) fn report(at: Moment, event: &PoolEvent) -> EventReport {
    let (name, Facts(facts)) = described(event);
    EventReport {
        t_us: at.0,
        event: name.into(),
        facts: facts
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    }
}

/// Facts in the order in which they are printed.
struct Facts(Vec<(&'static str, FactValue)>);

impl Facts {
    fn none() -> Self {
        Self(Vec::new())
    }

    /// The facts about a worker begin with its name.
    fn of(worker: &WorkerName) -> Self {
        Self::none().text("worker", worker)
    }

    fn with(mut self, name: &'static str, value: FactValue) -> Self {
        self.0.push((name, value));
        self
    }

    /// A text, which may come from a worker or a file.
    fn text(self, name: &'static str, text: impl std::fmt::Display) -> Self {
        self.with(name, FactValue::Text(Untrusted::of(text).to_string()))
    }

    fn number(self, name: &'static str, number: u64) -> Self {
        self.with(name, FactValue::Number(number))
    }

    fn milliseconds(self, name: &'static str, time: Duration) -> Self {
        self.number(name, ms(time))
    }

    fn generation(self, worker: Generation) -> Self {
        self.number("generation", worker.0)
    }
}

fn described(event: &PoolEvent) -> (&'static str, Facts) {
    match event {
        PoolEvent::JobAccepted { job, model } => (
            "job_accepted",
            Facts::none().number("job", job.0).text("model", model),
        ),
        PoolEvent::JobEnded {
            job,
            model,
            failure,
        } => {
            let outcome = failure.map_or("finished", |kind| kind.word());
            let facts = Facts::none().number("job", job.0).text("model", model);
            ("job_ended", facts.text("outcome", outcome))
        }
        PoolEvent::Noticed(notice) => noticed(notice),
    }
}

fn noticed(notice: &Notice) -> (&'static str, Facts) {
    match notice {
        Notice::Spawned { .. }
        | Notice::SpawnFailed { .. }
        | Notice::Ready { .. }
        | Notice::Outgrew { .. }
        | Notice::Stopping { .. }
        | Notice::Left { .. }
        | Notice::Died { .. }
        | Notice::NotReaped { .. }
        | Notice::Evicted { .. } => of_worker(notice),
        Notice::PlacedAgain {
            job,
            resume_step,
            attempt,
        } => (
            "retried",
            Facts::none()
                .number("job", job.0)
                .number("resume_step", (*resume_step).into())
                .number("attempt", (*attempt).into()),
        ),
        Notice::BreakerOpened {
            model,
            failures,
            last,
            for_long,
        } => (
            "breaker_opened",
            Facts::none()
                .text("model", model)
                .number("failures", (*failures).into())
                .text("error", last)
                .milliseconds("for_ms", *for_long),
        ),
        Notice::BreakerClosed { model } => ("breaker_closed", Facts::none().text("model", model)),
        Notice::LoadCooling {
            model,
            message,
            for_long,
        } => (
            "load_failed",
            Facts::none()
                .text("model", model)
                .text("error", message)
                .milliseconds("for_ms", *for_long),
        ),
        Notice::Quarantined { job, digest, .. } => (
            "quarantined",
            Facts::none().number("job", job.0).text("digest", digest),
        ),
        Notice::Unreclaimed {
            worker,
            device,
            amount,
        } => (
            "unreclaimed",
            Facts::none()
                .generation(*worker)
                .text("device", device)
                .number("amount_mb", amount.0),
        ),
        Notice::DeviceLost { device, reason } => (
            "device_lost",
            Facts::none().text("device", device).text("reason", reason),
        ),
        Notice::DeviceRests {
            device,
            reason,
            for_long,
        } => (
            "device_rests",
            Facts::none()
                .text("device", device)
                .text("reason", reason)
                .milliseconds("for_ms", *for_long),
        ),
        Notice::DeviceBack { device } => ("device_back", Facts::none().text("device", device)),
        Notice::Draining { jobs } => ("draining", Facts::none().number("jobs", *jobs)),
        Notice::DrainUndone => ("drain_undone", Facts::none()),
        Notice::TruceAsked { device } => ("truce_asked", Facts::none().text("device", device)),
        Notice::TruceEnded { device } => ("truce_ended", Facts::none().text("device", device)),
        Notice::Yielding { for_long } => {
            ("yielding", Facts::none().milliseconds("for_ms", *for_long))
        }
        Notice::YieldEnded => ("yield_ended", Facts::none()),
        Notice::Defect { what } => ("defect", Facts::none().text("error", what)),
    }
}

/// The events about one worker.
fn of_worker(notice: &Notice) -> (&'static str, Facts) {
    match notice {
        Notice::Spawned {
            worker,
            name,
            pid,
            device,
            reserved,
        } => (
            "spawned",
            Facts::of(name)
                .text("model", &name.model)
                .generation(*worker)
                .number("pid", (*pid).into())
                .text("device", device.placement())
                .number("reserved_mb", reserved.0),
        ),
        Notice::SpawnFailed { name, message } => {
            ("spawn_failed", Facts::of(name).text("error", message))
        }
        Notice::Ready { worker, name, load } => (
            "ready",
            Facts::of(name)
                .generation(*worker)
                .milliseconds("load_ms", *load),
        ),
        Notice::Outgrew {
            worker,
            name,
            reserved,
            measured,
        } => (
            "outgrew",
            Facts::of(name)
                .generation(*worker)
                .number("reserved_mb", reserved.0)
                .number("measured_mb", measured.0),
        ),
        Notice::Stopping { worker, name, why } => (
            "stopping",
            Facts::of(name)
                .generation(*worker)
                .text("reason", why.word()),
        ),
        Notice::Left {
            worker, name, why, ..
        } => (
            "exited",
            Facts::of(name)
                .generation(*worker)
                .text("reason", why.word()),
        ),
        Notice::Died {
            worker,
            name,
            exit,
            doing,
            job,
            backoff,
            ..
        } => (
            "died",
            Facts::of(name)
                .generation(*worker)
                .text("exit", how(*exit))
                .text("doing", doing)
                .with(
                    "job",
                    job.map_or(FactValue::Absent, |job| FactValue::Number(job.0)),
                )
                .milliseconds("backoff_ms", *backoff),
        ),
        Notice::NotReaped {
            worker,
            name,
            since,
        } => (
            "not_reaped",
            Facts::of(name)
                .generation(*worker)
                .milliseconds("since_ms", *since),
        ),
        Notice::Evicted {
            name,
            for_model,
            freed,
        } => (
            "evicted",
            Facts::of(name)
                .text("for_model", for_model)
                .number("freed_mb", freed.0),
        ),
        Notice::PlacedAgain { .. }
        | Notice::BreakerOpened { .. }
        | Notice::BreakerClosed { .. }
        | Notice::LoadCooling { .. }
        | Notice::Quarantined { .. }
        | Notice::Unreclaimed { .. }
        | Notice::DeviceLost { .. }
        | Notice::DeviceRests { .. }
        | Notice::DeviceBack { .. }
        | Notice::Draining { .. }
        | Notice::DrainUndone
        | Notice::TruceAsked { .. }
        | Notice::TruceEnded { .. }
        | Notice::Yielding { .. }
        | Notice::YieldEnded
        | Notice::Defect { .. } => noticed(notice),
    }
}
