//! A refusal names what is wrong: the field, the numbers, the name that was meant, the time to wait.

use crate::scene::span;
use std::collections::BTreeMap;
use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind, Field};
use ipc_protocol::ids::{Device, DeviceWish};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::PictureSize;
use pool::{GuidanceRule, Moment};

use crate::scene::{Hand, Model, Place, Range, Scene};
use crate::shadow::Verdict;

/// The field it names cannot be what it is.
pub(super) fn names_field(
    scene: &Scene,
    model: &Model,
    request: &ImageRequest,
    failure: &Failure,
) -> bool {
    let spec = &model.spec;
    let rule = &spec.sizes;
    let side =
        |side: u32| (rule.min..=rule.max).contains(&side) && side.is_multiple_of(rule.multiple);
    let long = |text: &str| text.len() > scene.settings.prompt_bytes;
    let guides = matches!(spec.guidance, GuidanceRule::Scale { .. });
    match failure.field {
        Some(Field::Prompt) => {
            long(&request.prompt) || request.prompt.trim().is_empty() && !spec.empty_prompt
        }
        Some(Field::Size) => request.size.is_some_and(|size| {
            !side(size.width) || !side(size.height) || size.pixels() > scene.settings.max_pixels
        }),
        Some(Field::Steps) => {
            let steps = request.steps.unwrap_or(spec.default_steps);
            steps == 0 || steps > spec.max_steps
        }
        Some(Field::Guidance) => request.guidance.is_some_and(|scale| match spec.guidance {
            GuidanceRule::None => !(0.0..=1.0).contains(&scale),
            GuidanceRule::Scale { max, .. } => !(0.0..=max).contains(&scale),
        }),
        Some(Field::Negative) => {
            let negative = request.negative.as_deref().unwrap_or("");
            let weak = request.guidance.is_none_or(|scale| scale <= 1.0);
            !negative.is_empty() && (!guides || weak || long(negative))
        }
        Some(Field::Device) => request.device != DeviceWish::Auto,
        Some(Field::Timeout) => request.timeout_ms == Some(0),
        Some(Field::Count) => {
            let settings = &scene.settings;
            let most = settings.queue_per_model.min(settings.queue_total);
            request.count as usize > most && failure.message.contains(&most.to_string())
        }
        Some(_) | None => false,
    }
}

/// When a place is likely to be free: when the first that draws will have drawn.
pub(super) fn says_when(scene: &Scene, now: Moment, model: &Model, said_ms: u64) -> bool {
    let said = Duration::from_millis(said_ms);
    let drawing = scene
        .live(&model.spec.key)
        .filter_map(|(_, hand)| rest(scene, now, model, hand));
    let (least, most): (Vec<Duration>, Vec<Duration>) =
        drawing.map(|rest| (rest.least, rest.most)).unzip();
    let (Some(least), Some(most)) = (least.iter().min(), most.iter().min()) else {
        return said_ms >= 1;
    };
    *least <= said + Duration::from_millis(1) && said <= (*most).max(Duration::from_secs(1))
}

/// What is left of the job that a worker draws: at least the steps after the one that it is in, at most that
/// one too.
pub(super) fn rest(scene: &Scene, now: Moment, model: &Model, hand: &Hand) -> Option<Range> {
    let task = scene.jobs.get(&hand.job()?)?;
    let pace = &model.pace;
    let pixels = task.size.pixels();
    let (least, most) = (pace.least_step(pixels)?, pace.most_step(pixels)?);
    let (encode, decode) = (
        pace.encode.unwrap_or_default(),
        pace.decode.unwrap_or_default(),
    );
    let left = task.steps.saturating_sub(task.step);
    let spent = span(now, hand.progressed);
    let rounded = Duration::from_millis(u64::from(left) + 2);
    Some(match left {
        0 => Range {
            least: decode.least.saturating_sub(spent + rounded),
            most: decode.most + rounded,
        },
        _ => Range {
            least: (least * (left - 1) + decode.least).saturating_sub(rounded),
            most: most * left + encode.most + decode.most + rounded,
        },
    })
}

/// Which number is short where.
pub(super) fn says_sums(
    scene: &Scene,
    model: &Model,
    failure: &Failure,
    size: PictureSize,
) -> bool {
    let (key, text) = (&model.spec.key, &failure.message);
    if text.contains("no device that is usable") {
        return scene.places(model, DeviceWish::Auto).is_empty()
            || scene.devices.values().any(|place| place.lost);
    }
    let nobody = scene.live(key).next().is_none();
    let base = failure.kind == FailureKind::MemoryExhausted;
    let needs = |(&at, place): (&Device, &Place)| {
        let available = place.limit.saturating_sub(scene.reserved(at));
        let best = scene.at_best(at, &scene.staying());
        let short = |need: u64| match base {
            true => {
                let sums = format!("Need {need} MB, only {} MB available", available.0);
                text.contains(&sums) && (scene.is_squeezed(at) || need > best.0)
            }
            false => text.contains(&format!(
                "needs {need} MB more on {at}, {} of {} MB are available",
                available.0, place.limit.0
            )),
        };
        let extra = scene.extra(model, size).0;
        let parts = scene
            .devices
            .keys()
            .filter_map(|&on| scene.need(model, on)?.get(&at).copied());
        let mut parts = parts.flat_map(|part| [part.0, part.0 + extra]);
        let found = parts.any(short);
        found || short(extra)
    };
    text.contains(key.as_str()) && (!base || nobody) && scene.devices.iter().any(needs)
}

/// A slip of the pen is answered with the name that was meant.
pub(super) fn names_nearest(scene: &Scene, name: &str, failure: &Failure) -> Verdict {
    if failure.kind != FailureKind::UnknownModel {
        return Ok(());
    }
    let offered = scene.models.values().filter(|model| model.offered);
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
