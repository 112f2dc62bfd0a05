//! Workers that die, hang, cannot load, and jobs that kill.

mod fixture;

use std::time::Duration;

use fixture::{PoolFixture, failures, model, pictures, refusals, request, runs, starts};
use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{Generation, JobId, ModelKey};
use ipc_protocol::request::ImageRequest;
use pool::{Action, Drain, Event, Exit, JobFault, Run, StartFault, Target, Ticket};

/// A fixture with one worker that is busy.
fn busy() -> (PoolFixture, Run) {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 150);
    let start = starts(&fixture.ask_model("a")).remove(0);
    let run = runs(&fixture.bring_up(start.worker)).remove(0);
    (fixture, run)
}

fn exit(fixture: &mut PoolFixture, worker: Generation, code: i32) -> Vec<Action> {
    fixture.tell(Event::WorkerExited {
        worker,
        exit: Exit::Code(code),
        resume_step: None,
    })
}

#[test]
fn a_job_goes_on_elsewhere_from_its_last_finished_step() {
    let (mut fixture, run) = busy();
    for step in 1..=3 {
        let (worker, job) = (run.worker, run.job);
        fixture.tell(Event::StepFinished { worker, job, step });
    }
    let after = fixture.die(run.worker, 9, Some(3));
    let next = starts(&after).remove(0);
    let again = runs(&fixture.bring_up(next.worker)).remove(0);
    assert_eq!(
        (again.job, again.resume_step, again.attempt),
        (run.job, 3, 2)
    );
    assert_eq!(again.parameters, run.parameters);
    let (_, facts) = pictures(&fixture.finish(&again)).remove(0);
    assert_eq!((facts.attempts, facts.resume_step), (2, 3));
    fixture.check_books();
}

#[test]
fn a_job_that_crashed_two_workers_is_quarantined_with_the_evidence() {
    let (mut fixture, run) = busy();
    let next = starts(&fixture.die(run.worker, 11, None)).remove(0);
    fixture.bring_up(next.worker);
    let after = fixture.die(next.worker, 6, None);
    let (_, failure) = failures(&after).remove(0);
    assert_eq!(failure.kind, FailureKind::Quarantined);
    assert!(failure.message.contains("signal 11") && failure.message.contains("signal 6"));
    let other_seed = ImageRequest {
        seed: Some(999),
        ..request("a")
    };
    let refused = refusals(&fixture.ask(other_seed));
    assert_eq!(refused[0].kind, FailureKind::Quarantined);
    let ticket = Ticket(77);
    fixture.tell(Event::QuarantineReleased {
        ticket,
        digest: None,
    });
    assert!(refusals(&fixture.ask_model("a")).is_empty());
}

#[test]
fn a_silent_worker_is_asked_terminated_and_killed_and_its_job_goes_elsewhere() {
    let (mut fixture, run) = busy();
    let said = fixture.pass(Duration::from_secs(9));
    let worker = run.worker;
    let at = |wanted: &Action| said.iter().position(|action| action == wanted);
    let asked = at(&Action::AskToLeave { worker }).expect("asked");
    let terminated = at(&Action::Terminate { worker }).expect("terminated");
    let killed = at(&Action::Kill { worker }).expect("killed");
    assert!(asked < terminated && terminated < killed);
    assert!(
        fixture.pool.total_memory_mb() > 0,
        "not given back before the exit"
    );
    let after = fixture.die(worker, 9, Some(1));
    let next = starts(&after).remove(0);
    assert_eq!(runs(&fixture.bring_up(next.worker))[0].resume_step, 1);
}

#[test]
fn a_stalled_loop_makes_no_worker_silent_or_hung() {
    let (mut fixture, run) = busy();
    let lasted = Duration::from_secs(1000);
    fixture.now = fixture.now + lasted;
    fixture.tell(Event::LoopStalled { lasted });
    let said = fixture.pass(Duration::from_secs(4));
    assert!(
        !said.iter().any(|action| is_an_end(action, run.worker)),
        "{said:?}"
    );
    // What was left of its patience before is left after it, and not more.
    let said = fixture.pass(Duration::from_secs(2));
    assert!(
        said.iter().any(|action| is_an_end(action, run.worker)),
        "{said:?}"
    );
}

#[test]
fn a_time_limit_runs_while_the_loop_is_stalled() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 150);
    let request = ImageRequest {
        timeout_ms: Some(2000),
        ..ImageRequest::new("a fox")
    };
    fixture.ask(request);
    let lasted = Duration::from_secs(3);
    fixture.now = fixture.now + lasted;
    fixture.tell(Event::LoopStalled { lasted });
    let said = fixture.tell(Event::DeadlineReached);
    let answered = |action: &Action| matches!(action, Action::Answer { .. });
    assert!(said.iter().any(answered), "{said:?}");
}

fn is_an_end(action: &Action, of: Generation) -> bool {
    matches!(action, Action::AskToLeave { worker } if *worker == of)
}

#[test]
fn a_slow_load_with_signs_of_life_is_not_a_hang_but_one_without_progress_is() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 150);
    let worker = starts(&fixture.ask_model("a"))[0].worker;
    fixture.tell(Event::WorkerStarted { worker, pid: 1 });
    fixture.tell(Event::WorkerSaidHello { worker });
    fixture.cpu = fixture::reading;
    for permille in 1..20 {
        let said = fixture.pass_alive(Duration::from_secs(200));
        assert!(!said.contains(&Action::AskToLeave { worker }));
        fixture.tell(Event::LoadProgressed { worker, permille });
    }
    fixture.cpu = fixture::computing;
    let said = fixture.pass_alive(Duration::from_secs(301));
    assert!(said.contains(&Action::AskToLeave { worker }));
}

#[test]
fn a_step_that_takes_ten_times_the_usual_is_a_hang_although_the_heart_beats() {
    let (mut fixture, run) = busy();
    fixture.finish(&run);
    let again = runs(&fixture.ask_model("a")).remove(0);
    let (worker, job) = (again.worker, again.job);
    for step in 1..=2 {
        fixture.pass_alive(Duration::from_millis(800));
        fixture.tell(Event::StepFinished { worker, job, step });
    }
    let said = fixture.pass_alive(Duration::from_secs(9));
    assert!(said.contains(&Action::AskToLeave { worker }));
}

#[test]
fn a_load_that_cannot_work_is_answered_at_once_and_cools_down() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 150);
    let worker = starts(&fixture.ask_model("a"))[0].worker;
    fixture.tell(Event::WorkerStarted { worker, pid: 1 });
    fixture.tell(Event::WorkerSaidHello { worker });
    let message = "tensor double_blocks.0 is missing".to_string();
    fixture.tell(Event::LoadFailed { worker, message });
    let after = exit(&mut fixture, worker, 78);
    let (_, failure) = failures(&after).remove(0);
    assert_eq!(failure.kind, FailureKind::ModelUnusable);
    assert!(failure.message.contains("double_blocks"), "{failure}");
    // Its files may have been mended since.
    let model = ModelKey::new("a").expect("a key");
    let fetch = Action::Fetch {
        model: model.clone(),
    };
    assert!(fixture.ask_model("a").contains(&fetch));
    let refused = refusals(&fixture.tell(Event::FilesArrived { model })).remove(0);
    assert_eq!(refused.kind, FailureKind::ModelUnusable);
    assert_eq!(
        (refused.retry_after_ms, refused.kind.exit_code()),
        (None, 1)
    );
    fixture.pass(Duration::from_secs(11));
    assert_eq!(starts(&fixture.ask_model("a")).len(), 1);
}

#[test]
fn one_of_two_loads_that_fails_does_not_fail_the_request() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 1000);
    let started = starts(&fixture.ask_model("a"));
    fixture.tell(Event::WorkerStarted {
        worker: started[0].worker,
        pid: 1,
    });
    let after = exit(&mut fixture, started[0].worker, 66);
    assert!(failures(&after).is_empty());
    assert_eq!(runs(&fixture.bring_up(started[1].worker)).len(), 1);
}

#[test]
fn out_of_memory_while_loading_is_tried_once_more_with_more_room() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 150);
    let first = starts(&fixture.ask_model("a")).remove(0);
    fixture.tell(Event::WorkerStarted {
        worker: first.worker,
        pid: 1,
    });
    exit(&mut fixture, first.worker, 75);
    let second = starts(&fixture.pass(Duration::from_secs(2))).remove(0);
    let reserved: u64 = second.reserved.values().map(|part| part.0).sum();
    assert_eq!(reserved, 125);
    let after = exit(&mut fixture, second.worker, 75);
    assert_eq!(failures(&after)[0].1.kind, FailureKind::LoadRefused);
}

#[test]
fn five_crashes_in_a_row_open_the_breaker_of_that_model_alone_and_its_accepted_job_waits() {
    let mut fixture = PoolFixture::new(vec![model("a", 100), model("b", 100)], 150);
    let mut worker = starts(&fixture.ask_model("a"))[0].worker;
    for death in 1..=5 {
        fixture.tell(Event::WorkerStarted { worker, pid: death });
        let after = fixture.die(worker, 11, None);
        assert!(failures(&after).is_empty(), "{after:?}");
        if death < 5 {
            worker = starts(&fixture.pass(Duration::from_secs(31)))[0].worker;
        }
    }
    let refused = refusals(&fixture.ask_model("a")).remove(0);
    assert_eq!(refused.kind, FailureKind::ModelBroken);
    assert!(refused.retry_after_ms.is_some());
    let other = starts(&fixture.ask_model("b")).remove(0);
    let run = runs(&fixture.bring_up(other.worker)).remove(0);
    fixture.finish(&run);
    fixture.leave(other.worker);
    let again = starts(&fixture.pass(Duration::from_secs(60))).remove(0);
    let run = runs(&fixture.bring_up(again.worker)).remove(0);
    assert_eq!(pictures(&fixture.finish(&run))[0].0, JobId(1));
}

#[test]
fn a_message_of_a_generation_that_is_gone_changes_nothing() {
    let (mut fixture, run) = busy();
    let next = starts(&fixture.die(run.worker, 9, None)).remove(0);
    let before = fixture.pool.snapshot(fixture.now);
    let (worker, job) = (run.worker, run.job);
    let phases = pool::Phases::default();
    for event in [
        Event::JobFinished {
            worker,
            job,
            phases,
        },
        Event::StepFinished {
            worker,
            job,
            step: 2,
        },
        Event::WorkerReady {
            worker,
            footprint: None,
        },
        Event::WorkerExited {
            worker,
            exit: Exit::Code(0),
            resume_step: Some(4),
        },
    ] {
        assert!(fixture.tell(event).is_empty());
    }
    assert_eq!(fixture.pool.snapshot(fixture.now), before);
    assert_eq!(runs(&fixture.bring_up(next.worker))[0].resume_step, 0);
}

#[test]
fn a_cancelled_job_frees_its_worker_and_is_answered_once() {
    let (mut fixture, run) = busy();
    let (worker, job) = (run.worker, run.job);
    let by = "the client".to_string();
    let after = fixture.tell(Event::RequestCancelled { job, by });
    assert!(after.contains(&Action::Cancel { worker, job }));
    assert_eq!(failures(&after).len(), 1);
    fixture.ask_model("a");
    let fault = JobFault::Cancelled;
    let after = fixture.tell(Event::JobFailed { worker, job, fault });
    assert!(failures(&after).is_empty());
    assert_eq!(runs(&after).len(), 1, "the next job runs");
}

#[test]
fn a_stopped_model_refuses_until_it_is_started_again() {
    let (mut fixture, run) = busy();
    let ticket = Ticket(9);
    let target = Target::Model(run_model(&fixture));
    let target2 = target.clone();
    fixture.tell(Event::StopRequested { ticket, target });
    let after = fixture.leave(run.worker);
    assert_eq!(failures(&after)[0].1.kind, FailureKind::Stopped);
    assert!(after.contains(&Action::Acknowledge {
        ticket,
        lines: vec!["a:0: stopped".into()],
        success: true
    }));
    assert_eq!(
        refusals(&fixture.ask_model("a"))[0].kind,
        FailureKind::Stopped
    );
    let target = target2;
    let started = starts(&fixture.tell(Event::StartRequested { ticket, target }));
    let after = fixture.bring_up(started[0].worker);
    assert!(after.contains(&Action::Acknowledge {
        ticket,
        lines: vec!["a:0: started".into()],
        success: true
    }));
}

fn run_model(fixture: &PoolFixture) -> ipc_protocol::ids::ModelKey {
    fixture.pool.snapshot(fixture.now).models[0].key.clone()
}

#[test]
fn a_drain_refuses_what_is_new_finishes_what_is_accepted_and_exits_once_all_is_reaped() {
    let (mut fixture, run) = busy();
    fixture.tell(Event::DrainRequested {
        ticket: None,
        drain: Drain::Exit,
    });
    assert_eq!(
        refusals(&fixture.ask_model("a"))[0].kind,
        FailureKind::Draining
    );
    let after = fixture.finish(&run);
    assert_eq!(pictures(&after).len(), 1);
    assert!(!after.contains(&Action::Exit));
    assert_eq!(fixture.leave(run.worker).last(), Some(&Action::Exit));
    assert_eq!(fixture.pool.next_deadline(), None);
}

#[test]
fn a_drain_is_undone_unless_the_pool_is_on_its_way_out() {
    let wind_down = |fixture: &mut PoolFixture, drain| {
        let ticket = Some(Ticket(900));
        fixture.tell(Event::DrainRequested { ticket, drain })
    };
    let acknowledged = |said: &[Action]| {
        said.iter().find_map(|action| match action {
            Action::Acknowledge { success, .. } => Some(*success),
            _ => None,
        })
    };
    let (mut fixture, run) = busy();
    wind_down(&mut fixture, Drain::Stay);
    assert_eq!(refusals(&fixture.ask_model("a")).len(), 1);
    let said = wind_down(&mut fixture, Drain::Undo);
    assert_eq!(acknowledged(&said), Some(true));
    assert!(refusals(&fixture.ask_model("a")).is_empty());
    assert!(fixture.pool.snapshot(fixture.now).draining.is_none());
    wind_down(&mut fixture, Drain::Exit);
    let said = wind_down(&mut fixture, Drain::Undo);
    assert_eq!(acknowledged(&said), Some(false));
    assert_eq!(refusals(&fixture.ask_model("a")).len(), 1);
    drop(run);
}

#[test]
fn when_the_drain_time_is_over_jobs_fail_and_their_workers_are_terminated_at_once() {
    let (mut fixture, run) = busy();
    fixture.tell(Event::DrainRequested {
        ticket: None,
        drain: Drain::Exit,
    });
    let before = fixture.pass_alive(Duration::from_millis(4999));
    assert!(failures(&before).is_empty(), "{before:?}");
    let after = fixture.pass_alive(Duration::from_millis(1));
    assert_eq!(failures(&after)[0].1.kind, FailureKind::Draining);
    let worker = run.worker;
    assert!(after.contains(&Action::Terminate { worker }), "{after:?}");
    assert!(!after.contains(&Action::AskToLeave { worker }), "{after:?}");
    assert_eq!(fixture.die(worker, 15, None).last(), Some(&Action::Exit));
}

#[test]
fn a_client_gets_the_reason_why_workers_could_not_be_started() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 150);
    let mut coming = starts(&fixture.ask_model("a"));
    let why = "cannot start worker: Too many open files (os error 24)";
    let mut told = Vec::new();
    while let Some(start) = coming.pop() {
        let after = fixture.tell(Event::WorkerStartFailed {
            worker: start.worker,
            message: why.to_owned(),
            fault: StartFault::Own,
        });
        told = failures(&after);
        if told.is_empty() {
            let waits = fixture
                .pool
                .explain(fixture.now, JobId(1))
                .expect("it waits");
            assert!(waits.contains(why), "{waits}");
            coming = starts(&fixture.pass(Duration::from_secs(1)));
        }
    }
    let (_, failure) = told.remove(0);
    assert_eq!(failure.kind, FailureKind::LoadRefused);
    assert!(failure.message.contains(why), "{failure}");
    let snapshot = fixture.pool.snapshot(fixture.now);
    let (_, line) = snapshot.models[0].at_rest.clone().expect("no worker");
    assert!(line.contains(why), "{line}");
}

#[test]
fn a_job_waits_while_the_supervisor_has_no_descriptors_and_starts_once_it_has() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 150);
    let mut coming = starts(&fixture.ask_model("a"));
    let why = "cannot create a memfd: Too many open files (os error 24)";
    for _ in 0..100 {
        let after = fixture.tell(Event::WorkerStartFailed {
            worker: coming.pop().expect("it starts").worker,
            message: why.to_owned(),
            fault: StartFault::Descriptors,
        });
        assert!(failures(&after).is_empty(), "{after:?}");
        let waits = fixture.pool.explain(fixture.now, JobId(1));
        assert!(waits.expect("it waits").contains(why));
        coming = starts(&fixture.pass(Duration::from_secs(1)));
    }
    let worker = coming.pop().expect("it starts").worker;
    assert_eq!(runs(&fixture.bring_up(worker)).len(), 1);
}

#[test]
fn a_model_that_failed_too_often_says_what_the_last_failure_was() {
    let (mut fixture, first) = busy();
    let mut run = Some(first);
    while let Some(Run { worker, job, .. }) = run.take() {
        let message = "values of block 3 overflow".to_owned();
        let fault = JobFault::Other { message };
        fixture.tell(Event::JobFailed { worker, job, fault });
        run = runs(&fixture.ask_model("a")).pop();
    }
    let refused = refusals(&fixture.ask_model("a")).remove(0);
    assert_eq!(refused.kind, FailureKind::ModelBroken);
    assert!(refused.message.contains("5 times in a row"), "{refused}");
    assert!(refused.message.contains("block 3 overflow"), "{refused}");
}
