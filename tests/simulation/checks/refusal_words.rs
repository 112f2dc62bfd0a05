//! A refusal names its cause: the field, the sums, the nearest name, the time to wait.

use crate::observed::span;
use std::collections::BTreeMap;
use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind, Field};
use ipc_protocol::ids::{Device, DeviceConstraint};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::PictureSize;
use pool::{Files, ModelSpec, Moment};

use super::CheckResult;
use crate::observed::{DeviceRecord, DurationRange, ModelRecord, ObservedPool, ProcessRecord};
use crate::oracle::{invalid_fields, most_images};

/// The field that a refusal names has a value that is not allowed.
pub(super) fn names_field(
    observed: &ObservedPool,
    spec: &ModelSpec,
    request: &ImageRequest,
    failure: &Failure,
) -> bool {
    let Some(field) = failure.field else {
        return false;
    };
    let most = most_images(observed).to_string();
    let counts = field != Field::Count || failure.message.contains(&most);
    request.check().is_err() || counts && invalid_fields(observed, spec, request).contains(&field)
}

/// The request has a value that no model allows, or more images than may wait, and the refusal names the field.
pub(super) fn is_no_number(
    observed: &ObservedPool,
    request: &ImageRequest,
    failure: &Failure,
) -> bool {
    let most = most_images(observed);
    let many = request.count as usize > most
        && failure.field == Some(Field::Count)
        && failure.message.contains(&most.to_string());
    request.check().is_err() && failure.field.is_some() || many
}

/// The failure is about the files of the model, with the reason why they cannot be used.
pub(super) fn names_files(spec: &ModelSpec, failure: &Failure) -> bool {
    let text = &failure.message;
    let reason = match &spec.files {
        Files::Missing(why) | Files::Broken(why) => text.contains(why.as_str()),
        Files::Here { .. } | Files::Unread => true,
    };
    reason && text.contains(spec.key.as_str())
}

/// When a place is likely to be free: when the first that draws will have drawn.
pub(super) fn says_when(
    observed: &ObservedPool,
    now: Moment,
    model: &ModelRecord,
    said_ms: u64,
) -> bool {
    let said = Duration::from_millis(said_ms);
    let drawing = observed
        .live(&model.spec.key)
        .filter_map(|(_, process)| rest(observed, now, model, process));
    let (least, most): (Vec<Duration>, Vec<Duration>) =
        drawing.map(|rest| (rest.least, rest.most)).unzip();
    let (Some(least), Some(most)) = (least.iter().min(), most.iter().min()) else {
        return said_ms >= 1;
    };
    *least <= said + Duration::from_millis(1) && said <= (*most).max(Duration::from_secs(1))
}

/// Returns the rest of the job that a worker draws: at least the steps after the current one, at most that one too.
pub(super) fn rest(
    observed: &ObservedPool,
    now: Moment,
    model: &ModelRecord,
    process: &ProcessRecord,
) -> Option<DurationRange> {
    let record = observed.jobs.get(&process.job()?)?;
    let pace = &model.pace;
    let pixels = record.parameters.size.pixels();
    let (least, most) = (pace.least_step(pixels)?, pace.most_step(pixels)?);
    let (encode, decode) = (
        pace.encode.unwrap_or_default(),
        pace.decode.unwrap_or_default(),
    );
    let left = record.parameters.steps.saturating_sub(record.step);
    let spent = span(now, process.progressed);
    let rounded = Duration::from_millis(u64::from(left) + 2);
    Some(match left {
        0 => DurationRange {
            least: decode.least.saturating_sub(spent + rounded),
            most: decode.most + rounded,
        },
        _ => DurationRange {
            least: (least * (left - 1) + decode.least).saturating_sub(rounded),
            most: most * left + encode.most + decode.most + rounded,
        },
    })
}

/// Checks the numbers of a refusal: which is short, and on which device.
pub(super) fn says_sums(
    observed: &ObservedPool,
    model: &ModelRecord,
    failure: &Failure,
    size: PictureSize,
) -> bool {
    let (key, text) = (&model.spec.key, &failure.message);
    if text.contains("no device that is usable") {
        return observed.places(model, DeviceConstraint::Auto).is_empty()
            || observed.devices.values().any(|place| place.lost);
    }
    let nobody = observed.live(key).next().is_none();
    let base = failure.kind == FailureKind::MemoryExhausted;
    let needs = |(&at, place): (&Device, &DeviceRecord)| {
        let available = observed.available(at);
        let best = observed.at_best(at, &observed.staying());
        let short = |need: u64| match base {
            true => {
                let sums = format!("Need {need} MB, only {} MB available", available.0);
                text.contains(&sums) && (observed.is_squeezed(at) || need > best.0)
            }
            false => text.contains(&format!(
                "needs {need} MB more on {at}, {} of {} MB are available",
                available.0, place.limit.0
            )),
        };
        let devices = || observed.devices.keys();
        let extra = |&on: &Device| observed.extra(model, on, size).0;
        let parts =
            devices().filter_map(|on| Some((observed.need(model, *on)?.get(&at)?.0, extra(on))));
        let mut parts = parts.flat_map(|(part, extra)| [part, part + extra]);
        let found = parts.any(short);
        found || devices().map(extra).any(short)
    };
    text.contains(key.as_str()) && (!base || nobody) && observed.devices.iter().any(needs)
}

/// A slip of the pen is answered with the name that was meant.
pub(super) fn names_nearest(observed: &ObservedPool, name: &str, failure: &Failure) -> CheckResult {
    if failure.kind != FailureKind::UnknownModel {
        return Ok(());
    }
    let offered = observed.models.values().filter(|model| model.offered);
    let far: BTreeMap<&str, usize> = offered
        .map(|model| {
            (
                model.spec.key.as_str(),
                edits(name.as_bytes(), model.spec.key.as_str().as_bytes()),
            )
        })
        .collect();
    let least = far.values().min().copied().unwrap_or(usize::MAX);
    let text = &failure.message;
    let hint = text.split("nearest name is ").nth(1);
    let right = match hint {
        Some(hint) => far.get(hint) == Some(&least) && least <= hint.len() * 3 / 4 + 1,
        None => far.iter().all(|(key, &edits)| edits > key.len() / 2),
    };
    let shown: String = name.chars().take(80).collect();
    match right && text.contains(&shown) && failure.field == Some(Field::Model) {
        true => Ok(()),
        false => Err(format!(
            "{text:?} for {name:?}, which is {least} letters from a name"
        )),
    }
}

/// Letters to change, add or drop, counted from the back of both words.
fn edits(one: &[u8], two: &[u8]) -> usize {
    let mut known = vec![vec![0; two.len() + 1]; one.len() + 1];
    for a in 0..=one.len() {
        for b in 0..=two.len() {
            known[a][b] = match (a, b) {
                (0, rest) | (rest, 0) => rest,
                (a, b) if one[one.len() - a] == two[two.len() - b] => known[a - 1][b - 1],
                (a, b) => {
                    1 + known[a - 1][b]
                        .min(known[a][b - 1])
                        .min(known[a - 1][b - 1])
                }
            };
        }
    }
    known[one.len()][two.len()]
}
