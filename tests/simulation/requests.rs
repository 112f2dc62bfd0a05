//! What clients ask for: mostly what can be, sometimes what cannot.

use ipc_protocol::ids::{Device, DeviceWish};
use ipc_protocol::request::{ImageRequest, Priority};
use ipc_protocol::units::PictureSize;

use crate::dice::Dice;
use crate::faults::Fault;
use crate::operators;
use crate::plan::{Plan, name};

pub(crate) fn draw(plan: &Plan, client: usize, dice: &mut Dice) -> ImageRequest {
    let poison = plan.swarm.has(Fault::Poison) && dice.permille(40);
    let doomed = plan.swarm.has(Fault::Doomed) && dice.permille(60);
    let prompt = match (poison, doomed) {
        (true, _) => "a poison fox",
        (false, true) => "a doomed fox",
        (false, false) => "a fox",
    };
    let mut request = ImageRequest::new(format!("{prompt} {}", dice.from(0, 50)));
    request.model = dice
        .permille(950)
        .then(|| name(dice.below(plan.models)).into());
    request.steps = dice.permille(900).then(|| dice.from(1, 6) as u32);
    request.seed = dice.permille(500).then(|| dice.next());
    request.count = if dice.permille(150) {
        dice.from(2, 4)
    } else {
        1
    } as u32;
    request.size = size(plan, client, dice);
    if plan.devices > 1 && dice.permille(40) {
        request.device = DeviceWish::On(operators::device(dice.below(plan.devices)));
    } else if dice.permille(20) {
        request.device = DeviceWish::On(Device::Host);
    }
    request.priority = match dice.from(0, 9) {
        0 => Priority::High,
        1 => Priority::Low,
        _ => Priority::Normal,
    };
    if plan.swarm.has(Fault::Deadlines) && dice.permille(200) {
        let most = if dice.permille(500) { 2_000 } else { 20_000 };
        request.timeout_ms = Some(dice.from(1, most));
    }
    request.detached = dice.permille(100);
    if dice.permille(120) {
        guide(&mut request, dice);
    }
    if dice.permille(20) {
        spoil(&mut request, dice);
    }
    request
}

/// Some users ask for larger pictures than others do, where nothing but that is different.
fn size(plan: &Plan, client: usize, dice: &mut Dice) -> Option<PictureSize> {
    let user = client % plan.users;
    let side = match (plan.models, user.is_multiple_of(2)) {
        (1, true) if dice.permille(800) => dice.from(32, 64),
        (1, false) if dice.permille(800) => dice.from(4, 16),
        _ if dice.permille(150) => dice.from(4, 96),
        _ => return None,
    };
    let side = 16 * side as u32;
    Some(PictureSize {
        width: side,
        height: side,
    })
}

/// Guidance and a negative prompt, which only some models can follow.
fn guide(request: &mut ImageRequest, dice: &mut Dice) {
    if dice.permille(700) {
        request.guidance = Some(dice.from(0, 12) as f32 / 2.0);
    }
    if dice.permille(500) {
        let texts = ["a dog", "", "a dog that is blurred", "sixteen letters."];
        request.negative = Some(texts[dice.below(texts.len())].into());
    }
}

/// Asks for something that cannot be.
fn spoil(request: &mut ImageRequest, dice: &mut Dice) {
    match dice.below(7) {
        0 => request.steps = Some(0),
        1 => request.steps = Some(1000),
        2 => request.guidance = Some(-1.0),
        3 => request.model = Some(misspelled(dice)),
        4 => request.prompt = if dice.permille(500) { "" } else { "  " }.into(),
        5 => {
            request.device = DeviceWish::On(Device::Cuda(7));
        }
        _ => {
            request.size = Some(PictureSize {
                width: 100,
                height: 64,
            });
        }
    }
}

/// A name with a letter too many, too few or wrong, or none that anybody has.
fn misspelled(dice: &mut Dice) -> String {
    let mut letters: Vec<char> = name(dice.below(8)).chars().collect();
    for _ in 0..dice.from(1, 3) {
        let at = dice.below(letters.len());
        match dice.below(3) {
            0 => letters.insert(at, 'q'),
            1 => letters[at] = 'q',
            _ => {
                letters.remove(at);
            }
        }
    }
    match dice.permille(200) {
        true => "a-model-that-nobody-here-ever-heard-of".into(),
        false => letters.into_iter().collect(),
    }
}
