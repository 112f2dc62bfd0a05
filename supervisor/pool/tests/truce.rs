//! Other programs are asked for a GPU before the first worker starts there.

mod fixture;

use std::time::Duration;

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{Device, Generation};
use ipc_protocol::units::Mebibytes;
use pool::{Action, DeviceLimit, Event, ModelSpec, Settings, TruceTerms};

use fixture::{PoolFixture, failures, model, refusals, runs, settings, starts};

const CUDA: Device = Device::Cuda(0);
const SECOND: Duration = Duration::from_secs(1);

/// A pool with one GPU of 100 MB, of which other programs hold 90, and a model that needs all of it.
fn pool_with(pinned: bool) -> PoolFixture {
    let mut spec = model("a", 100);
    spec.need.on_cpu = None;
    spec.pinned = pinned;
    pool_of(spec)
}

fn pool_of(spec: ModelSpec) -> PoolFixture {
    let settings = Settings {
        cold_start_workers: 1,
        truce: Some(TruceTerms {
            answer: 12 * SECOND,
            hold: 60 * SECOND,
        }),
        ..settings()
    };
    let limit = |device, limit, confirms| DeviceLimit {
        device,
        limit: Mebibytes(limit),
        confirms,
    };
    let devices = vec![limit(Device::Host, 1000, false), limit(CUDA, 100, true)];
    let mut fixture = PoolFixture::with(settings, vec![spec], devices);
    measured(&mut fixture, 90);
    fixture
}

fn measured(fixture: &mut PoolFixture, foreign: u64) -> Vec<Action> {
    fixture.tell(Event::MemoryMeasured {
        device: CUDA,
        total: Some(Mebibytes(100)),
        measured: Mebibytes(0),
        foreign: Mebibytes(foreign),
    })
}

/// Other programs answer, and the device is measured again.
fn answered(fixture: &mut PoolFixture, foreign: u64) -> Vec<Action> {
    fixture.tell(Event::MeasurementAged { device: CUDA });
    let mut actions = fixture.tell(Event::TruceAnswered { device: CUDA });
    actions.extend(measured(fixture, foreign));
    actions
}

fn asks(actions: &[Action]) -> usize {
    let asks = |action: &&Action| matches!(action, Action::AskTruce { .. });
    actions.iter().filter(asks).count()
}

fn ends(actions: &[Action]) -> usize {
    let ends = |action: &&Action| matches!(action, Action::EndTruce { .. });
    actions.iter().filter(ends).count()
}

/// A worker that has drawn one picture.
fn drawn(fixture: &mut PoolFixture) -> Generation {
    fixture.ask_model("a");
    let start = starts(&answered(fixture, 0))[0].clone();
    let run = runs(&fixture.bring_up(start.worker))[0].clone();
    fixture.finish(&run);
    start.worker
}

#[test]
fn a_job_waits_until_other_programs_have_left() {
    let mut fixture = pool_with(false);
    let asked = fixture.ask_model("a");
    assert_eq!((asks(&asked), starts(&asked).len()), (1, 0));
    assert!(refusals(&asked).is_empty(), "{asked:?}");
    let job = fixture.pool.snapshot(fixture.now).queue[0].job;
    let why = fixture.pool.explain(fixture.now, job).expect("it waits");
    assert!(
        why.contains("other programs are asked for the rest"),
        "{why}"
    );
    assert_eq!(asks(&fixture.ask_model("a")), 0, "once is enough");
    assert_eq!(starts(&answered(&mut fixture, 0)).len(), 1);
    fixture.check_books();
}

#[test]
fn a_model_that_could_run_on_the_processor_asks_for_the_gpu_first() {
    let mut fixture = pool_of(model("a", 100));
    let asked = fixture.ask_model("a");
    assert_eq!((asks(&asked), starts(&asked).len()), (1, 0));
    answered(&mut fixture, 90);
    let late = starts(&fixture.pass(6 * SECOND));
    assert_eq!(late.len(), 1);
    assert_eq!(late[0].device, Device::Host);
}

#[test]
fn memory_that_others_keep_is_not_promised() {
    let mut fixture = pool_with(false);
    fixture.ask_model("a");
    let answered = answered(&mut fixture, 90);
    assert!(starts(&answered).is_empty() && failures(&answered).is_empty());
    let late = fixture.pass(6 * SECOND);
    let failed = failures(&late);
    assert_eq!(failed[0].1.kind, FailureKind::MemoryExhausted);
    assert!(failed[0].1.retry_after_ms.is_some(), "{failed:?}");
    assert!(starts(&late).is_empty());
    assert_eq!(ends(&fixture.pass(60 * SECOND)), 1, "no worker came");
}

#[test]
fn memory_that_comes_back_late_is_used() {
    let mut fixture = pool_with(false);
    fixture.ask_model("a");
    answered(&mut fixture, 90);
    fixture.pass(3 * SECOND);
    assert_eq!(starts(&measured(&mut fixture, 0)).len(), 1);
}

#[test]
fn a_truce_ends_when_the_last_worker_has_left_and_its_memory_is_free() {
    let mut fixture = pool_with(false);
    let worker = drawn(&mut fixture);
    fixture.pass_alive(61 * SECOND);
    assert_eq!(ends(&fixture.leave(worker)), 0, "its memory settles");
    let left = Mebibytes(0);
    let returned = fixture.tell(Event::MemoryReturned { worker, left });
    assert_eq!(ends(&returned), 1);
    assert_eq!(asks(&fixture.ask_model("a")), 1, "the next one asks again");
}

#[test]
fn without_an_answer_the_measured_memory_decides() {
    let mut fixture = pool_with(false);
    fixture.ask_model("a");
    measured(&mut fixture, 0);
    assert!(
        starts(&fixture.pass(11 * SECOND)).is_empty(),
        "the answer may come"
    );
    assert_eq!(starts(&fixture.pass(2 * SECOND)).len(), 1);
}

#[test]
fn a_pinned_model_asks_once_in_a_while_not_without_end() {
    let mut fixture = pool_with(true);
    assert_eq!(asks(&fixture.said), 1);
    answered(&mut fixture, 90);
    let before = asks(&fixture.said);
    for _ in 0..720 {
        fixture.pass(5 * SECOND);
        measured(&mut fixture, 90);
    }
    let asked = asks(&fixture.said) - before;
    assert!((40..=50).contains(&asked), "{asked} times in an hour");
    assert_eq!(starts(&fixture.said).len(), 0);
}
