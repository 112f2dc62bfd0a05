//! Requests that wait for the files of their model.

mod fixture;

use fixture::{PoolFixture, failures, host, model, refusals, request, settings, starts};
use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{JobId, ModelKey};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::PictureSize;
use pool::{Action, Drain, Event, Files, ModelSpec, Registry, Settings, Ticket};

/// A pool with the models a and b, of which a has these files.
fn fixture(files: Files, settings: Settings) -> PoolFixture {
    let a = ModelSpec {
        files,
        ..model("a", 100)
    };
    PoolFixture::with(settings, vec![a, model("b", 100)], host(300))
}

fn missing() -> Files {
    Files::Missing("it was never fetched".into())
}

fn key() -> ModelKey {
    ModelKey::new("a").expect("a key")
}

/// A look has found these files.
fn arrive(fixture: &mut PoolFixture, files: Files) -> Vec<Action> {
    let a = ModelSpec {
        files,
        ..model("a", 100)
    };
    let registry = Registry::new(vec![a, model("b", 100)]).expect("a sound registry");
    let registry = Box::new(registry);
    let mut all = fixture.tell(Event::ModelsChanged { registry });
    all.extend(fixture.tell(Event::FilesArrived { model: key() }));
    all
}

/// The ids of the jobs that will be.
fn awaited(actions: &[Action]) -> Vec<u64> {
    let jobs = actions.iter().filter_map(|action| match action {
        Action::AwaitFiles { jobs, .. } => Some(jobs.iter().map(|job| job.0)),
        _ => None,
    });
    jobs.flatten().collect()
}

/// The tickets and jobs of accepted requests.
fn accepted(actions: &[Action]) -> Vec<(u64, Vec<u64>)> {
    let accepted = actions.iter().filter_map(|action| match action {
        Action::Accept(accepted) => Some((
            accepted.ticket.0,
            accepted.jobs.iter().map(|job| job.0).collect(),
        )),
        _ => None,
    });
    accepted.collect()
}

fn fetches(actions: &[Action]) -> usize {
    let fetch = |action: &&Action| matches!(action, Action::Fetch { model } if *model == key());
    actions.iter().filter(fetch).count()
}

fn stops(actions: &[Action]) -> usize {
    let stop = |action: &&Action| matches!(action, Action::StopFetch { model } if *model == key());
    actions.iter().filter(stop).count()
}

fn several(count: u32) -> ImageRequest {
    ImageRequest {
        count,
        ..request("a")
    }
}

#[test]
fn one_fetch_serves_all_and_they_enter_in_their_order_under_the_ids_they_had() {
    for files in [missing(), Files::Unread, Files::Broken("ae is cut".into())] {
        let mut fixture = fixture(files, settings());
        let first = fixture.ask(several(2));
        assert_eq!((awaited(&first), fetches(&first)), (vec![1, 2], 1));
        let second = fixture.ask(several(1));
        assert_eq!((awaited(&second), fetches(&second)), (vec![3], 0));
        // Another model's request takes the next ids and is not held up.
        assert_eq!(accepted(&fixture.ask_model("b")), [(3, vec![4])]);
        let entered = arrive(&mut fixture, Files::default());
        assert_eq!(accepted(&entered), [(1, vec![1, 2]), (2, vec![3])]);
        assert!(!starts(&entered).is_empty() && stops(&entered) == 0);
        assert_eq!(awaited(&fixture.ask(several(1))), [0; 0]);
    }
}

#[test]
fn they_are_listed_and_explained_like_other_jobs() {
    let mut fixture = fixture(missing(), settings());
    fixture.ask(several(2));
    fixture.now = fixture.now + std::time::Duration::from_secs(3);
    let queue = fixture.pool.snapshot(fixture.now).queue;
    let listed: Vec<_> = queue
        .iter()
        .map(|job| (job.job.0, job.state.as_str(), job.position, job.waiting_s))
        .collect();
    assert_eq!(listed, [(1, "waiting", 1, 3.0), (2, "waiting", 2, 3.0)]);
    assert_eq!(queue[0].reason, "for the files of a");
    let why = fixture.pool.explain(fixture.now, JobId(2));
    assert_eq!(why.as_deref(), Some("waiting: for the files of a"));
    assert_eq!(fixture.pool.explain(fixture.now, JobId(3)), None);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_fetched_for_it() {
    let mut fixture = fixture(missing(), settings());
    let odd = ImageRequest {
        size: Some(PictureSize {
            width: 1,
            height: 1,
        }),
        ..request("a")
    };
    let said = fixture.ask(odd);
    assert_eq!(refusals(&said)[0].kind, FailureKind::BadValue);
    assert_eq!(fetches(&said), 0);
}

#[test]
fn a_request_waits_once_and_gets_the_reason_why_the_files_cannot_be_used() {
    for (found, kind) in [
        (missing(), FailureKind::ModelMissing),
        (
            Files::Broken("ae is cut".into()),
            FailureKind::ModelUnusable,
        ),
        (Files::Unread, FailureKind::ModelUnread),
    ] {
        let mut fixture = fixture(missing(), settings());
        fixture.ask(several(1));
        let said = arrive(&mut fixture, found);
        assert_eq!(refusals(&said)[0].kind, kind);
        assert_eq!((fetches(&said), stops(&said)), (0, 0));
        assert_eq!(fixture.pool.snapshot(fixture.now).queue, []);
        assert_eq!(fetches(&fixture.ask(several(1))), 1, "the next one tries");
    }
    let mut fixture = fixture(missing(), settings());
    fixture.ask(several(1));
    fixture.ask(several(1));
    let failure = Failure::new(FailureKind::ModelMissing, "the hub does not answer");
    let model = key();
    let said = fixture.tell(Event::FilesFailed {
        model,
        failure: failure.clone(),
    });
    assert_eq!(refusals(&said), [failure.clone(), failure]);
}

#[test]
fn a_cancelled_job_of_several_never_runs_and_the_last_one_ends_the_fetch() {
    let mut fixture = fixture(missing(), settings());
    fixture.ask(several(3));
    let cancel = |fixture: &mut PoolFixture, job| {
        let by = "an operator".to_owned();
        let job = JobId(job);
        fixture.tell(Event::RequestCancelled { job, by })
    };
    assert_eq!(cancel(&mut fixture, 2), []);
    assert_eq!(cancel(&mut fixture, 2), [], "it is cancelled already");
    assert_eq!(fixture.pool.snapshot(fixture.now).queue.len(), 2);
    let entered = arrive(&mut fixture, Files::default());
    assert_eq!(accepted(&entered), [(1, vec![1, 2, 3])]);
    let ended = failures(&entered);
    assert_eq!(ended.len(), 1);
    assert_eq!(
        (ended[0].0, ended[0].1.kind),
        (JobId(2), FailureKind::Cancelled)
    );

    let mut fixture = self::fixture(missing(), settings());
    fixture.ask(several(2));
    cancel(&mut fixture, 1);
    let said = cancel(&mut fixture, 2);
    assert_eq!(refusals(&said)[0].kind, FailureKind::Cancelled);
    assert_eq!(stops(&said), 1);
}

#[test]
fn a_client_that_leaves_takes_its_request_along_unless_that_is_detached() {
    let mut fixture = fixture(missing(), settings());
    fixture.ask(several(1));
    let detached = ImageRequest {
        detached: true,
        ..several(1)
    };
    fixture.ask(detached);
    let said = fixture.tell(Event::ClientGone { ticket: Ticket(1) });
    assert_eq!(refusals(&said)[0].kind, FailureKind::Cancelled);
    assert_eq!(stops(&said), 0, "another waits for the files");
    assert_eq!(fixture.tell(Event::ClientGone { ticket: Ticket(2) }), []);
    let entered = arrive(&mut fixture, Files::default());
    assert_eq!(accepted(&entered), [(2, vec![2])]);
}

#[test]
fn a_drain_and_a_model_that_is_no_longer_offered_end_the_wait() {
    let mut fixture = fixture(missing(), settings());
    fixture.ask(several(1));
    let said = fixture.tell(Event::DrainRequested {
        ticket: None,
        drain: Drain::Exit,
    });
    assert_eq!(refusals(&said)[0].kind, FailureKind::Draining);
    assert_eq!(stops(&said), 1);
    assert!(said.contains(&Action::Exit), "nothing is left to wait for");

    let mut fixture = self::fixture(missing(), settings());
    fixture.ask(several(1));
    let registry = Box::new(Registry::new(vec![model("b", 100)]).expect("sound"));
    let said = fixture.tell(Event::ModelsChanged { registry });
    assert_eq!(refusals(&said)[0].kind, FailureKind::UnknownModel);
    assert_eq!(stops(&said), 1);
    let late = fixture.tell(Event::FilesArrived { model: key() });
    assert_eq!(late, [], "nobody waits");
}

#[test]
fn requests_that_wait_hold_places_and_text_like_queued_jobs() {
    let narrow = Settings {
        queue_per_model: 2,
        queue_total: 3,
        queue_bytes: 20,
        ..settings()
    };
    let full = |said: &[Action]| {
        let refusals = refusals(said);
        refusals
            .first()
            .is_some_and(|failure| failure.kind == FailureKind::QueueFull)
    };
    let mut fixture = fixture(missing(), narrow);
    assert_eq!(awaited(&fixture.ask(several(2))), [1, 2]);
    let said = fixture.ask(several(1));
    let message = &refusals(&said)[0].message;
    assert_eq!(
        message,
        "queue full: 2 of 2 places for a are taken, 1 wanted"
    );
    let of_b = ImageRequest {
        count: 2,
        ..request("b")
    };
    let said = fixture.ask(of_b);
    let message = &refusals(&said)[0].message;
    assert_eq!(
        message,
        "queue full: 2 of 3 places in all are taken, 2 wanted"
    );
    let long = ImageRequest {
        prompt: "twelve bytes".into(),
        ..request("b")
    };
    assert!(full(&fixture.ask(long)));
    // Its own places do not count against it.
    let entered = arrive(&mut fixture, Files::default());
    assert_eq!(accepted(&entered), [(1, vec![1, 2])]);
}

#[test]
fn a_time_limit_begins_when_the_files_are_here() {
    let mut fixture = fixture(missing(), settings());
    let hasty = ImageRequest {
        timeout_ms: Some(1000),
        ..several(1)
    };
    fixture.ask(hasty);
    assert_eq!(fixture.pass(std::time::Duration::from_secs(60)), []);
    let entered = arrive(&mut fixture, Files::default());
    assert_eq!(accepted(&entered).len(), 1);
    let later = fixture.pass(std::time::Duration::from_millis(1001));
    assert_eq!(failures(&later)[0].1.kind, FailureKind::DeadlineExceeded);
}
