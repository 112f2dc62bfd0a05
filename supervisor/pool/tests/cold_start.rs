//! First requests: two workers, or one, or an eviction, or the sentence.

mod fixture;

use std::time::Duration;

use fixture::{
    PoolFixture, asked_to_leave, failures, host, model, refusals, request, runs, settings, starts,
};
use ipc_protocol::failure::FailureKind;
use ipc_protocol::request::ImageRequest;
use pool::{Action, Event, Settings, Target, Ticket};

#[test]
fn a_burst_of_first_requests_starts_two_workers_and_queues_twenty() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 1000);
    for _ in 0..50 {
        fixture.ask_model("a");
    }
    let started = starts(&fixture.said);
    assert_eq!(started.len(), 2);
    assert_eq!(started[0].name.to_string(), "a:0");
    assert_eq!(started[1].name.to_string(), "a:1");
    let refused = refusals(&fixture.said);
    assert_eq!(refused.len(), 30);
    assert!(
        refused
            .iter()
            .all(|failure| failure.kind == FailureKind::QueueFull)
    );
    assert!(refused[0].message.contains("queue full"), "{}", refused[0]);
    assert!(refused[0].retry_after_ms.is_some());
    fixture.check_books();
}

#[test]
fn few_workers_start_at_once_and_half_of_those_only_for_jobs() {
    let keys: Vec<String> = (0..20).map(|nth| format!("m{nth}")).collect();
    let models = keys.iter().map(|key| model(key, 100)).collect();
    let settings = Settings {
        max_starting_workers: 4,
        cold_start_workers: 1,
        ..settings()
    };
    let mut fixture = PoolFixture::with(settings, models, host(10_000));
    let (ticket, target) = (Ticket(99), Target::All);
    let all = fixture.tell(Event::StartRequested { ticket, target });
    assert_eq!(starts(&all).len(), 2, "an operator's");
    let for_job = starts(&fixture.ask_model("m19")).remove(0);
    assert_eq!(for_job.model.as_str(), "m19");
    assert_eq!(starts(&fixture.ask_model("m18")).len(), 1);
    assert_eq!(starts(&fixture.ask_model("m17")).len(), 0, "four start");
    let next = starts(&fixture.bring_up(for_job.worker)).remove(0);
    assert_eq!(next.model.as_str(), "m17", "jobs come first");
    let mut up = vec![for_job.worker];
    while let Some(coming) = starts(&fixture.said)
        .into_iter()
        .map(|start| start.worker)
        .find(|worker| !up.contains(worker))
    {
        fixture.bring_up(coming);
        up.push(coming);
    }
    assert_eq!(up.len(), 20);
    assert!(fixture.said.iter().any(|action| matches!(
        action,
        Action::Acknowledge { lines, success: true, .. } if lines.len() == 20
    )));
    fixture.check_books();
}

#[test]
fn growth_comes_one_by_one_after_a_wait_with_all_busy_and_stops_at_the_maximum() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 1000);
    for _ in 0..20 {
        fixture.ask_model("a");
    }
    fixture.pass_alive(Duration::from_secs(10));
    assert_eq!(
        starts(&fixture.said).len(),
        2,
        "none while some are starting"
    );
    for worker in fixture.workers() {
        fixture.bring_up(worker);
    }
    for expected in [3, 4] {
        fixture.pass_alive(Duration::from_secs(3));
        assert_eq!(starts(&fixture.said).len(), expected);
        fixture.pass_alive(Duration::from_secs(5));
        assert_eq!(starts(&fixture.said).len(), expected, "one is starting");
        let last = fixture.workers().into_iter().max().expect("some");
        fixture.bring_up(last);
    }
    fixture.pass_alive(Duration::from_secs(30));
    assert_eq!(starts(&fixture.said).len(), 4);
}

#[test]
fn where_only_one_fits_one_is_started() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 199);
    fixture.ask_model("a");
    assert_eq!(starts(&fixture.said).len(), 1);
    fixture.check_books();
}

#[test]
fn where_none_fits_the_refusal_is_the_sentence_with_the_arithmetic() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 99);
    for _ in 0..5 {
        let refused = refusals(&fixture.ask_model("a"));
        assert_eq!(refused[0].kind, FailureKind::MemoryExhausted);
        assert_eq!(
            refused[0].message,
            "Cannot spawn workers for a. Need 100 MB, only 99 MB available"
        );
    }
    assert!(starts(&fixture.said).is_empty());
    assert_eq!(fixture.pool.total_memory_mb(), 0);
}

#[test]
fn an_idle_worker_of_another_model_makes_room_and_a_busy_one_is_waited_for() {
    let mut fixture = PoolFixture::new(vec![model("a", 100), model("b", 100)], 150);
    let started = starts(&fixture.ask_model("a"));
    let run = runs(&fixture.bring_up(started[0].worker)).remove(0);
    let waiting = fixture.ask_model("b");
    assert!(starts(&waiting).is_empty() && refusals(&waiting).is_empty());
    let job = fixture
        .pool
        .snapshot(fixture.now)
        .queue
        .last()
        .expect("it waits")
        .job;
    let why = fixture.pool.explain(fixture.now, job).expect("it waits");
    assert!(why.contains("others are at work"), "{why}");
    let after = fixture.finish(&run);
    assert_eq!(asked_to_leave(&after), [run.worker]);
    assert!(
        starts(&fixture.said[1..]).len() <= 1,
        "not before the process is gone"
    );
    let gone = fixture.leave(run.worker);
    assert_eq!(starts(&gone)[0].name.to_string(), "b:0");
    let counters = fixture.pool.snapshot(fixture.now).counters;
    assert_eq!((counters.evictions, counters.swaps), (1, 1));
}

#[test]
fn a_pinned_model_is_not_evicted_and_the_refusal_says_so() {
    let mut pinned = model("a", 100);
    pinned.pinned = true;
    let mut fixture = PoolFixture::new(vec![pinned, model("b", 100)], 150);
    let started = starts(&fixture.ask_model("a"));
    let run = runs(&fixture.bring_up(started[0].worker)).remove(0);
    fixture.finish(&run);
    let refused = refusals(&fixture.ask_model("b"));
    assert_eq!(
        refused[0].message,
        "Cannot spawn workers for b. Need 100 MB, only 50 MB available"
    );
}

#[test]
fn images_of_one_request_take_all_their_places_or_none() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 1000);
    let many = |count| ImageRequest {
        count,
        seed: Some(u64::MAX),
        ..request("a")
    };
    assert_eq!(refusals(&fixture.ask(many(21))).len(), 1);
    assert!(fixture.pool.snapshot(fixture.now).queue.is_empty());
    let taken = fixture.ask(many(20));
    assert!(refusals(&taken).is_empty());
    let first = fixture.workers()[0];
    let second = fixture.workers()[1];
    let mut seeds: Vec<u64> = Vec::new();
    for worker in [first, second] {
        seeds.extend(
            runs(&fixture.bring_up(worker))
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
    let mut fixture = PoolFixture::with(settings, vec![model("a", 100)], fixture::host(1000));
    fixture.ask_model("a");
    assert_eq!(starts(&fixture.said).len(), 1);
}

#[test]
fn idle_workers_leave_one_by_one_and_the_ledger_returns_to_zero() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 1000);
    let started = starts(&fixture.ask_model("a"));
    for start in &started {
        for run in runs(&fixture.bring_up(start.worker)) {
            fixture.finish(&run);
        }
    }
    assert!(asked_to_leave(&fixture.pass_alive(Duration::from_secs(59))).is_empty());
    let first = asked_to_leave(&fixture.pass_alive(Duration::from_secs(2)));
    assert_eq!(first.len(), 1);
    fixture.leave(first[0]);
    assert!(asked_to_leave(&fixture.pass_alive(Duration::from_secs(58))).is_empty());
    let second = asked_to_leave(&fixture.pass_alive(Duration::from_secs(2)));
    fixture.leave(second[0]);
    assert_eq!(fixture.pool.total_memory_mb(), 0);
    let rest = &fixture.pool.snapshot(fixture.now).models[0].at_rest;
    let (state, why) = rest.as_ref().expect("no worker is left");
    assert_eq!((state.word(), why.as_str()), ("EXITED", "Idle"));
}

#[test]
fn of_two_loads_without_waiting_jobs_one_continues() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 1000);
    fixture.ask_model("a");
    let job = fixture.pool.snapshot(fixture.now).queue[0].job;
    let by = "the client".to_string();
    let after = fixture.tell(pool::Event::RequestCancelled { job, by });
    assert_eq!(failures(&after)[0].1.kind, FailureKind::Cancelled);
    assert_eq!(asked_to_leave(&after).len(), 1);
}

#[test]
fn two_hundred_cycles_of_start_and_eviction_leave_the_ledger_at_zero() {
    let mut fixture = PoolFixture::new(vec![model("a", 100), model("b", 120)], 130);
    for cycle in 0..200 {
        let key = if cycle % 2 == 0 { "a" } else { "b" };
        let mut said = fixture.ask_model(key);
        if let Some(&old) = asked_to_leave(&said).first() {
            said = fixture.leave(old);
        }
        let start = starts(&said).remove(0);
        let run = runs(&fixture.bring_up(start.worker)).remove(0);
        fixture.finish(&run);
        fixture.check_books();
    }
    let last = fixture.workers()[0];
    fixture.pass_alive(Duration::from_secs(61));
    fixture.leave(last);
    assert_eq!(fixture.pool.total_memory_mb(), 0);
}
