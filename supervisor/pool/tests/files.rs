//! Models whose files are being looked at, or cannot be used.

mod fixture;

use fixture::{PoolFixture, failures, model, pictures, refusals, request, runs, starts};
use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::ModelKey;
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::PictureSize;
use pool::{Action, Drain, Event, Exit, Files, Registry, Target, Ticket};

fn here(stamp: &str) -> Files {
    Files::Here {
        stamp: stamp.to_owned(),
    }
}

fn found(fixture: &mut PoolFixture, files: Files) -> Vec<Action> {
    let mut spec = model("a", 100);
    spec.files = files;
    let registry = Box::new(Registry::new(vec![spec]).expect("a sound registry"));
    fixture.tell(Event::ModelsChanged { registry })
}

fn at_rest(fixture: &PoolFixture) -> (String, String) {
    let model = fixture.pool.snapshot(fixture.now).models.remove(0);
    (
        model.state,
        model.at_rest.map(|(_, why)| why).unwrap_or_default(),
    )
}

#[test]
fn nothing_of_a_request_is_judged_before_the_files_of_its_model_are_known() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 150);
    let odd = ImageRequest {
        size: Some(PictureSize {
            width: 1,
            height: 1,
        }),
        ..request("a")
    };
    found(&mut fixture, Files::Unread);
    assert_eq!(refusals(&fixture.ask(odd)), []);
    found(&mut fixture, Files::Broken("ae is cut".into()));
    let model = ModelKey::new("a").expect("a key");
    let failure = refusals(&fixture.tell(Event::FilesArrived { model })).remove(0);
    assert_eq!(failure.kind, FailureKind::ModelUnusable);
    assert!(failure.message.contains("ae is cut"));
    assert_eq!(failure.kind.exit_code(), 1);
    let (state, line) = at_rest(&fixture);
    assert!(
        state == "broken" && line.contains("ae is cut"),
        "{state}: {line}"
    );
}

#[test]
fn jobs_that_wait_stay_while_the_files_are_looked_at_and_run_on_what_is_found() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 150);
    let first = starts(&fixture.ask_model("a")).remove(0);
    let outdated = found(&mut fixture, Files::Unread);
    assert!(failures(&outdated).is_empty());
    let exit = Exit::Code(66);
    let after = fixture.tell(Event::WorkerExited {
        worker: first.worker,
        exit,
        resume_step: None,
    });
    assert!(failures(&after).is_empty() && starts(&after).is_empty());
    let next = starts(&found(&mut fixture, here("new"))).remove(0);
    let run = runs(&fixture.bring_up(next.worker)).remove(0);
    assert_eq!(run.attempt, 1);
    assert_eq!(pictures(&fixture.finish(&run)).len(), 1);
    fixture.check_books();
}

#[test]
fn jobs_that_wait_are_answered_with_the_reason_once_the_files_cannot_be_used() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 150);
    let first = starts(&fixture.ask_model("a")).remove(0);
    found(&mut fixture, Files::Unread);
    let after = found(&mut fixture, Files::Broken("a tensor is missing".into()));
    let ended = fixture.tell(Event::WorkerExited {
        worker: first.worker,
        exit: Exit::Code(66),
        resume_step: None,
    });
    let all = [after, ended].concat();
    let (_, failure) = failures(&all).remove(0);
    assert_eq!(failure.kind, FailureKind::ModelUnusable);
    assert!(failure.message.contains("a tensor is missing"));
}

#[test]
fn an_operators_start_waits_for_the_look_and_ends_with_what_it_finds() {
    for (files, success) in [
        (here("new"), true),
        (Files::Broken("ae is cut".into()), false),
    ] {
        let mut fixture = PoolFixture::new(vec![model("a", 100)], 150);
        found(&mut fixture, Files::Unread);
        let key = ModelKey::new("a").expect("a key");
        let said = fixture.tell(Event::StartRequested {
            ticket: Ticket(9),
            target: Target::Model(key),
        });
        let told = |actions: &[Action]| {
            actions.iter().find_map(|action| match action {
                Action::Acknowledge { success, lines, .. } => Some((*success, lines.concat())),
                _ => None,
            })
        };
        assert_eq!(told(&said), None, "it is being looked at");
        let mut after = found(&mut fixture, files);
        if let Some(start) = starts(&after).pop() {
            after = fixture.bring_up(start.worker);
        }
        let (went_well, lines) = told(&after).expect("the look has ended");
        assert_eq!(went_well, success, "{lines}");
    }
}

#[test]
fn an_operators_start_that_waits_for_a_look_is_answered_when_the_pool_drains() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 150);
    found(&mut fixture, Files::Unread);
    let target = Target::Model(ModelKey::new("a").expect("a key"));
    fixture.tell(Event::StartRequested {
        ticket: Ticket(9),
        target,
    });
    let drained = fixture.tell(Event::DrainRequested {
        ticket: None,
        drain: Drain::Exit,
    });
    let answer = drained.iter().find_map(|action| match action {
        Action::Acknowledge { success, lines, .. } => Some((*success, lines.concat())),
        _ => None,
    });
    let (success, lines) = answer.expect("the pool exits before the look ends");
    assert!(!success && lines.contains("draining"), "{lines}");
}

#[test]
fn workers_of_other_files_leave_and_a_digest_that_becomes_known_changes_nothing() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 150);
    found(&mut fixture, here("one"));
    let start = starts(&fixture.ask_model("a")).remove(0);
    let run = runs(&fixture.bring_up(start.worker)).remove(0);
    fixture.finish(&run);
    let mut spec = model("a", 100);
    (spec.files, spec.digest) = (here("one"), "now known".into());
    let registry = Box::new(Registry::new(vec![spec]).expect("sound"));
    let said = fixture.tell(Event::ModelsChanged { registry });
    assert!(fixture::asked_to_leave(&said).is_empty());
    let said = found(&mut fixture, here("two"));
    assert_eq!(fixture::asked_to_leave(&said), [start.worker]);
}
