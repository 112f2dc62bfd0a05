//! The end of a worker is blamed on a request only with evidence, never for what the machine did.

mod fixture;

use std::time::Duration;

use fixture::{
    PoolFixture, computing, failures, model, pictures, reading, refusals, runs, starts, starved,
};
use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{Generation, JobId};
use ipc_protocol::request::ImageRequest;
use pool::{
    Action, Event, Exit, JobFault, KilledBy, Notice, Run, Settings, StartFault, StopReason, Ticket,
};

/// A fixture with one worker that is busy.
fn busy() -> (PoolFixture, Run) {
    busy_with(fixture::settings())
}

fn busy_with(settings: Settings) -> (PoolFixture, Run) {
    let mut fixture = PoolFixture::with(settings, vec![model("a", 100)], fixture::host(150));
    let start = starts(&fixture.ask_model("a")).remove(0);
    let run = runs(&fixture.bring_up(start.worker)).remove(0);
    (fixture, run)
}

/// The next attempt after `after`, once its worker was allowed to start.
fn next_run(fixture: &mut PoolFixture, after: &[Action]) -> (Run, Duration) {
    let (mut started, mut waited) = (starts(after), Duration::ZERO);
    while started.is_empty() {
        waited += Duration::from_millis(100);
        assert!(waited < Duration::from_secs(61), "no worker starts");
        started = starts(&fixture.pass(Duration::from_millis(100)));
    }
    (runs(&fixture.bring_up(started[0].worker)).remove(0), waited)
}

#[test]
fn a_job_whose_workers_are_killed_from_outside_ten_times_is_still_drawn() {
    let (mut fixture, mut run) = busy();
    let mut waited = Duration::ZERO;
    for signal in [9, 15, 2, 1, 3, 9, 9, 9, 9, 9] {
        let after = fixture.die(run.worker, signal, None);
        assert!(failures(&after).is_empty(), "{after:?}");
        let (next, pause) = next_run(&mut fixture, &after);
        (run, waited) = (next, waited + pause);
    }
    assert_eq!(pictures(&fixture.finish(&run)).len(), 1);
    assert!(waited <= Duration::from_secs(6), "waited for {waited:?}");
    assert!(refusals(&fixture.ask_model("a")).is_empty());
    fixture.check_books();
}

#[test]
fn a_worker_killed_from_outside_is_replaced_at_once() {
    let (mut fixture, run) = busy();
    let after = fixture.die(run.worker, 9, None);
    assert_eq!(starts(&after).len(), 1);
    let (run, _) = next_run(&mut fixture, &after);
    let after = fixture.die(run.worker, 9, None);
    assert_eq!(starts(&after).len(), 1);
}

#[test]
fn a_job_that_lost_sixteen_workers_to_something_outside_fails_with_the_cause_and_a_retry() {
    let (mut fixture, mut run) = busy();
    for attempt in 1..=16 {
        assert_eq!(run.attempt, attempt);
        let after = fixture.die(run.worker, 9, None);
        if attempt < 16 {
            run = next_run(&mut fixture, &after).0;
            continue;
        }
        let (_, failure) = failures(&after).remove(0);
        assert_eq!(failure.kind, FailureKind::WorkerLost);
        assert_eq!(failure.kind.exit_code(), 75);
        assert!(failure.retry_after_ms.is_some());
        assert!(
            failure
                .message
                .contains("signal 9 (sent by another process"),
            "{failure}"
        );
    }
    assert!(refusals(&fixture.ask_model("a")).is_empty());
}

#[test]
fn an_attempt_that_finished_a_step_is_not_lost() {
    let (mut fixture, mut run) = busy();
    let mut request = fixture::request("a");
    request.steps = Some(40);
    fixture.finish(&run);
    run = runs(&fixture.ask(request)).remove(0);
    for step in 1..=30 {
        let (worker, job) = (run.worker, run.job);
        fixture.tell(Event::StepFinished { worker, job, step });
        let after = fixture.die(run.worker, 9, Some(step));
        run = next_run(&mut fixture, &after).0;
        assert_eq!(run.resume_step, step);
    }
    assert_eq!(pictures(&fixture.finish(&run)).len(), 1);
}

#[test]
fn kernel_kills_for_memory_are_held_against_neither_model_nor_job() {
    let (mut fixture, mut run) = busy();
    for _ in 0..8 {
        let after = fixture.die_for_memory(run.worker);
        assert!(failures(&after).is_empty());
        run = next_run(&mut fixture, &after).0;
    }
    assert_eq!(pictures(&fixture.finish(&run)).len(), 1);
}

#[test]
fn a_lost_device_is_never_the_fault_of_its_job() {
    let (mut fixture, mut run) = busy();
    for _ in 0..6 {
        let after = fixture.exit(run.worker, 81);
        assert!(failures(&after).is_empty());
        run = next_run(&mut fixture, &after).0;
    }
    assert_eq!(pictures(&fixture.finish(&run)).len(), 1);
}

#[test]
fn a_job_that_runs_out_of_memory_goes_again_with_more_room_and_is_not_accused() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 190);
    let start = starts(&fixture.ask_model("a")).remove(0);
    let run = runs(&fixture.bring_up(start.worker)).remove(0);
    let reserved = fixture.pool.total_memory_mb();
    let after = fixture.exit(run.worker, 80);
    let (run, _) = next_run(&mut fixture, &after);
    assert_eq!(fixture.pool.total_memory_mb(), reserved + 64);
    let after = fixture.exit(run.worker, 80);
    let (_, failure) = failures(&after).remove(0);
    assert_eq!(failure.kind, FailureKind::MemoryExhausted);
    assert!(failure.message.contains("code 80"), "{failure}");
    assert!(
        refusals(&fixture.ask_model("a")).is_empty(),
        "not quarantined"
    );
}

#[test]
fn a_cut_model_file_is_held_against_the_model_and_not_against_the_request() {
    let (mut fixture, run) = busy();
    let after = fixture.tell(Event::WorkerExited {
        worker: run.worker,
        exit: Exit::Signal {
            signal: 7,
            by: KilledBy::CutFile,
        },
        resume_step: None,
    });
    let (_, failure) = failures(&after).remove(0);
    assert_ne!(failure.kind, FailureKind::Quarantined);
    assert!(failure.message.contains("model file"), "{failure}");
    fixture.pass(Duration::from_secs(11));
    let after = fixture.ask_model("a");
    assert!(refusals(&after).is_empty(), "{after:?}");
    let run = next_run(&mut fixture, &after).0;
    assert_eq!(pictures(&fixture.finish(&run)).len(), 1);
}

#[test]
fn a_start_that_finds_no_descriptor_is_tried_again_and_then_told() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 150);
    let mut worker = starts(&fixture.ask_model("a"))[0].worker;
    for nth in 1..=5 {
        let message = "Too many open files (os error 24)".to_string();
        let fault = StartFault::Own;
        let after = fixture.tell(Event::WorkerStartFailed {
            worker,
            message,
            fault,
        });
        if nth < 5 {
            assert!(failures(&after).is_empty());
            worker = starts(&fixture.pass(Duration::from_secs(1)))[0].worker;
            continue;
        }
        let (_, failure) = failures(&after).remove(0);
        assert_eq!(failure.kind, FailureKind::LoadRefused);
        assert!(failure.message.contains("Too many open files"), "{failure}");
    }
    fixture.pass(Duration::from_secs(10));
    let after = fixture.ask_model("a");
    let run = next_run(&mut fixture, &after).0;
    assert_eq!(pictures(&fixture.finish(&run)).len(), 1);
}

#[test]
fn a_quarantine_ends_after_its_time_and_the_list_says_when() {
    let settings = Settings {
        quarantine: Duration::from_secs(100),
        ..fixture::settings()
    };
    let (mut fixture, run) = busy_with(settings);
    let after = fixture.die(run.worker, 11, None);
    let (run, _) = next_run(&mut fixture, &after);
    let after = fixture.die(run.worker, 6, None);
    assert_eq!(failures(&after)[0].1.kind, FailureKind::Quarantined);
    fixture.pass(Duration::from_secs(40));
    let refused = refusals(&fixture.ask_model("a")).remove(0);
    assert_eq!(refused.kind, FailureKind::Quarantined);
    assert!(refused.message.contains("60 s more"), "{refused}");
    assert!(list(&mut fixture)[0].contains("ends in 60 s"));
    let asks = "a fox";
    assert!(list(&mut fixture)[0].contains(asks), "for an operator");
    assert!(list_for(&mut fixture, Some("uid:1"))[0].contains(asks));
    for other in ["uid:2", "uid:11", "uid:"] {
        let line = list_for(&mut fixture, Some(other)).remove(0);
        assert!(!line.contains(asks), "{other}: {line}");
        assert!(line.contains("of another user"), "{other}: {line}");
    }
    fixture.pass(Duration::from_secs(60));
    assert!(list(&mut fixture).is_empty());
    assert!(refusals(&fixture.ask_model("a")).is_empty());
}

fn list(fixture: &mut PoolFixture) -> Vec<String> {
    list_for(fixture, None)
}

fn list_for(fixture: &mut PoolFixture, reader: Option<&str>) -> Vec<String> {
    let ticket = Ticket(500);
    let reader = reader.map(str::to_owned);
    let listed = fixture.tell(Event::QuarantineListed { ticket, reader });
    match &listed[0] {
        Action::Acknowledge { lines, .. } => lines.clone(),
        other => panic!("{other:?}"),
    }
}

fn told_to_leave(said: &[Action]) -> Option<StopReason> {
    said.iter().find_map(|action| match action {
        Action::Tell(pool::Notice::Stopping { why, .. }) => Some(*why),
        _ => None,
    })
}

#[test]
fn a_worker_that_sleeps_in_its_first_step_is_found_within_seconds() {
    let (mut fixture, run) = busy();
    let said = fixture.pass_alive(Duration::from_secs(11));
    assert_eq!(told_to_leave(&said), Some(StopReason::Stuck));
    let after = fixture.die(run.worker, 9, None);
    assert_eq!(next_run(&mut fixture, &after).0.attempt, 2);
}

#[test]
fn a_small_model_that_computes_without_end_is_found_within_half_a_minute() {
    let (mut fixture, _) = busy();
    fixture.cpu = computing;
    let said = fixture.pass_alive(Duration::from_secs(30));
    assert_eq!(told_to_leave(&said), Some(StopReason::Stuck));
}

#[test]
fn a_first_step_of_a_hundred_seconds_is_not_a_hang_while_it_makes_progress() {
    let (mut fixture, run) = busy();
    fixture.cpu = computing;
    let worker = run.worker;
    for work in 1..=10 {
        let said = fixture.pass_alive(Duration::from_secs(10));
        assert_eq!(told_to_leave(&said), None);
        fixture.tell(Event::WorkerWorked { worker, work });
    }
    assert_eq!(pictures(&fixture.finish(&run)).len(), 1);
}

#[test]
fn a_large_model_may_compute_for_a_hundred_seconds_before_its_first_step() {
    let mut fixture = PoolFixture::new(vec![model("a", 4000)], 5000);
    let start = starts(&fixture.ask_model("a")).remove(0);
    let run = runs(&fixture.bring_up(start.worker)).remove(0);
    fixture.cpu = computing;
    let said = fixture.pass_alive(Duration::from_secs(100));
    assert_eq!(told_to_leave(&said), None);
    assert_eq!(pictures(&fixture.finish(&run)).len(), 1);
}

#[test]
fn a_worker_without_the_processor_or_behind_a_slow_disk_does_not_hang() {
    for cpu in [starved, reading] {
        let (mut fixture, run) = busy();
        fixture.cpu = cpu;
        let said = fixture.pass_alive(Duration::from_secs(500));
        assert_eq!(told_to_leave(&said), None);
        assert_eq!(pictures(&fixture.finish(&run)).len(), 1);
    }
}

#[test]
fn a_starved_worker_is_not_waited_for_without_end_and_its_job_is_not_accused() {
    let (mut fixture, run) = busy();
    fixture.cpu = reading;
    let said = fixture.pass_alive(Duration::from_secs(3601));
    assert_eq!(told_to_leave(&said), Some(StopReason::Starved));
    let after = fixture.die(run.worker, 9, None);
    let (run, _) = next_run(&mut fixture, &after);
    fixture.pass_alive(Duration::from_secs(3601));
    let after = fixture.die(run.worker, 9, None);
    assert!(failures(&after).is_empty());
}

#[test]
fn a_worker_that_only_says_that_it_works_is_ended() {
    let (mut fixture, run) = busy();
    let worker = run.worker;
    let mut told = None;
    for work in 1..=1000 {
        let said = fixture.pass_alive(Duration::from_secs(4));
        told = told.or(told_to_leave(&said));
        fixture.tell(Event::WorkerWorked { worker, work });
    }
    assert_eq!(told, Some(StopReason::Stuck));
}

#[test]
fn a_kernel_that_does_not_answer_is_not_waited_for() {
    let (mut fixture, _) = busy();
    fixture.cpu = |_| None;
    let said = fixture.pass_alive(Duration::from_secs(40));
    assert_eq!(told_to_leave(&said), Some(StopReason::Stuck));
    let asked = |action: &&Action| matches!(action, Action::Measure { .. });
    assert!(said.iter().filter(asked).count() < 20);
}

#[test]
fn a_load_without_progress_is_ended_and_the_second_one_fails_its_job() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 150);
    let mut worker = starts(&fixture.ask_model("a"))[0].worker;
    let began = fixture.now;
    for nth in 1..=2 {
        fixture.tell(Event::WorkerStarted { worker, pid: nth });
        fixture.tell(Event::WorkerSaidHello { worker });
        let said = fixture.pass_alive(Duration::from_secs(32));
        assert_eq!(told_to_leave(&said), Some(StopReason::Stuck));
        let after = fixture.die(worker, 9, None);
        if nth == 2 {
            assert_eq!(failures(&after)[0].1.kind, FailureKind::LoadRefused);
            break;
        }
        let mut started = starts(&after);
        started.extend(starts(&fixture.pass(Duration::from_secs(2))));
        worker = started[0].worker;
    }
    assert!(fixture.now.since(began) < Duration::from_secs(90));
}

#[test]
fn a_silent_worker_is_not_evidence_against_its_job() {
    let (mut fixture, mut run) = busy();
    for _ in 0..3 {
        fixture.pass(Duration::from_secs(9));
        let after = fixture.die(run.worker, 9, None);
        assert!(failures(&after).is_empty());
        run = next_run(&mut fixture, &after).0;
    }
    assert_eq!(pictures(&fixture.finish(&run)).len(), 1);
}

#[test]
fn clients_that_ask_and_leave_start_no_second_load() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 1000);
    let mut started: Vec<Generation> = Vec::new();
    for nth in 1..=100 {
        let said = fixture.ask_model("a");
        started.extend(starts(&said).iter().map(|start| start.worker));
        fixture.tell(Event::ClientGone {
            ticket: Ticket(nth),
        });
        fixture.pass(Duration::from_millis(100));
        for worker in fixture.workers() {
            fixture.tell(Event::WorkerHeard { worker });
        }
    }
    assert!(started.len() <= 2, "{} starts", started.len());
    fixture.bring_up(started[0]);
    assert_eq!(
        runs(&fixture.ask_model("a")).len(),
        1,
        "the load was of use"
    );
}

#[test]
fn a_load_without_waiting_jobs_leaves_for_a_model_that_needs_its_room() {
    let mut fixture = PoolFixture::new(vec![model("a", 100), model("b", 100)], 150);
    let worker = starts(&fixture.ask_model("a"))[0].worker;
    fixture.tell(Event::WorkerStarted { worker, pid: 1 });
    fixture.tell(Event::ClientGone { ticket: Ticket(1) });
    let after = fixture.ask_model("b");
    assert!(after.contains(&Action::AskToLeave { worker }));
    assert_eq!(starts(&fixture.leave(worker)).len(), 1);
}

#[test]
fn more_pictures_than_may_ever_wait_are_a_bad_value() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 150);
    let mut request = fixture::request("a");
    request.count = 21;
    let refused = refusals(&fixture.ask(request)).remove(0);
    assert_eq!(refused.kind, FailureKind::BadValue);
    assert_eq!(refused.field, Some(ipc_protocol::failure::Field::Count));
    assert!(refused.message.contains("20"), "{refused}");
}

#[test]
fn a_waiting_job_gets_the_rest_of_the_job_before_it_by_that_jobs_own_steps() {
    let (mut fixture, run) = busy();
    fixture.finish(&run);
    let mut request = fixture::request("a");
    request.steps = Some(60);
    let long = runs(&fixture.ask(request)).remove(0);
    for step in 1..=10 {
        fixture.pass_alive(Duration::from_secs(1));
        let (worker, job) = (long.worker, long.job);
        fixture.tell(Event::StepFinished { worker, job, step });
    }
    fixture.ask_model("a");
    let waiting = ipc_protocol::ids::JobId(long.job.0 + 1);
    let text = fixture
        .pool
        .explain(fixture.now, waiting)
        .expect("it waits");
    let eta = text
        .split("its turn in about ")
        .nth(1)
        .expect("its turn is said");
    let eta: f64 = eta
        .split(' ')
        .next()
        .expect("a number")
        .parse()
        .expect("a number");
    assert!((40.0..=51.0).contains(&eta), "{text}");
}

/// A fixture whose one worker is busy with a job that others wait behind, each with a prompt of its own.
fn queued(prompts: &[&str]) -> (PoolFixture, Run) {
    let settings = Settings {
        max_workers_per_model: 1,
        ..fixture::settings()
    };
    let mut fixture = PoolFixture::with(settings, vec![model("a", 100)], fixture::host(150));
    let mut said = Vec::new();
    for prompt in prompts {
        let request = ImageRequest {
            model: Some("a".into()),
            ..ImageRequest::new(*prompt)
        };
        said.extend(fixture.ask(request));
    }
    let start = starts(&said).remove(0);
    let run = runs(&fixture.bring_up(start.worker)).remove(0);
    (fixture, run)
}

fn opened(said: &[Action]) -> bool {
    let opens = |action: &Action| matches!(action, Action::Tell(Notice::BreakerOpened { .. }));
    said.iter().any(opens)
}

#[test]
fn requests_that_kill_their_workers_cost_no_other_job_its_picture() {
    let poisons = ["poison 1", "poison 2", "poison 3", "poison 4"];
    let goods = ["good 1", "good 2", "good 3"];
    let (mut fixture, mut run) = queued(&[&poisons[..], &goods[..]].concat());
    let (mut drawn, mut quarantined, mut deaths) = (0, 0, 0);
    while drawn + quarantined < poisons.len() + goods.len() {
        let after = match run.parameters.prompt.starts_with("poison") {
            true => {
                deaths += 1;
                fixture.die(run.worker, 11, None)
            }
            false => fixture.finish(&run),
        };
        drawn += pictures(&after).len();
        for (_, failure) in failures(&after) {
            assert_eq!(failure.kind, FailureKind::Quarantined, "{failure}");
            quarantined += 1;
        }
        if drawn + quarantined < poisons.len() + goods.len() {
            run = match runs(&after).pop() {
                Some(next) => next,
                None => next_run(&mut fixture, &after).0,
            };
        }
    }
    assert_eq!((drawn, quarantined), (goods.len(), poisons.len()));
    assert_eq!(deaths, 2 * poisons.len());
    assert!(!opened(&fixture.said));
    assert!(
        fixture.now.0 < 10_000_000,
        "the others wait: {:?}",
        fixture.now
    );
}

#[test]
fn an_open_breaker_ends_no_accepted_job_and_refuses_only_new_ones() {
    let prompts = ["1", "2", "3", "4", "5", "6"];
    let (mut fixture, mut run) = queued(&prompts);
    for nth in 1..=5 {
        let message = "values of block 3 overflow".to_owned();
        let fault = JobFault::Other { message };
        let (worker, job) = (run.worker, run.job);
        let after = fixture.tell(Event::JobFailed { worker, job, fault });
        assert_eq!(failures(&after).len(), 1);
        match nth {
            5 => assert!(runs(&after).is_empty() && opened(&after)),
            _ => run = runs(&after).remove(0),
        }
    }
    fixture.leave(run.worker);
    let refused = refusals(&fixture.ask_model("a")).remove(0);
    assert_eq!(refused.kind, FailureKind::ModelBroken);
    assert_eq!(refused.retry_after_ms, Some(60_000));
    let again = starts(&fixture.pass(Duration::from_secs(60))).remove(0);
    let run = runs(&fixture.bring_up(again.worker)).remove(0);
    assert_eq!(pictures(&fixture.finish(&run))[0].0, JobId(6));
}

#[test]
fn a_job_behind_an_open_breaker_ends_at_its_own_time_limit() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 150);
    let mut said = fixture.ask(ImageRequest {
        timeout_ms: Some(200_000),
        ..fixture::request("a")
    });
    let mut ended = Vec::new();
    for _ in 0..=200 {
        for start in starts(&said) {
            let worker = start.worker;
            fixture.tell(Event::WorkerStarted { worker, pid: 1 });
            fixture.die(worker, 11, None);
        }
        said = fixture.pass(Duration::from_secs(1));
        ended.extend(failures(&said));
    }
    assert!(opened(&fixture.said));
    let kinds: Vec<FailureKind> = ended.iter().map(|(_, failure)| failure.kind).collect();
    assert_eq!(kinds, [FailureKind::DeadlineExceeded]);
}

#[test]
fn sixteen_loads_in_a_row_that_end_fail_the_waiting_jobs_and_rest_the_model_no_longer() {
    for signal in [9, 11] {
        let mut fixture = PoolFixture::new(vec![model("a", 100)], 150);
        let mut after = fixture.ask_model("a");
        for nth in 1..=16 {
            assert!(failures(&after).is_empty(), "after {nth}: {after:?}");
            let mut started = starts(&after);
            while started.is_empty() {
                started = starts(&fixture.pass(Duration::from_millis(500)));
            }
            let worker = started[0].worker;
            fixture.tell(Event::WorkerStarted { worker, pid: nth });
            fixture.tell(Event::WorkerSaidHello { worker });
            after = fixture.die(worker, signal, None);
        }
        let (_, failure) = failures(&after).remove(0);
        assert_eq!(failure.kind, FailureKind::LoadRefused);
        assert!(
            failure.message.contains(&format!("signal {signal}")),
            "{failure}"
        );
        if signal == 9 {
            let asked = fixture.ask_model("a");
            assert!(refusals(&asked).is_empty(), "{asked:?}");
            let said = [asked, fixture.pass(Duration::from_secs(1))].concat();
            assert_eq!(starts(&said).len(), 1);
        }
    }
}

#[test]
fn a_job_that_gets_further_between_crashes_is_not_accused_of_them() {
    let (mut fixture, mut run) = busy();
    for step in 1..=3 {
        let (worker, job) = (run.worker, run.job);
        fixture.tell(Event::StepFinished { worker, job, step });
        let after = fixture.die(run.worker, [6, 8, 11][step as usize - 1], Some(step));
        assert!(failures(&after).is_empty(), "{after:?}");
        run = next_run(&mut fixture, &after).0;
    }
    let after = fixture.die(run.worker, 11, None);
    let (_, failure) = failures(&after).remove(0);
    assert_eq!(failure.kind, FailureKind::Quarantined);
    assert!(
        failure.message.matches("step 3/4").count() == 2,
        "{failure}"
    );
    assert!(!failure.message.contains("step 1/4"), "{failure}");
}

#[test]
fn crashes_at_one_step_count_together_however_many_jobs_ask_for_the_same() {
    let settings = Settings {
        cold_start_workers: 2,
        ..fixture::settings()
    };
    let mut fixture = PoolFixture::with(settings, vec![model("a", 100)], fixture::host(250));
    let mut request = fixture::request("a");
    request.count = 10;
    let started = starts(&fixture.ask(request));
    let running = [0, 1].map(|nth| runs(&fixture.bring_up(started[nth].worker)).remove(0));
    let first = fixture.die(running[0].worker, 11, None);
    assert!(failures(&first).is_empty());
    let second = fixture.die(running[1].worker, 11, None);
    assert_eq!(failures(&second).len(), 10);
    for (_, failure) in failures(&second) {
        assert_eq!(failure.kind, FailureKind::Quarantined);
    }
    let refused = refusals(&fixture.ask_model("a")).remove(0);
    assert_eq!(refused.kind, FailureKind::Quarantined);
    fixture.check_books();
}

#[test]
fn a_bus_error_without_a_changed_file_is_tried_again() {
    let (mut fixture, run) = busy();
    let after = fixture.die(run.worker, 7, None);
    assert!(failures(&after).is_empty());
    let run = next_run(&mut fixture, &after).0;
    assert_eq!(pictures(&fixture.finish(&run)).len(), 1);
}

#[test]
fn attempts_without_a_new_step_end_after_four_hours() {
    let (mut fixture, mut run) = busy();
    fixture.cpu = reading;
    let mut told = Vec::new();
    for _ in 0..6 {
        let after = fixture.die(run.worker, 9, None);
        told.extend(failures(&after));
        if !told.is_empty() {
            break;
        }
        run = next_run(&mut fixture, &after).0;
        fixture.pass_alive(Duration::from_secs(3500));
    }
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1.kind, FailureKind::WorkerLost);
    assert!(fixture.now.0 > 4 * 3600 * 1_000_000);
}

#[test]
fn two_crashes_quarantine_a_job_although_others_of_its_workers_were_killed_from_outside() {
    let (mut fixture, mut run) = busy();
    for signal in [9, 11, 15, 9] {
        let after = fixture.die(run.worker, signal, None);
        run = next_run(&mut fixture, &after).0;
    }
    let after = fixture.die(run.worker, 6, None);
    let (_, failure) = failures(&after).remove(0);
    assert_eq!(failure.kind, FailureKind::Quarantined);
    assert!(failure.message.contains("signal 11") && failure.message.contains("signal 6"));
    assert!(!failure.message.contains("signal 15"), "{failure}");
    let fault = JobFault::Cancelled;
    let (worker, job) = (run.worker, run.job);
    assert!(
        fixture
            .tell(Event::JobFailed { worker, job, fault })
            .is_empty()
    );
}
