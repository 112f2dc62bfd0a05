//! Placement: affinity, shares, deadlines, room.

mod fixture;

use std::collections::VecDeque;
use std::time::Duration;

use fixture::{
    PoolFixture, asked_to_leave, failures, host, model, pictures, refusals, request, runs,
    settings, starts,
};
use ipc_protocol::failure::{FailureKind, Field};
use ipc_protocol::ids::{Device, DeviceConstraint, JobId};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::{Action, DeviceLimit, Event, Footprint, Settings};

/// Plays forty jobs of two models that take turns on room for one; says the swaps and the most
/// overtakes.
fn alternate(fifo: bool) -> (u64, u64) {
    let settings = Settings {
        fifo,
        queue_per_model: 40,
        max_overtake: Duration::from_secs(3600),
        ..settings()
    };
    let mut fixture =
        PoolFixture::with(settings, vec![model("a", 100), model("b", 100)], host(150));
    let mut todo: VecDeque<Action> = VecDeque::new();
    for nth in 0..40 {
        todo.extend(fixture.ask_model(["a", "b"][nth % 2]));
    }
    while let Some(action) = todo.pop_front() {
        fixture.now = fixture.now + Duration::from_millis(100);
        let after = match &action {
            Action::Start(start) => fixture.bring_up(start.worker),
            Action::Run(run) => fixture.finish(run),
            Action::AskToLeave { worker } => fixture.leave(*worker),
            _ => Vec::new(),
        };
        todo.extend(after);
        fixture.check_books();
    }
    assert_eq!(pictures(&fixture.said).len(), 40);
    let counters = fixture.pool.snapshot(fixture.now).counters;
    (counters.swaps, counters.overtakes_max)
}

#[test]
fn two_models_that_take_turns_share_one_place_with_few_swaps_and_bounded_overtaking() {
    let (swaps, overtakes) = alternate(false);
    assert!(swaps <= 10, "{swaps} swaps");
    assert!(overtakes <= 8, "{overtakes} overtakes");
}

#[test]
fn strictly_by_arrival_every_job_is_a_swap() {
    assert_eq!(alternate(true), (39, 0));
}

#[test]
fn a_flood_of_one_user_costs_another_at_most_one_job() {
    let settings = Settings {
        queue_per_model: 600,
        max_workers_per_model: 1,
        ..settings()
    };
    let mut fixture = PoolFixture::with(settings, vec![model("a", 100)], host(1000));
    let start = starts(&fixture.ask_as(request("a"), "flood")).remove(0);
    for _ in 0..499 {
        fixture.ask_as(request("a"), "flood");
    }
    let mut run = runs(&fixture.bring_up(start.worker)).remove(0);
    for _ in 0..10 {
        run = runs(&fixture.finish(&run)).remove(0);
    }
    let accepted = fixture.ask_as(request("a"), "victim");
    assert!(refusals(&accepted).is_empty());
    let victim = fixture
        .pool
        .snapshot(fixture.now)
        .queue
        .last()
        .expect("it waits")
        .job;
    let first = runs(&fixture.finish(&run)).remove(0);
    let second = runs(&fixture.finish(&first)).remove(0);
    assert!(first.job == victim || second.job == victim);
}

#[test]
fn a_larger_picture_takes_more_room_and_gives_it_back() {
    let mut big = model("a", 100);
    big.need.activation.per_megapixel = Mebibytes(100);
    big.need.activation.base = Mebibytes(0);
    let mut fixture = PoolFixture::new(vec![big], 250);
    let large = ImageRequest {
        size: Some(PictureSize {
            width: 1024,
            height: 1024,
        }),
        ..request("a")
    };
    let start = starts(&fixture.ask(large)).remove(0);
    let before = fixture.pool.total_memory_mb();
    let ready = fixture.bring_up(start.worker);
    let run = runs(&ready).into_iter().next();
    let run = match run {
        Some(run) => run,
        None => {
            // The second worker's room is in the way: it leaves for it once it is idle.
            let other = fixture.workers().into_iter().max().expect("two");
            let said = fixture.bring_up(other);
            assert_eq!(asked_to_leave(&said).len(), 1);
            let gone = asked_to_leave(&said)[0];
            runs(&fixture.leave(gone)).remove(0)
        }
    };
    fixture.check_books();
    fixture.finish(&run);
    fixture.check_books();
    assert!(fixture.pool.total_memory_mb() <= before);
    let huge = ImageRequest {
        size: Some(PictureSize {
            width: 2048,
            height: 2048,
        }),
        ..request("a")
    };
    let refused = refusals(&fixture.ask(huge));
    assert_eq!(refused[0].kind, FailureKind::NeverFits);
}

#[test]
fn a_worker_that_waits_for_memory_stays_for_its_job_when_a_younger_one_is_for_another_device() {
    let mut a = model("a", 100);
    let cuda = a
        .need
        .on_cuda
        .as_mut()
        .expect("the fixture's models run there");
    cuda.activation.per_megapixel = Mebibytes(100);
    let gpu = DeviceLimit {
        device: Device::Cuda(0),
        limit: Mebibytes(250),
        confirms: false,
    };
    let settings = Settings {
        max_workers_per_model: 1,
        ..settings()
    };
    let devices = [host(1000), vec![gpu]].concat();
    let mut fixture = PoolFixture::with(settings, vec![a, model("b", 100)], devices);
    let other = starts(&fixture.ask_model("b"))[0].worker;
    let busy = runs(&fixture.bring_up(other)).remove(0);
    let large = ImageRequest {
        size: Some(PictureSize {
            width: 1024,
            height: 1024,
        }),
        device: DeviceConstraint::On(Device::Cuda(0)),
        ..request("a")
    };
    let small = ImageRequest {
        device: DeviceConstraint::On(Device::Host),
        ..request("a")
    };
    let worker = starts(&fixture.ask(large))[0].worker;
    fixture.ask(small);
    let up = fixture.bring_up(worker);
    assert_eq!((runs(&up), asked_to_leave(&up)), (vec![], vec![]));
    assert_eq!(asked_to_leave(&fixture.finish(&busy)), [other]);
    let run = runs(&fixture.leave(other)).remove(0);
    assert_eq!(run.worker, worker);
    assert_eq!(asked_to_leave(&fixture.finish(&run)), [worker]);
    assert_eq!(starts(&fixture.leave(worker))[0].device, Device::Host);
}

#[test]
fn a_job_ends_at_once_when_a_kept_worker_is_measured_to_hold_the_memory_it_waits_for() {
    let mut kept = model("a", 100);
    kept.pinned = true;
    let settings = Settings {
        max_workers_per_model: 1,
        ..settings()
    };
    let models = vec![kept, model("b", 100), model("c", 120)];
    let mut fixture = PoolFixture::with(settings, models, host(260));
    let pinned = starts(&fixture.tell(Event::DeadlineReached))[0].worker;
    fixture.bring_up(pinned);
    let busy = starts(&fixture.ask_model("b"))[0].worker;
    assert_eq!(runs(&fixture.bring_up(busy)).len(), 1);
    fixture.ask_model("c");
    let measured = fixture.tell(Event::FootprintMeasured {
        worker: pinned,
        footprint: Footprint {
            host: Mebibytes(150),
            device: Mebibytes::ZERO,
        },
    });
    assert_eq!(failures(&measured)[0].1.kind, FailureKind::MemoryExhausted);
}

#[test]
fn each_refused_value_names_its_field() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 1000);
    let size = |width, height| Some(PictureSize { width, height });
    let cases = [
        (Field::Prompt, ImageRequest::new("x".repeat(20_000))),
        (Field::Prompt, ImageRequest::new(" ")),
        (
            Field::Size,
            ImageRequest {
                size: size(17, 33),
                ..request("a")
            },
        ),
        (
            Field::Size,
            ImageRequest {
                size: size(0, 0),
                ..request("a")
            },
        ),
        (
            Field::Size,
            ImageRequest {
                size: size(100_000, 100_000),
                ..request("a")
            },
        ),
        (
            Field::Steps,
            ImageRequest {
                steps: Some(0),
                ..request("a")
            },
        ),
        (
            Field::Steps,
            ImageRequest {
                steps: Some(65),
                ..request("a")
            },
        ),
        (
            Field::Guidance,
            ImageRequest {
                guidance: Some(3.5),
                ..request("a")
            },
        ),
        (
            Field::Negative,
            ImageRequest {
                negative: Some("cats".into()),
                ..request("a")
            },
        ),
        (Field::Model, request("aa")),
        (
            Field::Device,
            ImageRequest {
                device: DeviceConstraint::On(Device::Cuda(3)),
                ..request("a")
            },
        ),
        (
            Field::Count,
            ImageRequest {
                count: 0,
                ..request("a")
            },
        ),
        (
            Field::Timeout,
            ImageRequest {
                timeout_ms: Some(0),
                ..request("a")
            },
        ),
    ];
    for (field, request) in cases {
        let refused = refusals(&fixture.ask(request)).remove(0);
        assert_eq!(refused.field, Some(field), "{refused}");
        assert_eq!(refused.kind.exit_code(), 2, "{refused}");
    }
    assert!(starts(&fixture.said).is_empty());
    let typo = refusals(&fixture.ask(request("ab"))).remove(0);
    assert!(typo.message.contains("nearest name is a"), "{typo}");
}

#[test]
fn a_job_ends_at_its_time_limit_wherever_it_is() {
    let mut fixture = PoolFixture::new(vec![model("a", 100)], 150);
    let limited = ImageRequest {
        timeout_ms: Some(1500),
        ..request("a")
    };
    let start = starts(&fixture.ask(limited)).remove(0);
    fixture.bring_up(start.worker);
    let said = fixture.pass(Duration::from_secs(2));
    assert_eq!(failures(&said), [(JobId(1), failures(&said)[0].1.clone())]);
    assert_eq!(failures(&said)[0].1.kind, FailureKind::DeadlineExceeded);
}

#[test]
fn a_job_that_wishes_for_a_device_runs_there_or_waits() {
    let devices = vec![
        DeviceLimit {
            device: Device::Host,
            limit: Mebibytes(1000),
            confirms: false,
        },
        DeviceLimit {
            device: Device::Cuda(0),
            limit: Mebibytes(1000),
            confirms: true,
        },
    ];
    let mut fixture = PoolFixture::with(settings(), vec![model("a", 100)], devices);
    let fast = starts(&fixture.ask_model("a"));
    assert!(fast.iter().all(|start| start.device == Device::Cuda(0)));
    let on_cpu = ImageRequest {
        device: DeviceConstraint::On(Device::Host),
        ..request("a")
    };
    let wished = starts(&fixture.ask(on_cpu)).remove(0);
    assert_eq!(wished.device, Device::Host);
    for start in fast {
        let ran = runs(&fixture.bring_up(start.worker));
        assert!(ran.iter().all(|run| run.job == JobId(1)));
    }
    assert_eq!(runs(&fixture.bring_up(wished.worker))[0].job, JobId(2));
    fixture.check_books();
}

#[test]
fn a_job_for_another_device_is_overtaken_by_its_model_only_so_often() {
    let settings = Settings {
        max_workers_per_model: 1,
        ..settings()
    };
    let devices = [Device::Host, Device::Cuda(0)].map(|device| DeviceLimit {
        device,
        limit: Mebibytes(1000),
        confirms: false,
    });
    let mut fixture = PoolFixture::with(settings, vec![model("a", 100)], devices.to_vec());
    let fast = starts(&fixture.ask_model("a")).remove(0);
    assert_eq!(fast.device, Device::Cuda(0));
    fixture.ask(ImageRequest {
        device: DeviceConstraint::On(Device::Host),
        ..request("a")
    });
    let mut ran = runs(&fixture.bring_up(fast.worker));
    let mut overtakes = 0;
    while let Some(run) = ran.pop() {
        fixture.ask_model("a");
        fixture.ask_model("a");
        ran = runs(&fixture.finish(&run));
        overtakes += ran.len();
    }
    assert_eq!(overtakes, 8);
    let slow = starts(&fixture.leave(fast.worker)).remove(0);
    assert_eq!(slow.device, Device::Host);
    assert_eq!(runs(&fixture.bring_up(slow.worker))[0].job, JobId(2));
    fixture.check_books();
}

#[test]
fn memory_of_a_dead_gpu_worker_settles_before_it_is_promised_again() {
    let devices = vec![
        DeviceLimit {
            device: Device::Host,
            limit: Mebibytes(1000),
            confirms: false,
        },
        DeviceLimit {
            device: Device::Cuda(0),
            limit: Mebibytes(150),
            confirms: true,
        },
    ];
    let mut only_gpu = model("a", 100);
    only_gpu.need.on_cpu = None;
    let mut fixture = PoolFixture::with(settings(), vec![only_gpu], devices);
    let worker = starts(&fixture.ask_model("a"))[0].worker;
    fixture.bring_up(worker);
    let after = fixture.die(worker, 9, None);
    assert!(starts(&after).is_empty(), "it settles");
    let after = fixture.tell(Event::MemoryReturned {
        worker,
        left: Mebibytes(0),
    });
    assert_eq!(starts(&after).len(), 1);
}
