//! Progress is demanded in every state, and its lack is found in seconds.

mod fixture;

use std::time::Duration;

use fixture::{PoolFixture, computing, model, reading, runs, starts, starved, still};
use ipc_protocol::ids::Generation;
use pool::{Action, Event, Notice, StopReason};

/// A worker of a small model is found to hang within this time, whatever it hangs in.
const FOUND_MAX: Duration = Duration::from_secs(10);

fn told_to_leave(said: &[Action]) -> Option<StopReason> {
    said.iter().find_map(|action| match action {
        Action::Tell(Notice::Stopping { why, .. }) => Some(*why),
        _ => None,
    })
}

/// A pool with a model of this size and its first worker, whose process is about to exist.
fn starting(mb: u64) -> (PoolFixture, Generation) {
    let mut fixture = PoolFixture::new(vec![model("a", mb)], mb + mb / 2);
    let worker = starts(&fixture.ask_model("a"))[0].worker;
    (fixture, worker)
}

fn loading(mb: u64) -> (PoolFixture, Generation) {
    let (mut fixture, worker) = starting(mb);
    fixture.tell(Event::WorkerStarted { worker, pid: 1 });
    fixture.tell(Event::WorkerSaidHello { worker });
    (fixture, worker)
}

#[test]
fn a_worker_without_a_hello_is_found_within_ten_seconds() {
    for cpu in [still, computing] {
        let (mut fixture, worker) = starting(20);
        fixture.cpu = cpu;
        fixture.tell(Event::WorkerStarted { worker, pid: 1 });
        let said = fixture.pass(FOUND_MAX + Duration::from_secs(1));
        assert_eq!(told_to_leave(&said), Some(StopReason::NoHello));
    }
}

#[test]
fn a_hello_may_wait_for_a_slow_disk_or_the_processor() {
    for cpu in [reading, starved] {
        let (mut fixture, worker) = starting(20);
        fixture.cpu = cpu;
        fixture.tell(Event::WorkerStarted { worker, pid: 1 });
        let said = fixture.pass(Duration::from_secs(55));
        assert_eq!(told_to_leave(&said), None);
        assert_eq!(runs(&fixture.bring_up(worker)).len(), 1);
    }
}

#[test]
fn a_worker_that_greets_and_beats_and_does_not_load_is_found_within_ten_seconds() {
    for cpu in [still, computing] {
        let (mut fixture, _) = loading(20);
        fixture.cpu = cpu;
        let said = fixture.pass_alive(FOUND_MAX);
        assert_eq!(told_to_leave(&said), Some(StopReason::Stuck));
    }
}

#[test]
fn a_load_that_waits_for_a_slow_disk_goes_on() {
    let (mut fixture, worker) = loading(20);
    fixture.cpu = reading;
    for permille in [1, 2, 3] {
        assert_eq!(
            told_to_leave(&fixture.pass_alive(Duration::from_secs(600))),
            None
        );
        fixture.tell(Event::LoadProgressed { worker, permille });
    }
}

#[test]
fn a_large_model_that_has_loaded_before_may_compute_for_two_usual_loads() {
    let large = 10_000;
    let (mut fixture, worker) = loading(large);
    fixture.cpu = computing;
    // Nothing is known: what its size says.
    assert_eq!(
        told_to_leave(&fixture.pass_alive(Duration::from_secs(20))),
        None
    );
    let run = runs(&fixture.tell(Event::WorkerReady {
        worker,
        footprint: None,
    }))
    .remove(0);
    fixture.finish(&run);
    fixture.leave(worker);
    let worker = starts(&fixture.ask_model("a"))[0].worker;
    fixture.tell(Event::WorkerStarted { worker, pid: 2 });
    fixture.tell(Event::WorkerSaidHello { worker });
    assert_eq!(
        told_to_leave(&fixture.pass_alive(Duration::from_secs(35))),
        None
    );
    let said = fixture.pass_alive(Duration::from_secs(10));
    assert_eq!(told_to_leave(&said), Some(StopReason::Stuck));
}

/// Lets a worker count work once a second, and returns how long it was believed.
fn believed(fixture: &mut PoolFixture, worker: Generation, most: u64) -> Option<u64> {
    (1..=most).find(|second| {
        let said = fixture.pass_alive(Duration::from_secs(1));
        let work = *second;
        fixture.tell(Event::WorkerWorked { worker, work });
        told_to_leave(&said).is_some()
    })
}

#[test]
fn work_that_leads_to_no_part_of_a_load_and_no_step_is_believed_for_a_minute_or_two() {
    for cpu in [still, computing] {
        let (mut fixture, worker) = loading(20);
        fixture.cpu = cpu;
        let loaded = believed(&mut fixture, worker, 600).expect("it is ended");
        assert!((60..=80).contains(&loaded), "{loaded} s");
        let (mut fixture, worker) = starting(20);
        fixture.cpu = cpu;
        assert_eq!(runs(&fixture.bring_up(worker)).len(), 1);
        let drawn = believed(&mut fixture, worker, 600).expect("it is ended");
        assert!((60..=80).contains(&drawn), "{drawn} s");
    }
}

#[test]
fn work_of_a_worker_that_gets_less_than_it_wants_is_believed_for_much_longer() {
    for cpu in [starved, reading] {
        let (mut fixture, worker) = starting(20);
        fixture.cpu = cpu;
        assert_eq!(runs(&fixture.bring_up(worker)).len(), 1);
        assert_eq!(believed(&mut fixture, worker, 1000), None);
    }
}
