//! First requests: two workers, or one, or an eviction, or the sentence.

mod desk;

use std::time::Duration;

use desk::{Desk, asked_to_leave, failures, model, refusals, request, runs, settings, starts};
use ipc_protocol::failure::FailureKind;
use ipc_protocol::request::ImageRequest;
use pool::Settings;

#[test]
fn a_burst_of_first_requests_starts_two_workers_and_queues_twenty() {
    let mut desk = Desk::new(vec![model("a", 100)], 1000);
    for _ in 0..50 {
        desk.ask_model("a");
    }
    let started = starts(&desk.said);
    assert_eq!(started.len(), 2);
    assert_eq!(started[0].name.to_string(), "a:0");
    assert_eq!(started[1].name.to_string(), "a:1");
    let refused = refusals(&desk.said);
    assert_eq!(refused.len(), 30);
    assert!(
        refused
            .iter()
            .all(|failure| failure.kind == FailureKind::QueueFull)
    );
    assert!(refused[0].message.contains("queue full"), "{}", refused[0]);
    assert!(refused[0].retry_after_ms.is_some());
    desk.check_books();
}

#[test]
fn growth_comes_one_by_one_after_a_wait_with_all_busy_and_stops_at_the_maximum() {
    let mut desk = Desk::new(vec![model("a", 100)], 1000);
    for _ in 0..20 {
        desk.ask_model("a");
    }
    desk.pass_alive(Duration::from_secs(10));
    assert_eq!(starts(&desk.said).len(), 2, "none while some are starting");
    for worker in desk.workers() {
        desk.bring_up(worker);
    }
    for expected in [3, 4] {
        desk.pass_alive(Duration::from_secs(3));
        assert_eq!(starts(&desk.said).len(), expected);
        desk.pass_alive(Duration::from_secs(5));
        assert_eq!(starts(&desk.said).len(), expected, "one is starting");
        let last = desk.workers().into_iter().max().expect("some");
        desk.bring_up(last);
    }
    desk.pass_alive(Duration::from_secs(30));
    assert_eq!(starts(&desk.said).len(), 4);
}

#[test]
fn where_only_one_fits_one_is_started() {
    let mut desk = Desk::new(vec![model("a", 100)], 199);
    desk.ask_model("a");
    assert_eq!(starts(&desk.said).len(), 1);
    desk.check_books();
}

#[test]
fn where_none_fits_the_refusal_is_the_sentence_with_the_arithmetic() {
    let mut desk = Desk::new(vec![model("a", 100)], 99);
    for _ in 0..5 {
        let refused = refusals(&desk.ask_model("a"));
        assert_eq!(refused[0].kind, FailureKind::MemoryExhausted);
        assert_eq!(
            refused[0].message,
            "Cannot spawn workers for a. Need 100 MB, only 99 MB available"
        );
    }
    assert!(starts(&desk.said).is_empty());
    assert_eq!(desk.pool.total_memory_mb(), 0);
}

#[test]
fn an_idle_worker_of_another_model_makes_room_and_a_busy_one_is_waited_for() {
    let mut desk = Desk::new(vec![model("a", 100), model("b", 100)], 150);
    let started = starts(&desk.ask_model("a"));
    let run = runs(&desk.bring_up(started[0].worker)).remove(0);
    let waiting = desk.ask_model("b");
    assert!(starts(&waiting).is_empty() && refusals(&waiting).is_empty());
    let job = desk
        .pool
        .snapshot(desk.now)
        .queue
        .last()
        .expect("it waits")
        .job;
    let why = desk.pool.explain(desk.now, job).expect("it waits");
    assert!(why.contains("others are at work"), "{why}");
    let after = desk.finish(&run);
    assert_eq!(asked_to_leave(&after), [run.worker]);
    assert!(
        starts(&desk.said[1..]).len() <= 1,
        "not before the process is gone"
    );
    let gone = desk.leave(run.worker);
    assert_eq!(starts(&gone)[0].name.to_string(), "b:0");
    let counters = desk.pool.snapshot(desk.now).counters;
    assert_eq!((counters.evictions, counters.swaps), (1, 1));
}

#[test]
fn a_pinned_model_is_not_evicted_and_the_refusal_says_so() {
    let mut pinned = model("a", 100);
    pinned.pinned = true;
    let mut desk = Desk::new(vec![pinned, model("b", 100)], 150);
    let started = starts(&desk.ask_model("a"));
    let run = runs(&desk.bring_up(started[0].worker)).remove(0);
    desk.finish(&run);
    let refused = refusals(&desk.ask_model("b"));
    assert_eq!(
        refused[0].message,
        "Cannot spawn workers for b. Need 100 MB, only 50 MB available"
    );
}

#[test]
fn images_of_one_request_take_all_their_places_or_none() {
    let mut desk = Desk::new(vec![model("a", 100)], 1000);
    let many = |count| ImageRequest {
        count,
        seed: Some(u64::MAX),
        ..request("a")
    };
    assert_eq!(refusals(&desk.ask(many(21))).len(), 1);
    assert!(desk.pool.snapshot(desk.now).queue.is_empty());
    let taken = desk.ask(many(20));
    assert!(refusals(&taken).is_empty());
    let first = desk.workers()[0];
    let second = desk.workers()[1];
    let mut seeds: Vec<u64> = Vec::new();
    for worker in [first, second] {
        seeds.extend(
            runs(&desk.bring_up(worker))
                .iter()
                .map(|run| run.parameters.seed),
        );
    }
    assert_eq!(seeds, [u64::MAX, 0], "seed + i, wrapping");
}

#[test]
fn a_model_with_one_worker_at_most_gets_one() {
    let settings = Settings {
        max_workers_per_model: 1,
        ..settings()
    };
    let mut desk = Desk::with(settings, vec![model("a", 100)], desk::host(1000));
    desk.ask_model("a");
    assert_eq!(starts(&desk.said).len(), 1);
}

#[test]
fn idle_workers_leave_one_by_one_and_the_ledger_returns_to_zero() {
    let mut desk = Desk::new(vec![model("a", 100)], 1000);
    let started = starts(&desk.ask_model("a"));
    for start in &started {
        for run in runs(&desk.bring_up(start.worker)) {
            desk.finish(&run);
        }
    }
    assert!(asked_to_leave(&desk.pass_alive(Duration::from_secs(59))).is_empty());
    let first = asked_to_leave(&desk.pass_alive(Duration::from_secs(2)));
    assert_eq!(first.len(), 1);
    desk.leave(first[0]);
    assert!(asked_to_leave(&desk.pass_alive(Duration::from_secs(58))).is_empty());
    let second = asked_to_leave(&desk.pass_alive(Duration::from_secs(2)));
    desk.leave(second[0]);
    assert_eq!(desk.pool.total_memory_mb(), 0);
    let rest = &desk.pool.snapshot(desk.now).models[0].at_rest;
    let (state, why) = rest.as_ref().expect("no worker is left");
    assert_eq!((state.word(), why.as_str()), ("EXITED", "Idle"));
}

#[test]
fn of_two_loads_that_nobody_waits_for_any_more_one_goes_on() {
    let mut desk = Desk::new(vec![model("a", 100)], 1000);
    desk.ask_model("a");
    let job = desk.pool.snapshot(desk.now).queue[0].job;
    let by = "the client".to_string();
    let after = desk.tell(pool::Event::RequestCancelled { job, by });
    assert_eq!(failures(&after)[0].1.kind, FailureKind::Cancelled);
    assert_eq!(asked_to_leave(&after).len(), 1);
}

#[test]
fn two_hundred_cycles_of_start_and_eviction_leave_the_ledger_at_zero() {
    let mut desk = Desk::new(vec![model("a", 100), model("b", 120)], 130);
    for cycle in 0..200 {
        let key = if cycle % 2 == 0 { "a" } else { "b" };
        let mut said = desk.ask_model(key);
        if let Some(&old) = asked_to_leave(&said).first() {
            said = desk.leave(old);
        }
        let start = starts(&said).remove(0);
        let run = runs(&desk.bring_up(start.worker)).remove(0);
        desk.finish(&run);
        desk.check_books();
    }
    let last = desk.workers()[0];
    desk.pass_alive(Duration::from_secs(61));
    desk.leave(last);
    assert_eq!(desk.pool.total_memory_mb(), 0);
}
