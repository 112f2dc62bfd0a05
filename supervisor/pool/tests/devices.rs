//! Unmeasured, lost and failing devices: nothing new is placed there, and nothing else changes.

mod fixture;

use std::time::Duration;

use ipc_protocol::ids::Device;
use ipc_protocol::status::DeviceState;
use ipc_protocol::units::Mebibytes;
use pool::{Action, DeviceLimit, Event, ModelSpec, Notice, Settings};

use fixture::{PoolFixture, failures, model, pictures, refusals, runs, settings, starts};

const CUDA: Device = Device::Cuda(0);

/// A model that runs on a GPU only, where it takes 100 MB.
fn on_gpu(key: &str) -> ModelSpec {
    let mut spec = model(key, 100);
    spec.need.on_cpu = None;
    spec
}

/// A pool of these models with GPUs of these limits.
fn pool_with(keys: &[&str], limits: &[u64]) -> PoolFixture {
    let settings = Settings {
        cold_start_workers: 1,
        ..settings()
    };
    let models = keys.iter().map(|key| on_gpu(key)).collect();
    PoolFixture::with(settings, models, gpus(limits))
}

fn gpus(limits: &[u64]) -> Vec<DeviceLimit> {
    let host = DeviceLimit {
        device: Device::Host,
        limit: Mebibytes(1000),
        confirms: false,
    };
    let gpu = |(nth, limit): (u32, &u64)| DeviceLimit {
        device: Device::Cuda(nth),
        limit: Mebibytes(*limit),
        confirms: true,
    };
    [host]
        .into_iter()
        .chain((0..).zip(limits).map(gpu))
        .collect()
}

fn measured(fixture: &mut PoolFixture, foreign: u64) -> Vec<Action> {
    fixture.tell(Event::MemoryMeasured {
        device: CUDA,
        total: Some(Mebibytes(200)),
        measured: Mebibytes(0),
        foreign: Mebibytes(foreign),
    })
}

fn state(fixture: &PoolFixture, device: Device) -> Option<DeviceState> {
    let obstacles = fixture.pool.snapshot(fixture.now).obstacles;
    obstacles.get(&device).map(|obstacle| obstacle.state)
}

fn told(actions: &[Action]) -> Vec<&Notice> {
    let notices = actions.iter().filter_map(|action| match action {
        Action::Tell(
            notice @ (Notice::DeviceLost { .. }
            | Notice::DeviceRests { .. }
            | Notice::DeviceBack { .. }),
        ) => Some(notice),
        _ => None,
    });
    notices.collect()
}

#[test]
fn a_job_waits_for_the_measurement_of_a_device_that_was_not_measured_for_too_long() {
    let mut fixture = pool_with(&["a"], &[150]);
    measured(&mut fixture, 0);
    assert!(!fixture.pool.waits());
    fixture.tell(Event::MeasurementAged { device: CUDA });
    assert_eq!(state(&fixture, CUDA), Some(DeviceState::Unmeasured));
    let asked = fixture.ask_model("a");
    assert!(starts(&asked).is_empty() && refusals(&asked).is_empty());
    assert!(fixture.pool.waits());
    let after = measured(&mut fixture, 40);
    assert_eq!(starts(&after).len(), 1);
    assert_eq!(state(&fixture, CUDA), None);
}

#[test]
fn a_job_that_waited_for_a_measurement_fails_with_the_sums_that_it_shows() {
    let mut fixture = pool_with(&["a"], &[150]);
    measured(&mut fixture, 0);
    fixture.tell(Event::MeasurementAged { device: CUDA });
    fixture.ask_model("a");
    let after = measured(&mut fixture, 170);
    let (_, failure) = failures(&after).remove(0);
    let sentence = "Cannot spawn workers for a. Need 100 MB, only 30 MB available";
    assert_eq!(failure.message, sentence);
}

#[test]
fn memory_that_others_held_at_a_measurement_that_is_too_old_refuses_nothing() {
    let mut fixture = pool_with(&["a"], &[150]);
    measured(&mut fixture, 170);
    assert_eq!(refusals(&fixture.ask_model("a")).len(), 1);
    fixture.tell(Event::MeasurementAged { device: CUDA });
    assert!(refusals(&fixture.ask_model("a")).is_empty());
    assert_eq!(starts(&measured(&mut fixture, 0)).len(), 1);
}

#[test]
fn a_lost_device_refuses_with_its_reason_and_a_worker_on_another_goes_on() {
    let mut fixture = pool_with(&["a", "b"], &[0, 150]);
    let start = starts(&fixture.ask_model("b")).remove(0);
    let run = runs(&fixture.bring_up(start.worker)).remove(0);
    for device in [CUDA, Device::Cuda(1)] {
        let lost = Event::DeviceLost {
            device,
            reason: "it fell off the bus".into(),
        };
        assert_eq!(told(&fixture.tell(lost.clone())).len(), 1);
        assert!(told(&fixture.tell(lost)).is_empty(), "once");
    }
    let refused = refusals(&fixture.ask_model("a")).remove(0);
    let sentence = "no device that is usable now can run a; cuda:0 is lost: it fell off the bus; \
                    cuda:1 is lost: it fell off the bus";
    assert_eq!(refused.message, sentence);
    assert_eq!(
        pictures(&fixture.finish(&run)).len(),
        1,
        "it has its memory"
    );
    let back = measured(&mut fixture, 0);
    assert_eq!(told(&back), [&Notice::DeviceBack { device: CUDA }]);
}

#[test]
fn a_device_that_fails_for_two_models_rests_and_is_tried_again() {
    let mut fixture = pool_with(&["a", "b"], &[400]);
    let lose_context = |fixture: &mut PoolFixture, worker| {
        fixture.bring_up(worker);
        let after = fixture.exit(worker, 81);
        assert!(failures(&after).is_empty());
        fixture.tell(Event::MemoryReturned {
            worker,
            left: Mebibytes(0),
        });
        after
    };
    let first = starts(&fixture.ask_model("a")).remove(0).worker;
    let again = starts(&lose_context(&mut fixture, first)).remove(0).worker;
    let other = starts(&fixture.ask_model("b")).remove(0).worker;
    let after = lose_context(&mut fixture, other);
    assert!(starts(&after).is_empty());
    let rested: Vec<Notice> = told(&after).into_iter().cloned().collect();
    assert!(
        told(&lose_context(&mut fixture, again)).is_empty(),
        "it rests already"
    );
    let for_long = settings().breaker_open;
    let rests = Notice::DeviceRests {
        device: CUDA,
        reason: "workers of 2 models lost their context there".into(),
        for_long,
    };
    assert_eq!(rested, [rests]);
    assert_eq!(state(&fixture, CUDA), Some(DeviceState::Resting));
    assert!(starts(&fixture.pass(for_long - Duration::from_secs(1))).is_empty());
    let after = fixture.pass(Duration::from_secs(1));
    assert!(told(&after).contains(&&Notice::DeviceBack { device: CUDA }));
    assert!(!starts(&after).is_empty());
}

#[test]
fn one_model_that_loses_its_context_again_and_again_does_not_rest_the_device() {
    let mut fixture = pool_with(&["a"], &[150]);
    let mut worker = starts(&fixture.ask_model("a")).remove(0).worker;
    for _ in 0..4 {
        fixture.bring_up(worker);
        fixture.exit(worker, 81);
        assert_eq!(state(&fixture, CUDA), None);
        let after = fixture.tell(Event::MemoryReturned {
            worker,
            left: Mebibytes(0),
        });
        worker = starts(&after).remove(0).worker;
    }
}
