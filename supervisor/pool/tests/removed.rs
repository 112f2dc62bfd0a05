//! Models that are removed from the registry while they have jobs, and models that change.

mod fixture;

use std::time::Duration;

use fixture::{
    PoolFixture, asked_to_leave, failures, model, pictures, refusals, request, runs, starts,
};
use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{DeviceConstraint, Generation, ModelKey};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::Mebibytes;
use pool::{Action, Event, Files, ModelSpec, Registry, Run, Target, Ticket};

fn key() -> ModelKey {
    ModelKey::new("a").expect("a plain key")
}

/// The registry is read again, and has these models.
fn offer(fixture: &mut PoolFixture, models: Vec<ModelSpec>) -> Vec<Action> {
    let registry = Box::new(Registry::new(models).expect("a sound registry"));
    fixture.tell(Event::ModelsChanged { registry })
}

fn remove(fixture: &mut PoolFixture) -> Vec<Action> {
    offer(fixture, vec![model("b", 100)])
}

/// One worker draws, and `waiting` jobs wait; memory for a second worker is missing.
fn busy(waiting: usize) -> (PoolFixture, Run) {
    let models = vec![model("a", 100), model("b", 100)];
    let mut fixture = PoolFixture::new(models, 150);
    let start = starts(&fixture.ask_model("a")).remove(0);
    let run = runs(&fixture.bring_up(start.worker)).remove(0);
    for _ in 0..waiting {
        assert!(refusals(&fixture.ask_model("a")).is_empty());
    }
    (fixture, run)
}

/// The word of model "a" in the status, and its line without workers.
fn shown(fixture: &PoolFixture) -> Option<(String, Option<String>)> {
    let models = fixture.pool.snapshot(fixture.now).models;
    let found = models.into_iter().find(|model| model.key == key());
    found.map(|model| (model.state, model.at_rest.map(|(_, line)| line)))
}

fn is_gone(fixture: &PoolFixture) -> bool {
    shown(fixture).is_none() && !fixture.pool.is_model_leaving(&key())
}

#[test]
fn every_accepted_job_of_a_removed_model_is_drawn_before_its_workers_leave() {
    let (mut fixture, mut run) = busy(3);
    assert_eq!(asked_to_leave(&remove(&mut fixture)), []);
    assert!(fixture.pool.is_model_leaving(&key()));
    let late = refusals(&fixture.ask_model("a")).remove(0);
    assert_eq!(late.kind, FailureKind::UnknownModel);
    for left in (0..3).rev() {
        assert_eq!(shown(&fixture), Some(("leaving".into(), None)));
        let after = fixture.finish(&run);
        assert_eq!(pictures(&after).len(), 1);
        assert_eq!(asked_to_leave(&after), [], "{left} jobs wait");
        let next = runs(&after).remove(0);
        assert_eq!(next.worker, run.worker);
        run = next;
    }
    let after = fixture.finish(&run);
    assert_eq!(asked_to_leave(&after), [run.worker]);
    assert!(!is_gone(&fixture), "its worker is on its way");
    fixture.leave(run.worker);
    assert!(is_gone(&fixture));
    fixture.check_books();
}

#[test]
fn a_removed_model_starts_workers_for_its_jobs_and_for_nothing_else() {
    let mut pinned = model("a", 100);
    (pinned.pinned, pinned.min_workers) = (true, Some(1));
    let mut fixture = PoolFixture::new(vec![pinned, model("b", 100)], 150);
    let first = starts(&fixture.ask_model("a")).remove(0);
    let run = runs(&fixture.bring_up(first.worker)).remove(0);
    remove(&mut fixture);
    // The worker of its last job dies: the job is placed again.
    let after = fixture.die(run.worker, 9, Some(2));
    let again = starts(&after).remove(0);
    let (word, _) = shown(&fixture).expect("it has a job");
    assert_eq!(word, "leaving");
    let resumed = runs(&fixture.bring_up(again.worker)).remove(0);
    assert_eq!((resumed.job, resumed.resume_step), (run.job, 2));
    let after = fixture.finish(&resumed);
    assert_eq!(pictures(&after).len(), 1);
    assert_eq!(asked_to_leave(&after), [again.worker], "nothing is kept");
    let after = fixture.leave(again.worker);
    assert!(starts(&after).is_empty() && is_gone(&fixture));
}

#[test]
fn jobs_of_a_removed_model_that_cannot_load_any_more_are_answered() {
    let (mut fixture, run) = busy(2);
    remove(&mut fixture);
    let mut all = fixture.die(run.worker, 9, None);
    let next = starts(&all).remove(0);
    // Its files are gone.
    all.extend(fixture.exit(next.worker, 66));
    let failed = failures(&all);
    assert_eq!(failed.len(), 3, "{failed:?}");
    let unusable = |(_, failure): &(_, ipc_protocol::failure::Failure)| {
        failure.kind == FailureKind::ModelUnusable
    };
    assert!(failed.iter().all(unusable), "{failed:?}");
    assert!(is_gone(&fixture));
}

#[test]
fn a_removed_model_whose_workers_crash_waits_for_its_back_off_and_is_not_forgiven_by_other_changes()
{
    let (mut fixture, run) = busy(1);
    remove(&mut fixture);
    let mut next = starts(&fixture.die(run.worker, 11, None)).remove(0).worker;
    let mut answered = Vec::new();
    for _ in 0..40 {
        fixture.tell(Event::WorkerStarted {
            worker: next,
            pid: 77,
        });
        let from = fixture.said.len();
        fixture.die(next, 11, None);
        remove(&mut fixture);
        if let Some((_, Some(line))) = shown(&fixture) {
            assert!(line.starts_with("No longer offered, "), "{line}");
        }
        fixture.pass(Duration::from_secs(60));
        let said = &fixture.said[from..];
        answered.extend(failures(said));
        match starts(said).pop() {
            Some(start) => next = start.worker,
            None => break,
        }
    }
    assert_eq!(answered.len(), 2, "{answered:?}");
    assert!(is_gone(&fixture));
}

#[test]
fn jobs_of_a_removed_model_whose_files_were_being_looked_at_are_answered() {
    let (mut fixture, run) = busy(1);
    let unread = ModelSpec {
        files: Files::Unread,
        ..model("a", 100)
    };
    offer(&mut fixture, vec![unread, model("b", 100)]);
    assert!(failures(&remove(&mut fixture)).is_empty(), "one runs");
    let after = fixture.finish(&run);
    assert_eq!(pictures(&after).len(), 1);
    let left = fixture.leave(run.worker);
    let (_, failure) = failures(&[after, left].concat()).remove(0);
    assert_eq!(failure.kind, FailureKind::ModelUnusable);
    assert!(failure.message.contains("no longer offered"), "{failure}");
    assert!(is_gone(&fixture));
}

#[test]
fn the_time_limit_of_a_job_holds_after_its_model_was_removed() {
    let models = vec![model("a", 100), model("b", 100)];
    let mut fixture = PoolFixture::new(models, 150);
    let limited = ImageRequest {
        timeout_ms: Some(2000),
        ..request("a")
    };
    let start = starts(&fixture.ask(limited)).remove(0);
    remove(&mut fixture);
    fixture.tell(Event::WorkerStarted {
        worker: start.worker,
        pid: 77,
    });
    fixture.tell(Event::WorkerSaidHello {
        worker: start.worker,
    });
    let said = fixture.pass_alive(Duration::from_secs(3));
    let (_, failure) = failures(&said).remove(0);
    assert_eq!(failure.kind, FailureKind::DeadlineExceeded);
    assert_eq!(asked_to_leave(&said), [start.worker], "it loads for nobody");
}

#[test]
fn a_removed_model_that_comes_back_keeps_its_workers_and_draws_its_jobs() {
    let (mut fixture, run) = busy(1);
    remove(&mut fixture);
    let both = vec![model("a", 100), model("b", 100)];
    assert_eq!(asked_to_leave(&offer(&mut fixture, both)), []);
    assert_eq!(shown(&fixture), Some(("ready".into(), None)));
    assert!(refusals(&fixture.ask_model("a")).is_empty());
    let next = runs(&fixture.finish(&run)).remove(0);
    let last = runs(&fixture.finish(&next)).remove(0);
    let after = fixture.finish(&last);
    assert_eq!(last.worker, run.worker);
    assert_eq!(asked_to_leave(&after), [], "it is offered");
}

#[test]
fn a_removed_model_that_comes_back_as_another_draws_its_jobs_with_new_workers() {
    let (mut fixture, run) = busy(1);
    remove(&mut fixture);
    let mut other = model("a", 100);
    other.params = "dtype=f16".into();
    offer(&mut fixture, vec![other, model("b", 100)]);
    let after = fixture.finish(&run);
    assert_eq!(pictures(&after).len(), 1);
    assert_eq!(asked_to_leave(&after), [run.worker]);
    let start = starts(&fixture.leave(run.worker)).remove(0);
    let next = runs(&fixture.bring_up(start.worker)).remove(0);
    assert_eq!(pictures(&fixture.finish(&next)).len(), 1);
}

#[test]
fn an_operators_start_of_a_model_that_is_removed_is_answered() {
    let models = vec![model("a", 100), model("b", 100)];
    let mut fixture = PoolFixture::new(models, 150);
    let start = Event::StartRequested {
        ticket: Ticket(9),
        target: Target::Model(key()),
    };
    let worker = starts(&fixture.tell(start)).remove(0).worker;
    let said = remove(&mut fixture);
    assert_eq!(asked_to_leave(&said), [worker], "no job needs it");
    let answer = said.iter().find_map(|action| match action {
        Action::Acknowledge { lines, success, .. } => Some((lines.concat(), *success)),
        _ => None,
    });
    let answer = answer.expect("nothing else would answer it");
    assert_eq!(
        answer,
        ("a:0: ERROR (a is no longer offered)".into(), false)
    );
}

/// Two workers of "a": one draws, the other is idle.
fn pair(spec: &ModelSpec) -> (PoolFixture, Run, Generation) {
    let mut fixture = PoolFixture::with_pair(vec![spec.clone(), model("b", 100)]);
    let run = runs(&fixture.ask_model("a")).remove(0);
    let idle = fixture.workers().into_iter().find(|id| *id != run.worker);
    (fixture, run, idle.expect("there are two"))
}

#[test]
fn a_change_that_workers_notice_ends_idle_ones_at_once_and_busy_ones_after_their_job() {
    type Change = fn(&mut ModelSpec);
    let changes: [(&str, bool, Change); 13] = [
        ("params", true, |spec| spec.params = "7 threads".into()),
        ("device", true, |spec| {
            spec.device = DeviceConstraint::On(ipc_protocol::ids::Device::Host);
        }),
        ("need", true, |spec| {
            spec.need.activation.base = Mebibytes(20);
        }),
        ("larger sizes", true, |spec| spec.sizes.max *= 2),
        ("files", true, |spec| {
            spec.files = Files::Here {
                stamp: "two".into(),
            };
        }),
        ("smaller sizes", false, |spec| spec.sizes.max /= 2),
        ("digest", false, |spec| spec.digest = "now known".into()),
        ("aliases", false, |spec| spec.aliases = vec!["other".into()]),
        ("default steps", false, |spec| spec.default_steps = 5),
        ("most steps", false, |spec| spec.max_steps = 70),
        ("pinned", false, |spec| spec.pinned = true),
        ("min_workers", false, |spec| spec.min_workers = Some(1)),
        ("max_workers", false, |spec| spec.max_workers = Some(3)),
    ];
    for (what, is_replaced, change) in changes {
        let mut spec = model("a", 100);
        spec.files = Files::Here {
            stamp: "one".into(),
        };
        let (mut fixture, run, idle) = pair(&spec);
        change(&mut spec);
        let said = offer(&mut fixture, vec![spec, model("b", 100)]);
        let (at_once, later) = match is_replaced {
            true => (vec![idle], vec![run.worker]),
            false => (vec![], vec![]),
        };
        assert_eq!(asked_to_leave(&said), at_once, "{what}");
        assert_eq!(fixture.pool.is_leaving(run.worker), is_replaced, "{what}");
        assert_eq!(asked_to_leave(&fixture.finish(&run)), later, "{what}");
    }
}
