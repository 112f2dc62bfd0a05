//! Workers that die, hang, cannot load, and jobs that kill.

mod desk;

use std::time::Duration;

use desk::{Desk, failures, model, pictures, refusals, request, runs, starts};
use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{Generation, JobId};
use ipc_protocol::request::ImageRequest;
use pool::{Action, Drain, Event, Exit, Fault, Run, StartFault, Target, Ticket};

/// A desk with one worker that is busy.
fn busy() -> (Desk, Run) {
    let mut desk = Desk::new(vec![model("a", 100)], 150);
    let start = starts(&desk.ask_model("a")).remove(0);
    let run = runs(&desk.bring_up(start.worker)).remove(0);
    (desk, run)
}

fn exit(desk: &mut Desk, worker: Generation, code: i32) -> Vec<Action> {
    desk.tell(Event::WorkerExited {
        worker,
        exit: Exit::Code(code),
        salvaged_step: None,
    })
}

#[test]
fn a_job_goes_on_elsewhere_from_its_last_finished_step() {
    let (mut desk, run) = busy();
    for step in 1..=3 {
        let (worker, job) = (run.worker, run.job);
        desk.tell(Event::StepFinished { worker, job, step });
    }
    let after = desk.die(run.worker, 9, Some(3));
    let next = starts(&after).remove(0);
    let again = runs(&desk.bring_up(next.worker)).remove(0);
    assert_eq!((again.job, again.from_step, again.attempt), (run.job, 3, 2));
    assert_eq!(again.parameters, run.parameters);
    let (_, facts) = pictures(&desk.finish(&again)).remove(0);
    assert_eq!((facts.attempts, facts.resumed_from_step), (2, 3));
    desk.check_books();
}

#[test]
fn a_job_that_crashed_two_workers_is_quarantined_with_the_evidence() {
    let (mut desk, run) = busy();
    let next = starts(&desk.die(run.worker, 11, None)).remove(0);
    desk.bring_up(next.worker);
    let after = desk.die(next.worker, 6, None);
    let (_, failure) = failures(&after).remove(0);
    assert_eq!(failure.kind, FailureKind::Quarantined);
    assert!(failure.message.contains("signal 11") && failure.message.contains("signal 6"));
    let other_seed = ImageRequest {
        seed: Some(999),
        ..request("a")
    };
    let refused = refusals(&desk.ask(other_seed));
    assert_eq!(refused[0].kind, FailureKind::Quarantined);
    let ticket = Ticket(77);
    desk.tell(Event::QuarantineReleased {
        ticket,
        digest: None,
    });
    assert!(refusals(&desk.ask_model("a")).is_empty());
}

#[test]
fn a_silent_worker_is_asked_terminated_and_killed_and_its_job_goes_elsewhere() {
    let (mut desk, run) = busy();
    let said = desk.pass(Duration::from_secs(9));
    let worker = run.worker;
    let at = |wanted: &Action| said.iter().position(|action| action == wanted);
    let asked = at(&Action::AskToLeave { worker }).expect("asked");
    let terminated = at(&Action::Terminate { worker }).expect("terminated");
    let killed = at(&Action::Kill { worker }).expect("killed");
    assert!(asked < terminated && terminated < killed);
    assert!(
        desk.pool.total_memory_mb() > 0,
        "not given back before the exit"
    );
    let after = desk.die(worker, 9, Some(1));
    let next = starts(&after).remove(0);
    assert_eq!(runs(&desk.bring_up(next.worker))[0].from_step, 1);
}

#[test]
fn a_time_in_which_nobody_could_be_heard_is_no_silence_and_no_hang() {
    let (mut desk, run) = busy();
    let lasted = Duration::from_secs(1000);
    desk.now = desk.now + lasted;
    desk.tell(Event::LoopStalled { lasted });
    let said = desk.pass(Duration::from_secs(4));
    assert!(
        !said.iter().any(|action| is_an_end(action, run.worker)),
        "{said:?}"
    );
    // What was left of its patience before is left after it, and not more.
    let said = desk.pass(Duration::from_secs(2));
    assert!(
        said.iter().any(|action| is_an_end(action, run.worker)),
        "{said:?}"
    );
}

#[test]
fn a_time_limit_runs_while_nobody_could_be_heard() {
    let mut desk = Desk::new(vec![model("a", 100)], 150);
    let request = ImageRequest {
        timeout_ms: Some(2000),
        ..ImageRequest::new("a fox")
    };
    desk.ask(request);
    let lasted = Duration::from_secs(3);
    desk.now = desk.now + lasted;
    desk.tell(Event::LoopStalled { lasted });
    let said = desk.tell(Event::DeadlineReached);
    let answered = |action: &Action| matches!(action, Action::Answer { .. });
    assert!(said.iter().any(answered), "{said:?}");
}

fn is_an_end(action: &Action, of: Generation) -> bool {
    matches!(action, Action::AskToLeave { worker } if *worker == of)
}

#[test]
fn a_slow_load_with_signs_of_life_is_not_a_hang_but_one_without_progress_is() {
    let mut desk = Desk::new(vec![model("a", 100)], 150);
    let worker = starts(&desk.ask_model("a"))[0].worker;
    desk.tell(Event::WorkerStarted { worker, pid: 1 });
    desk.tell(Event::WorkerSaidHello { worker });
    desk.cpu = desk::computing;
    for permille in 1..20 {
        let said = desk.pass_alive(Duration::from_secs(200));
        assert!(!said.contains(&Action::AskToLeave { worker }));
        desk.tell(Event::LoadProgressed { worker, permille });
    }
    let said = desk.pass_alive(Duration::from_secs(301));
    assert!(said.contains(&Action::AskToLeave { worker }));
}

#[test]
fn a_step_that_takes_ten_times_the_usual_is_a_hang_although_the_heart_beats() {
    let (mut desk, run) = busy();
    desk.finish(&run);
    let again = runs(&desk.ask_model("a")).remove(0);
    let (worker, job) = (again.worker, again.job);
    for step in 1..=2 {
        desk.pass_alive(Duration::from_millis(800));
        desk.tell(Event::StepFinished { worker, job, step });
    }
    let said = desk.pass_alive(Duration::from_secs(9));
    assert!(said.contains(&Action::AskToLeave { worker }));
}

#[test]
fn a_load_that_cannot_work_is_answered_at_once_and_cools_down() {
    let mut desk = Desk::new(vec![model("a", 100)], 150);
    let worker = starts(&desk.ask_model("a"))[0].worker;
    desk.tell(Event::WorkerStarted { worker, pid: 1 });
    desk.tell(Event::WorkerSaidHello { worker });
    let message = "tensor double_blocks.0 is missing".to_string();
    desk.tell(Event::LoadFailed { worker, message });
    let after = exit(&mut desk, worker, 78);
    let (_, failure) = failures(&after).remove(0);
    assert_eq!(failure.kind, FailureKind::ModelUnusable);
    assert!(failure.message.contains("double_blocks"), "{failure}");
    let refused = refusals(&desk.ask_model("a")).remove(0);
    assert_eq!(refused.kind, FailureKind::ModelUnusable);
    assert_eq!(
        (refused.retry_after_ms, refused.kind.exit_code()),
        (None, 1)
    );
    desk.pass(Duration::from_secs(11));
    assert_eq!(starts(&desk.ask_model("a")).len(), 1);
}

#[test]
fn one_of_two_loads_that_fails_does_not_fail_the_request() {
    let mut desk = Desk::new(vec![model("a", 100)], 1000);
    let started = starts(&desk.ask_model("a"));
    desk.tell(Event::WorkerStarted {
        worker: started[0].worker,
        pid: 1,
    });
    let after = exit(&mut desk, started[0].worker, 66);
    assert!(failures(&after).is_empty());
    assert_eq!(runs(&desk.bring_up(started[1].worker)).len(), 1);
}

#[test]
fn out_of_memory_while_loading_is_tried_once_more_with_more_room() {
    let mut desk = Desk::new(vec![model("a", 100)], 150);
    let first = starts(&desk.ask_model("a")).remove(0);
    desk.tell(Event::WorkerStarted {
        worker: first.worker,
        pid: 1,
    });
    exit(&mut desk, first.worker, 75);
    let second = starts(&desk.pass(Duration::from_secs(2))).remove(0);
    let reserved: u64 = second.reserved.values().map(|part| part.0).sum();
    assert_eq!(reserved, 125);
    let after = exit(&mut desk, second.worker, 75);
    assert_eq!(failures(&after)[0].1.kind, FailureKind::LoadRefused);
}

#[test]
fn five_crashes_in_a_row_open_the_breaker_of_that_model_alone() {
    let mut desk = Desk::new(vec![model("a", 100), model("b", 100)], 150);
    let mut worker = starts(&desk.ask_model("a"))[0].worker;
    for death in 1..=5 {
        desk.tell(Event::WorkerStarted { worker, pid: death });
        let after = desk.die(worker, 11, None);
        if death == 5 {
            assert_eq!(failures(&after)[0].1.kind, FailureKind::ModelBroken);
        } else {
            worker = starts(&desk.pass(Duration::from_secs(31)))[0].worker;
        }
    }
    assert_eq!(
        refusals(&desk.ask_model("a"))[0].kind,
        FailureKind::ModelBroken
    );
    assert!(refusals(&desk.ask_model("b")).is_empty());
}

#[test]
fn a_message_of_a_generation_that_is_gone_changes_nothing() {
    let (mut desk, run) = busy();
    let next = starts(&desk.die(run.worker, 9, None)).remove(0);
    let before = desk.pool.snapshot(desk.now);
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
            salvaged_step: Some(4),
        },
    ] {
        assert!(desk.tell(event).is_empty());
    }
    assert_eq!(desk.pool.snapshot(desk.now), before);
    assert_eq!(runs(&desk.bring_up(next.worker))[0].from_step, 0);
}

#[test]
fn a_cancelled_job_frees_its_worker_and_is_answered_once() {
    let (mut desk, run) = busy();
    let (worker, job) = (run.worker, run.job);
    let by = "the client".to_string();
    let after = desk.tell(Event::RequestCancelled { job, by });
    assert!(after.contains(&Action::Cancel { worker, job }));
    assert_eq!(failures(&after).len(), 1);
    desk.ask_model("a");
    let fault = Fault::Cancelled;
    let after = desk.tell(Event::JobFailed { worker, job, fault });
    assert!(failures(&after).is_empty());
    assert_eq!(runs(&after).len(), 1, "the next job runs");
}

#[test]
fn a_stopped_model_refuses_until_it_is_started_again() {
    let (mut desk, run) = busy();
    let ticket = Ticket(9);
    let target = Target::Model(run_model(&desk));
    let target2 = target.clone();
    desk.tell(Event::StopRequested { ticket, target });
    let after = desk.leave(run.worker);
    assert_eq!(failures(&after)[0].1.kind, FailureKind::Stopped);
    assert!(after.contains(&Action::Acknowledge {
        ticket,
        lines: vec!["a:0: stopped".into()],
        success: true
    }));
    assert_eq!(refusals(&desk.ask_model("a"))[0].kind, FailureKind::Stopped);
    let target = target2;
    let started = starts(&desk.tell(Event::StartRequested { ticket, target }));
    let after = desk.bring_up(started[0].worker);
    assert!(after.contains(&Action::Acknowledge {
        ticket,
        lines: vec!["a:0: started".into()],
        success: true
    }));
}

fn run_model(desk: &Desk) -> ipc_protocol::ids::ModelKey {
    desk.pool.snapshot(desk.now).models[0].key.clone()
}

#[test]
fn a_drain_refuses_what_is_new_finishes_what_is_accepted_and_exits_once_all_is_reaped() {
    let (mut desk, run) = busy();
    desk.tell(Event::DrainRequested {
        ticket: None,
        drain: Drain::Exit,
    });
    assert_eq!(
        refusals(&desk.ask_model("a"))[0].kind,
        FailureKind::Draining
    );
    let after = desk.finish(&run);
    assert_eq!(pictures(&after).len(), 1);
    assert!(!after.contains(&Action::Exit));
    assert_eq!(desk.leave(run.worker).last(), Some(&Action::Exit));
    assert_eq!(desk.pool.next_deadline(), None);
}

#[test]
fn a_drain_is_undone_unless_the_pool_is_on_its_way_out() {
    let wind_down = |desk: &mut Desk, drain| {
        let ticket = Some(Ticket(900));
        desk.tell(Event::DrainRequested { ticket, drain })
    };
    let acknowledged = |said: &[Action]| {
        said.iter().find_map(|action| match action {
            Action::Acknowledge { success, .. } => Some(*success),
            _ => None,
        })
    };
    let (mut desk, run) = busy();
    wind_down(&mut desk, Drain::Stay);
    assert_eq!(refusals(&desk.ask_model("a")).len(), 1);
    let said = wind_down(&mut desk, Drain::Undo);
    assert_eq!(acknowledged(&said), Some(true));
    assert!(refusals(&desk.ask_model("a")).is_empty());
    assert!(desk.pool.snapshot(desk.now).draining.is_none());
    wind_down(&mut desk, Drain::Exit);
    let said = wind_down(&mut desk, Drain::Undo);
    assert_eq!(acknowledged(&said), Some(false));
    assert_eq!(refusals(&desk.ask_model("a")).len(), 1);
    drop(run);
}

#[test]
fn when_the_drain_time_is_over_jobs_fail_and_their_workers_are_terminated_at_once() {
    let (mut desk, run) = busy();
    desk.tell(Event::DrainRequested {
        ticket: None,
        drain: Drain::Exit,
    });
    let before = desk.pass_alive(Duration::from_millis(4999));
    assert!(failures(&before).is_empty(), "{before:?}");
    let after = desk.pass_alive(Duration::from_millis(1));
    assert_eq!(failures(&after)[0].1.kind, FailureKind::Draining);
    let worker = run.worker;
    assert!(after.contains(&Action::Terminate { worker }), "{after:?}");
    assert!(!after.contains(&Action::AskToLeave { worker }), "{after:?}");
    assert_eq!(desk.die(worker, 15, None).last(), Some(&Action::Exit));
}

#[test]
fn a_client_is_told_why_workers_could_not_be_started() {
    let mut desk = Desk::new(vec![model("a", 100)], 150);
    let mut coming = starts(&desk.ask_model("a"));
    let why = "cannot start worker: Too many open files (os error 24)";
    let mut told = Vec::new();
    while let Some(start) = coming.pop() {
        let after = desk.tell(Event::WorkerStartFailed {
            worker: start.worker,
            message: why.to_owned(),
            fault: StartFault::Own,
        });
        told = failures(&after);
        if told.is_empty() {
            let waits = desk.pool.explain(desk.now, JobId(1)).expect("it waits");
            assert!(waits.contains(why), "{waits}");
            coming = starts(&desk.pass(Duration::from_secs(1)));
        }
    }
    let (_, failure) = told.remove(0);
    assert_eq!(failure.kind, FailureKind::LoadRefused);
    assert!(failure.message.contains(why), "{failure}");
    let snapshot = desk.pool.snapshot(desk.now);
    let (_, line) = snapshot.models[0].at_rest.clone().expect("no worker");
    assert!(line.contains(why), "{line}");
}

#[test]
fn a_model_that_failed_too_often_says_what_the_last_failure_was() {
    let (mut desk, first) = busy();
    let mut run = Some(first);
    while let Some(Run { worker, job, .. }) = run.take() {
        let message = "values of block 3 overflow".to_owned();
        let fault = Fault::Other { message };
        desk.tell(Event::JobFailed { worker, job, fault });
        run = runs(&desk.ask_model("a")).pop();
    }
    let refused = refusals(&desk.ask_model("a")).remove(0);
    assert_eq!(refused.kind, FailureKind::ModelBroken);
    assert!(refused.message.contains("5 times in a row"), "{refused}");
    assert!(refused.message.contains("block 3 overflow"), "{refused}");
}
