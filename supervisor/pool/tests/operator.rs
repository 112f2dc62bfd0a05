//! Verbs on one worker of several.

mod fixture;

use fixture::{PoolFixture, asked_to_leave, model, pictures, refusals, runs, starts};
use std::time::Duration;

use ipc_protocol::ids::{Generation, ModelKey, WorkerName};
use ipc_protocol::status::WorkerState;
use pool::{Action, Drain, Event, Settings, Target, Ticket};

const RESTART: Ticket = Ticket(7);

/// Two workers of one model are up.
fn pair() -> (PoolFixture, [Generation; 2]) {
    let fixture = PoolFixture::with_pair(vec![model("a", 100)]);
    let up = fixture.workers().try_into().expect("two workers");
    (fixture, up)
}

fn slot(slot: u32) -> Target {
    let model = ModelKey::new("a").expect("a plain key");
    Target::Worker(WorkerName { model, slot })
}

fn told(actions: &[Action], asked: Ticket) -> Option<(Vec<String>, bool)> {
    actions.iter().find_map(|action| match action {
        Action::Acknowledge {
            ticket,
            lines,
            success,
        } if *ticket == asked => Some((lines.clone(), *success)),
        _ => None,
    })
}

#[test]
fn a_restart_of_one_worker_is_reported_when_that_one_is_back() {
    let (mut fixture, [_, second]) = pair();
    let restart = Event::RestartRequested {
        ticket: RESTART,
        target: slot(1),
    };
    assert_eq!(asked_to_leave(&fixture.tell(restart)), [second]);
    let after = fixture.leave(second);
    assert_eq!(told(&after, RESTART), None, "its neighbour is no answer");
    let after = fixture.bring_up(starts(&after)[0].worker);
    let lines = vec!["a:1: stopped".into(), "a:1: started".into()];
    assert_eq!(told(&after, RESTART), Some((lines, true)));
}

#[test]
fn the_end_of_a_restart_starts_every_worker_that_is_missing_by_then() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 1000);
    let cold = starts(&fixture.ask_model("a"));
    let [first, second] = [cold[0].worker, cold[1].worker];
    let run = runs(&fixture.bring_up(first)).remove(0);
    fixture.bring_up(second);
    fixture.finish(&run);
    let restart = Event::RestartRequested {
        ticket: RESTART,
        target: slot(0),
    };
    assert_eq!(asked_to_leave(&fixture.tell(restart)), [first]);
    assert_eq!(starts(&fixture.die(second, 11, None)), [], "no job waits");
    assert_eq!(starts(&fixture.leave(first)).len(), 2);
}

#[test]
fn a_worker_that_is_stopped_while_it_restarts_stays_away() {
    let (mut fixture, [_, second]) = pair();
    let (restart, stop) = (RESTART, Ticket(8));
    fixture.tell(Event::RestartRequested {
        ticket: restart,
        target: slot(1),
    });
    fixture.tell(Event::StopRequested {
        ticket: stop,
        target: slot(1),
    });
    let after = fixture.leave(second);
    assert!(starts(&after).is_empty());
    assert_eq!(
        told(&after, stop),
        Some((vec!["a:1: stopped".into()], true))
    );
    let lines = vec!["a:1: stopped".into(), "a:1: ERROR (stopped)".into()];
    assert_eq!(told(&after, restart), Some((lines, false)));
}

#[test]
fn a_worker_without_room_beside_the_others_is_reported_at_once() {
    let mut fixture = PoolFixture::new(vec![model("a", 100), model("b", 100)], 250);
    let start = |ticket, target| Event::StartRequested { ticket, target };
    let first = starts(&fixture.tell(start(Ticket(1), slot(0))));
    fixture.bring_up(first[0].worker);
    let busy = starts(&fixture.ask_model("b"));
    fixture.bring_up(busy[0].worker);
    let after = fixture.tell(start(Ticket(2), slot(1)));
    let (lines, success) = told(&after, Ticket(2)).expect("an answer");
    assert!(
        !success && lines[0].starts_with("a:1: ERROR (no room"),
        "{lines:?}"
    );
}

#[test]
fn a_model_that_was_scaled_to_zero_is_not_stopped() {
    let (mut fixture, pair) = pair();
    let none = Event::Scaled {
        ticket: Ticket(2),
        model: "a".into(),
        workers: 0,
    };
    let leaving = asked_to_leave(&fixture.tell(none));
    assert_eq!(leaving.len(), 2);
    for worker in pair {
        fixture.leave(worker);
    }
    let snapshot = fixture.pool.snapshot(fixture.now);
    let at_rest = snapshot.models[0].at_rest.clone();
    assert_eq!(at_rest, Some((WorkerState::Exited, "Scaled down".into())));
    assert_eq!(starts(&fixture.ask_model("a")).len(), 2);
}

#[test]
fn an_evicted_model_comes_back_with_the_next_request_and_a_pinned_one_stays() {
    let (mut fixture, pair) = pair();
    let evict = || Event::EvictRequested {
        ticket: Ticket(2),
        model: "a".into(),
    };
    let pin = |pinned| Event::PinChanged {
        ticket: Ticket(3),
        model: "a".into(),
        pinned,
    };
    fixture.tell(pin(true));
    assert_eq!(
        asked_to_leave(&fixture.tell(evict())).len(),
        1,
        "one is pinned"
    );
    fixture.tell(pin(false));
    assert_eq!(asked_to_leave(&fixture.tell(evict())).len(), 1);
    for worker in pair {
        fixture.leave(worker);
    }
    assert!(asked_to_leave(&fixture.tell(evict())).is_empty());
    assert_eq!(starts(&fixture.ask_model("a")).len(), 2);
}

#[test]
fn a_snapshot_says_for_how_long_the_pool_drains() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 1000);
    assert_eq!(fixture.pool.snapshot(fixture.now).draining, None);
    fixture.pass(Duration::from_secs(5));
    let drain = || Event::DrainRequested {
        ticket: None,
        drain: Drain::Stay,
    };
    fixture.tell(drain());
    fixture.pass(Duration::from_secs(3));
    fixture.tell(drain());
    let so_far = fixture.pool.snapshot(fixture.now).draining;
    assert_eq!(so_far, Some(Duration::from_secs(3)));
}

#[test]
fn a_reload_lifts_stops_and_its_settings_apply_at_once() {
    let (mut fixture, _) = pair();
    let stop = Event::StopRequested {
        ticket: Ticket(2),
        target: Target::All,
    };
    for worker in asked_to_leave(&fixture.tell(stop)) {
        fixture.leave(worker);
    }
    assert_eq!(refusals(&fixture.ask_model("a")).len(), 1, "it is stopped");
    let reload = Event::SettingsChanged {
        settings: Box::new(Settings {
            min_workers: 1,
            ..fixture::settings()
        }),
    };
    assert_eq!(starts(&fixture.tell(reload)).len(), 1, "it keeps one now");
    assert!(refusals(&fixture.ask_model("a")).is_empty());
}

#[test]
fn a_worker_of_a_removed_model_leaves_after_its_job() {
    let (mut fixture, [first, second]) = pair();
    let run = runs(&fixture.ask_model("a")).remove(0);
    let other = [first, second]
        .into_iter()
        .find(|worker| *worker != run.worker);
    let gone = Event::ModelsChanged {
        registry: Box::default(),
    };
    let other = other.expect("there are two");
    assert_eq!(asked_to_leave(&fixture.tell(gone)), [other]);
    assert!(fixture.pool.is_leaving(other) && !fixture.pool.is_leaving(run.worker));
    let key = ModelKey::new("a").expect("a plain key");
    assert!(fixture.pool.is_model_leaving(&key));
    let after = fixture.finish(&run);
    assert_eq!(pictures(&after).len(), 1, "its job is finished");
    assert_eq!(asked_to_leave(&after), [run.worker]);
}
