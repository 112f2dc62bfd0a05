//! `yield`: workers without a job leave, running jobs are finished, waiting jobs wait.

mod fixture;

use std::time::Duration;

use ipc_protocol::failure::FailureKind;
use pool::{Action, Drain, Event, Ticket};

use fixture::{PoolFixture, asked_to_leave, model, pictures, refusals, request, runs, starts};

const MINUTE: Duration = Duration::from_secs(60);

fn yields(fixture: &mut PoolFixture, lasts: Duration) -> Vec<Action> {
    let ticket = Ticket(1000);
    fixture.tell(Event::YieldRequested { ticket, lasts })
}

fn told(actions: &[Action]) -> Option<(String, bool)> {
    actions.iter().find_map(|action| match action {
        Action::Acknowledge { lines, success, .. } => Some((lines.join("\n"), *success)),
        _ => None,
    })
}

#[test]
fn idle_workers_leave_and_come_back_after_the_yield_for_the_waiting_job() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 100);
    let start = starts(&fixture.ask_model("a"))[0].clone();
    let run = runs(&fixture.bring_up(start.worker))[0].clone();
    fixture.finish(&run);
    let parked = yields(&mut fixture, MINUTE);
    assert_eq!(asked_to_leave(&parked), [start.worker]);
    let answer = told(&parked).expect("an answer");
    assert_eq!(
        answer.0,
        "Yielding for 60 s: 1 worker leaves, 0 finish a job first"
    );
    fixture.leave(start.worker);
    let waits = fixture.ask_model("a");
    assert!(
        starts(&waits).is_empty() && refusals(&waits).is_empty(),
        "{waits:?}"
    );
    let job = fixture.pool.snapshot(fixture.now).queue[0].job;
    let why = fixture.pool.explain(fixture.now, job).expect("it waits");
    assert!(
        why.contains("leaves its memory to other programs for 60.0 s"),
        "{why}"
    );
    assert!(starts(&fixture.pass(MINUTE - Duration::from_secs(1))).is_empty());
    assert_eq!(starts(&fixture.pass(Duration::from_secs(1))).len(), 1);
    fixture.check_books();
}

#[test]
fn a_busy_worker_finishes_its_job_and_then_leaves() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 100);
    let start = starts(&fixture.ask_model("a"))[0].clone();
    let run = runs(&fixture.bring_up(start.worker))[0].clone();
    fixture.ask_model("a");
    assert!(asked_to_leave(&yields(&mut fixture, MINUTE)).is_empty());
    let finished = fixture.finish(&run);
    assert_eq!(pictures(&finished).len(), 1);
    assert!(runs(&finished).is_empty(), "the second job waits");
    assert_eq!(asked_to_leave(&finished), [start.worker]);
}

#[test]
fn pinned_models_leave_too_and_yield_0_brings_them_back() {
    let mut pinned = model("a", 100);
    pinned.pinned = true;
    let mut fixture = PoolFixture::new(vec![pinned], 100);
    let start = starts(&fixture.tell(Event::DeadlineReached))[0].clone();
    fixture.bring_up(start.worker);
    assert_eq!(
        asked_to_leave(&yields(&mut fixture, MINUTE)),
        [start.worker]
    );
    assert!(starts(&fixture.leave(start.worker)).is_empty());
    let again = yields(&mut fixture, Duration::ZERO);
    assert_eq!(told(&again), Some(("Serving again".into(), true)));
    assert_eq!(starts(&again).len(), 1);
    let idle = yields(&mut fixture, Duration::ZERO);
    assert_eq!(
        told(&idle),
        Some(("Serving: it did not yield".into(), true))
    );
}

#[test]
fn the_pool_is_not_ready_and_deadlines_that_cannot_be_kept_are_refused() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 100);
    yields(&mut fixture, MINUTE);
    let unready = fixture
        .pool
        .can_serve(fixture.now, None)
        .expect_err("it yields");
    assert_eq!(unready.retry_after_ms, Some(60_000));
    let mut hasty = request("a");
    hasty.timeout_ms = Some(59_000);
    let refused = refusals(&fixture.ask(hasty));
    assert_eq!(refused[0].kind, FailureKind::DeadlineExceeded);
}

#[test]
fn a_shutdown_ends_the_yield_so_that_accepted_jobs_are_finished() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 100);
    yields(&mut fixture, MINUTE);
    fixture.ask_model("a");
    let (ticket, drain) = (None, Drain::Exit);
    let leaving = fixture.tell(Event::DrainRequested { ticket, drain });
    assert_eq!(starts(&leaving).len(), 1);
}
