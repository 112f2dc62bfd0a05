//! Workers that hold more memory than was promised to them.

mod fixture;

use std::time::Duration;

use fixture::{PoolFixture, failures, model, pictures, refusals, runs, starts};
use ipc_protocol::ids::Generation;
use ipc_protocol::units::Mebibytes;
use pool::{Action, Event, Exit, Footprint, KilledBy, Notice, Run, Settings, StopReason};

/// Two busy workers of two models, 100 MB each.
fn two_busy(limit: u64) -> (PoolFixture, [Run; 2]) {
    let settings = Settings {
        cold_start_workers: 1,
        ..fixture::settings()
    };
    let models = vec![model("a", 100), model("b", 100)];
    let mut fixture = PoolFixture::with(settings, models, fixture::host(limit));
    let busy = ["a", "b"].map(|key| {
        let start = starts(&fixture.ask_model(key)).remove(0);
        runs(&fixture.bring_up(start.worker)).remove(0)
    });
    (fixture, busy)
}

fn weigh(fixture: &mut PoolFixture, worker: Generation, host: u64) -> Vec<Action> {
    let footprint = Footprint {
        host: Mebibytes(host),
        device: Mebibytes(0),
    };
    fixture.tell(Event::FootprintMeasured { worker, footprint })
}

fn told_outgrown(said: &[Action]) -> Vec<Generation> {
    let told = |action: &Action| match action {
        Action::Tell(Notice::Stopping { worker, why, .. }) if *why == StopReason::Outgrown => {
            Some(*worker)
        }
        _ => None,
    };
    said.iter().filter_map(told).collect()
}

#[test]
fn the_growth_of_a_busy_worker_is_in_the_books() {
    let (mut fixture, [one, _]) = two_busy(300);
    assert!(told_outgrown(&weigh(&mut fixture, one.worker, 165)).is_empty());
    assert_eq!(fixture.pool.total_memory_mb(), 265);
    fixture.check_books();
    // The same again is no further growth, and less gives nothing back.
    weigh(&mut fixture, one.worker, 165);
    weigh(&mut fixture, one.worker, 20);
    assert_eq!(fixture.pool.total_memory_mb(), 265);
    assert_eq!(pictures(&fixture.finish(&one)).len(), 1);
    fixture.leave(one.worker);
    assert_eq!(fixture.pool.total_memory_mb(), 100);
}

#[test]
fn beyond_the_limit_the_worker_that_outgrew_most_ends_and_its_job_is_retried_with_more_room() {
    let (mut fixture, [one, two]) = two_busy(250);
    assert!(told_outgrown(&weigh(&mut fixture, one.worker, 130)).is_empty());
    // The second passes the limit, but the first outgrew its reservation by more.
    let said = weigh(&mut fixture, two.worker, 125);
    assert_eq!(told_outgrown(&said), [one.worker]);
    fixture.check_books();
    // Its memory is on its way back: no other ends.
    assert!(told_outgrown(&weigh(&mut fixture, two.worker, 126)).is_empty());
    let after = fixture.tell(Event::WorkerExited {
        worker: one.worker,
        exit: Exit::Signal {
            signal: 15,
            by: KilledBy::Us,
        },
        resume_step: None,
    });
    assert!(failures(&after).is_empty());
    assert_eq!(pictures(&fixture.finish(&two)).len(), 1);
    fixture.leave(two.worker);
    let mut started = starts(&fixture.said);
    while started.len() < 3 {
        fixture.pass(Duration::from_millis(500));
        started = starts(&fixture.said);
    }
    let again = started.remove(2);
    let reserved: u64 = again.reserved.values().map(|part| part.0).sum();
    assert!(
        reserved >= 143,
        "{reserved}: the measured need and a margin"
    );
    let run = runs(&fixture.bring_up(again.worker)).remove(0);
    assert_eq!(run.job, one.job);
    assert_eq!(pictures(&fixture.finish(&run)).len(), 1);
    assert!(refusals(&fixture.ask_model("a")).is_empty());
}

#[test]
fn a_worker_that_has_the_device_for_itself_is_only_reported() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 150);
    let start = starts(&fixture.ask_model("a")).remove(0);
    let run = runs(&fixture.bring_up(start.worker)).remove(0);
    let said = weigh(&mut fixture, run.worker, 400);
    let outgrew = |action: &Action| matches!(action, Action::Tell(Notice::Outgrew { .. }));
    assert!(said.iter().any(outgrew) && told_outgrown(&said).is_empty());
    assert_eq!(fixture.pool.total_memory_mb(), 150);
    assert_eq!(pictures(&fixture.finish(&run)).len(), 1);
}
