//! The memory of an earlier daemon: its jobs, its quarantine, what its workers held.

mod fixture;

use std::time::Duration;

use fixture::{PoolFixture, failures, model, refusals, runs, settings, starts};
use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{JobId, ModelKey};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::Mebibytes;
use pool::{
    AcceptedJobs, Action, Event, JobPast, LastingFact, MeasuredNeed, PastLoss, RestoredJob, Run,
    Settings, Ticket,
};

const SECOND: Duration = Duration::from_secs(1);

fn restored(job: u64, past: JobPast) -> RestoredJob {
    RestoredJob {
        job: JobId(job),
        request: ImageRequest {
            seed: Some(job),
            detached: true,
            ..fixture::request("a")
        },
        user: "uid:1".into(),
        digest: "a-digest".into(),
        past,
    }
}

fn restore(fixture: &mut PoolFixture, job: RestoredJob) -> Vec<Action> {
    let ticket = Ticket(1_000_000 + job.job.0);
    let job = Box::new(job);
    fixture.tell(Event::JobRestored { ticket, job })
}

fn accepted(actions: &[Action]) -> Vec<AcceptedJobs> {
    let accepted = |action: &Action| match action {
        Action::Accept(accepted) => Some(accepted.clone()),
        _ => None,
    };
    actions.iter().filter_map(accepted).collect()
}

fn remembered(actions: &[Action]) -> Vec<LastingFact> {
    let fact = |action: &Action| match action {
        Action::Remember(fact) => Some(fact.clone()),
        _ => None,
    };
    actions.iter().filter_map(fact).collect()
}

fn one_worker(settings: Settings) -> PoolFixture {
    PoolFixture::with(settings, vec![model("a", 100)], fixture::host(150))
}

/// The first attempt of the jobs that were restored.
fn first_run(fixture: &mut PoolFixture, after: &[Action]) -> Run {
    let start = starts(after).remove(0);
    runs(&fixture.bring_up(start.worker)).remove(0)
}

#[test]
fn restored_jobs_keep_ids_seeds_and_order_and_new_ones_come_after_them() {
    let mut fixture = one_worker(settings());
    fixture.tell(Event::JobIdsUsed { last: JobId(40) });
    let after = restore(&mut fixture, restored(7, JobPast::default()));
    let entered = &accepted(&after)[0];
    assert_eq!((&entered.jobs[..], entered.seed), (&[JobId(7)][..], 7));
    restore(&mut fixture, restored(9, JobPast::default()));
    let new = accepted(&fixture.ask_model("a"));
    assert_eq!(new[0].jobs, [JobId(41)]);
    let first = first_run(&mut fixture, &after);
    assert_eq!((first.job, first.parameters.seed), (JobId(7), 7));
    let second = runs(&fixture.finish(&first)).remove(0);
    let third = runs(&fixture.finish(&second)).remove(0);
    assert_eq!((second.job, third.job), (JobId(9), JobId(41)));
    fixture.check_books();
}

#[test]
fn a_restored_job_is_not_refused_by_a_full_queue() {
    let mut fixture = one_worker(Settings {
        queue_per_model: 1,
        ..settings()
    });
    for job in 1..=5 {
        let after = restore(&mut fixture, restored(job, JobPast::default()));
        assert_eq!(accepted(&after).len(), 1, "job {job}");
    }
    let refused = refusals(&fixture.ask_model("a"));
    assert_eq!(refused[0].kind, FailureKind::QueueFull);
}

#[test]
fn a_restored_job_goes_on_after_its_steps_with_the_attempts_that_are_left() {
    let mut fixture = one_worker(settings());
    let past = JobPast {
        attempts: 1,
        losses: vec![PastLoss {
            how: "ended by signal 11".into(),
            step: 2,
            suspect: true,
        }],
        resume_step: 2,
        ..JobPast::default()
    };
    let after = restore(&mut fixture, restored(3, past));
    let run = first_run(&mut fixture, &after);
    assert_eq!((run.attempt, run.resume_step), (2, 2));
    let after = fixture.die(run.worker, 11, None);
    let failed = failures(&after);
    assert_eq!(failed[0].1.kind, FailureKind::Quarantined);
    assert!(
        failed[0].1.message.contains("ended by signal 11"),
        "{}",
        failed[0].1.message
    );
    assert!(
        remembered(&after)
            .iter()
            .any(|fact| matches!(fact, LastingFact::Quarantined(_))),
        "{after:?}"
    );
}

#[test]
fn the_loss_of_a_detached_job_is_remembered_and_that_of_an_attached_one_is_not() {
    for detached in [true, false] {
        let mut fixture = one_worker(settings());
        let request = ImageRequest {
            detached,
            ..fixture::request("a")
        };
        let after = fixture.ask(request);
        let run = first_run(&mut fixture, &after);
        let facts = remembered(&fixture.die(run.worker, 11, Some(1)));
        let past = facts.iter().find_map(|fact| match fact {
            LastingFact::JobLost { past, .. } => Some(past),
            _ => None,
        });
        assert_eq!(past.is_some(), detached, "{facts:?}");
        if let Some(past) = past {
            assert_eq!((past.attempts, past.losses.len()), (1, 1));
            assert!(past.losses[0].suspect);
        }
    }
}

#[test]
fn a_restored_job_of_another_or_no_model_is_refused_with_a_sentence() {
    let mut fixture = one_worker(settings());
    let other = RestoredJob {
        digest: "another".into(),
        ..restored(1, JobPast::default())
    };
    let refused = refusals(&restore(&mut fixture, other)).remove(0);
    assert!(
        refused
            .message
            .contains("the files of a changed since the job was accepted"),
        "{}",
        refused.message
    );
    let mut gone = restored(2, JobPast::default());
    gone.request.model = Some("zebra".into());
    let refused = refusals(&restore(&mut fixture, gone)).remove(0);
    assert_eq!(refused.kind, FailureKind::UnknownModel);
    let mut unknown = restored(3, JobPast::default());
    unknown.digest = format!("{}/somewhere", pool::FOLDER_IDENTITY);
    assert_eq!(accepted(&restore(&mut fixture, unknown)).len(), 1);
}

#[test]
fn a_restored_quarantine_lasts_for_the_rest_of_its_time() {
    let lasts = Duration::from_secs(100);
    let quarantine = |settings| {
        let mut fixture = one_worker(settings);
        let start = starts(&fixture.ask_model("a")).remove(0);
        let run = runs(&fixture.bring_up(start.worker)).remove(0);
        let after = fixture.die(run.worker, 11, None);
        let started = [starts(&after), starts(&fixture.pass(2 * SECOND))].concat();
        let run = runs(&fixture.bring_up(started[0].worker)).remove(0);
        remembered(&fixture.die(run.worker, 11, None))
    };
    let settings = Settings {
        quarantine: lasts,
        ..settings()
    };
    let facts = quarantine(settings.clone());
    let kept = facts.into_iter().find_map(|fact| match fact {
        LastingFact::Quarantined(request) => Some(request),
        _ => None,
    });
    let mut request = kept.expect("it was quarantined");
    request.age = Duration::from_secs(60);
    let mut fixture = one_worker(settings);
    fixture.tell(Event::QuarantineRestored {
        request: Box::new(request),
    });
    let refused = refusals(&fixture.ask_model("a"));
    assert_eq!(refused[0].kind, FailureKind::Quarantined);
    fixture.pass(Duration::from_secs(39));
    assert_eq!(refusals(&fixture.ask_model("a")).len(), 1);
    fixture.pass(Duration::from_secs(2));
    assert!(refusals(&fixture.ask_model("a")).is_empty());
}

#[test]
fn a_measured_need_is_booked_by_the_next_daemon_unless_the_files_are_others() {
    let booked = |digest: &str| {
        let mut fixture = one_worker(settings());
        fixture.tell(Event::NeedRestored {
            need: MeasuredNeed {
                model: ModelKey::new("a").expect("a plain key"),
                digest: digest.into(),
                host: Mebibytes(120),
                device: Mebibytes::ZERO,
            },
        });
        let start = starts(&fixture.ask_model("a")).remove(0);
        start.reserved.values().map(|mb| mb.0).sum::<u64>()
    };
    assert!(booked("a-digest") >= 120, "{}", booked("a-digest"));
    assert_eq!(booked("another"), 100);
}
