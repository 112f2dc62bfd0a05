//! Draws operators' commands, registry changes and measurements of devices.

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{Device, ModelKey, WorkerName};
use ipc_protocol::units::Mebibytes;
use pool::{Event, Files, ModelSpec, Registry, Target, Ticket};

use crate::faults::FaultKind;
use crate::plan::{WorldPlan, name};
use crate::random::SeededRandom;

pub(crate) fn device(nth: usize) -> Device {
    match nth {
        0 => Device::Host,
        gpu => Device::Cuda(gpu as u32 - 1),
    }
}

/// A random command. `known` is a digest in quarantine.
pub(crate) fn command(
    plan: &WorldPlan,
    ticket: Ticket,
    known: Option<String>,
    random: &mut SeededRandom,
) -> Event {
    let model = match random.permille(50) {
        true => "nobody",
        false => name(random.below(plan.models)),
    };
    let key = ModelKey::new(model).expect("a plain key");
    let model = model.to_string();
    let target = match random.from(0, 6) {
        0 => Target::All,
        1 | 2 => Target::Worker(WorkerName {
            model: key,
            slot: random.from(0, 4) as u32,
        }),
        _ => Target::Model(key),
    };
    match random.from(0, 8) {
        0 | 1 => Event::StopRequested { ticket, target },
        2 | 3 => Event::StartRequested { ticket, target },
        4 => Event::RestartRequested { ticket, target },
        5 => Event::PinChanged {
            ticket,
            model,
            pinned: random.permille(300),
        },
        6 => Event::Scaled {
            ticket,
            model,
            workers: random.from(0, 5) as u32,
        },
        7 => Event::QuarantineListed { ticket },
        _ => Event::QuarantineReleased {
            ticket,
            digest: match random.from(0, 2) {
                0 => None,
                1 => known,
                _ => Some("0123456789abcdef".into()),
            },
        },
    }
}

/// The registry read again: with a model less, with one that is another now, or just the same.
pub(crate) fn changed(registry: &Registry, random: &mut SeededRandom) -> Registry {
    let mut specs: Vec<ModelSpec> = registry.iter().cloned().collect();
    let nth = random.below(specs.len());
    let many = specs.len() > 1;
    let spec = &mut specs[nth];
    match random.from(0, 9) {
        0 | 1 if many => {
            specs.remove(nth);
        }
        2 => {}
        3 => spec.max_workers = Some(random.from(1, 4) as u32),
        4 => spec.pinned = !spec.pinned,
        5 => spec.sizes.max = 16 * random.from(40, 110) as u32,
        6 => spec.params = "dtype=f16".into(),
        7 => spec.need.activation.base = Mebibytes(random.from(0, 30)),
        _ => {
            let other = random.next();
            spec.digest = format!("digest-{other}");
            spec.files = Files::Here {
                stamp: format!("stamp-{other}"),
            };
        }
    }
    Registry::new(specs).expect("it was sound before")
}

/// The same models, with the files of one unread.
pub(crate) fn unread(known: &Registry, key: &ModelKey) -> Registry {
    with(known, key, &|spec| spec.files = Files::Unread)
}

/// The planned models as they are at first: the files of many are missing, or were not looked at.
pub(crate) fn without_files(planned: &Registry, random: &mut SeededRandom) -> Registry {
    let specs = planned.iter().cloned().map(|mut spec| {
        match random.from(0, 9) {
            0..=3 => spec.files = Files::Missing("it was never fetched".into()),
            4 => spec.files = Files::Unread,
            _ => {}
        }
        spec
    });
    Registry::new(specs.collect()).expect("it was sound before")
}

/// The same models, of which one has lost its files.
pub(crate) fn lost(known: &Registry, key: &ModelKey) -> Registry {
    let files = Files::Missing("its folder was removed".into());
    with(known, key, &|spec| spec.files = files.clone())
}

/// The same models, with the files of one as planned.
pub(crate) fn mended(known: &Registry, planned: &Registry, key: &ModelKey) -> Registry {
    let planned = planned.iter().find(|spec| spec.key == *key);
    with(known, key, &|spec| {
        if let Some(planned) = planned {
            (spec.files, spec.digest) = (planned.files.clone(), planned.digest.clone());
        }
    })
}

/// A look or a fetch that was not possible.
pub(crate) fn no_fetch(random: &mut SeededRandom) -> Failure {
    let (kind, message) = match random.from(0, 2) {
        0 => (FailureKind::ModelMissing, "the hub does not answer"),
        1 => (FailureKind::ModelUnusable, "its folder cannot be opened"),
        _ => (
            FailureKind::Internal,
            "no thread is left to look at its files",
        ),
    };
    Failure::new(kind, message)
}

/// The same models, with what a look found of the files of one: mostly what was planned.
pub(crate) fn found(
    known: &Registry,
    planned: &Registry,
    key: &ModelKey,
    random: &mut SeededRandom,
) -> Registry {
    let other = random.next();
    let case = random.from(0, 9);
    let planned = planned.iter().find(|spec| spec.key == *key);
    with(known, key, &|spec| match case {
        0 => spec.files = Files::Broken("a tensor is missing".into()),
        1 => spec.files = Files::Missing("its folder is empty".into()),
        2 => {
            spec.digest = format!("digest-{other}");
            spec.files = Files::Here {
                stamp: format!("stamp-{other}"),
            };
        }
        _ => {
            if let Some(planned) = planned {
                (spec.files, spec.digest) = (planned.files.clone(), planned.digest.clone());
            }
            // The digest of the same files was taken only now.
            if case == 3 {
                spec.digest = format!("digest-{other}");
            }
        }
    })
}

fn with(known: &Registry, key: &ModelKey, change: &dyn Fn(&mut ModelSpec)) -> Registry {
    let specs = known.iter().cloned().map(|mut spec| {
        if spec.key == *key {
            change(&mut spec);
        }
        spec
    });
    Registry::new(specs.collect()).expect("it was sound before")
}

/// The probe looks at a device.
pub(crate) fn measured(plan: &WorldPlan, random: &mut SeededRandom) -> Event {
    let mut some = |most: u64| Mebibytes(random.from(0, most));
    let others = plan.faults.has(FaultKind::Others);
    let (measured, foreign, total) = (some(300), some(200), some(1200));
    let known = others && random.permille(300);
    Event::MemoryMeasured {
        device: device(random.below(plan.devices)),
        total: known.then_some(total + Mebibytes(200)),
        measured,
        foreign: if others { foreign } else { Mebibytes::ZERO },
    }
}
