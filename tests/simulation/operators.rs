//! Draws operators' commands and measurements of devices.

use std::time::Duration;

use ipc_protocol::ids::{Device, ModelKey, WorkerName};
use ipc_protocol::units::Mebibytes;
use pool::{Event, Settings, Target, Ticket};

use crate::faults::FaultKind;
use crate::plan::{WorldPlan, name};
use crate::random::SeededRandom;

pub(crate) fn device(nth: usize) -> Device {
    match nth {
        0 => Device::Host,
        gpu => Device::Cuda(gpu as u32 - 1),
    }
}

/// A random command. `known` is a digest in quarantine, `settings` are those of the beginning.
pub(crate) fn command(
    plan: &WorldPlan,
    settings: &Settings,
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
    match random.from(0, 10) {
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
        7 => Event::QuarantineListed {
            ticket,
            reader: random.permille(500).then(|| "uid:1".to_owned()),
        },
        8 => Event::EvictRequested { ticket, model },
        9 => reload(settings, random),
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

/// Some of the settings change.
fn reload(settings: &Settings, random: &mut SeededRandom) -> Event {
    Event::SettingsChanged {
        settings: Box::new(Settings {
            grow_after: Duration::from_millis(random.from(0, 3000)),
            idle: Duration::from_millis(random.from(1, 20_000)),
            queue_per_model: random.from(1, 30) as usize,
            min_workers: random.from(0, 1) as u32,
            ..settings.clone()
        }),
    }
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
