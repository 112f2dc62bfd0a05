//! Draws clients' requests: most of them valid, some not.

use ipc_protocol::ids::{Device, DeviceConstraint};
use ipc_protocol::request::{ImageRequest, Priority};
use ipc_protocol::units::PictureSize;

use crate::faults::FaultKind;
use crate::operators;
use crate::plan::{WorldPlan, name};
use crate::random::SeededRandom;

pub(crate) fn draw(plan: &WorldPlan, client: usize, random: &mut SeededRandom) -> ImageRequest {
    let poison = plan.faults.has(FaultKind::Poison) && random.permille(40);
    let doomed = plan.faults.has(FaultKind::Doomed) && random.permille(60);
    let prompt = match (poison, doomed) {
        (true, _) => "a poison fox",
        (false, true) => "a doomed fox",
        (false, false) => "a fox",
    };
    let mut request = ImageRequest::new(format!("{prompt} {}", random.from(0, 50)));
    request.model = random
        .permille(950)
        .then(|| name(random.below(plan.models)).into());
    request.steps = random.permille(900).then(|| random.from(1, 6) as u32);
    request.seed = random.permille(500).then(|| random.next());
    request.count = if random.permille(150) {
        random.from(2, 4)
    } else {
        1
    } as u32;
    request.size = size(plan, client, random);
    if plan.devices > 1 && random.permille(40) {
        request.device = DeviceConstraint::On(operators::device(random.below(plan.devices)));
    } else if random.permille(20) {
        request.device = DeviceConstraint::On(Device::Host);
    }
    request.priority = match random.from(0, 9) {
        0 => Priority::High,
        1 => Priority::Low,
        _ => Priority::Normal,
    };
    if plan.faults.has(FaultKind::Deadlines) && random.permille(200) {
        let most = if random.permille(500) { 2_000 } else { 20_000 };
        request.timeout_ms = Some(random.from(1, most));
    }
    request.detached = random.permille(100);
    if random.permille(120) {
        guide(&mut request, random);
    }
    if random.permille(20) {
        spoil(&mut request, random);
    }
    request
}

/// Some users ask for larger pictures than others do, where nothing but that is different.
fn size(plan: &WorldPlan, client: usize, random: &mut SeededRandom) -> Option<PictureSize> {
    let user = client % plan.users;
    let side = match (plan.models, user.is_multiple_of(2)) {
        (1, true) if random.permille(800) => random.from(32, 64),
        (1, false) if random.permille(800) => random.from(4, 16),
        _ if random.permille(150) => random.from(4, 96),
        _ => return None,
    };
    let side = 16 * side as u32;
    Some(PictureSize {
        width: side,
        height: side,
    })
}

/// Guidance and a negative prompt, which only some models can follow.
fn guide(request: &mut ImageRequest, random: &mut SeededRandom) {
    if random.permille(700) {
        request.guidance = Some(random.from(0, 12) as f32 / 2.0);
    }
    if random.permille(500) {
        let texts = ["a dog", "", "a dog that is blurred", "sixteen letters."];
        request.negative = Some(texts[random.below(texts.len())].into());
    }
}

/// Asks for something that cannot be.
fn spoil(request: &mut ImageRequest, random: &mut SeededRandom) {
    match random.below(7) {
        0 => request.steps = Some(0),
        1 => request.steps = Some(1000),
        2 => request.guidance = Some(-1.0),
        3 => request.model = Some(misspelled(random)),
        4 => request.prompt = if random.permille(500) { "" } else { "  " }.into(),
        5 => {
            request.device = DeviceConstraint::On(Device::Cuda(7));
        }
        _ => {
            request.size = Some(PictureSize {
                width: 100,
                height: 64,
            });
        }
    }
}

/// Returns a name with a letter too many, too few or wrong, or an unknown one.
fn misspelled(random: &mut SeededRandom) -> String {
    let mut letters: Vec<char> = name(random.below(8)).chars().collect();
    for _ in 0..random.from(1, 3) {
        let at = random.below(letters.len());
        match random.below(3) {
            0 => letters.insert(at, 'q'),
            1 => letters[at] = 'q',
            _ => {
                letters.remove(at);
            }
        }
    }
    match random.permille(200) {
        true => "a-model-that-nobody-here-ever-heard-of".into(),
        false => letters.into_iter().collect(),
    }
}
