//! Asks other programs for the memory of an accelerator, and tells them when it is theirs again.

use ipc_protocol::ids::Device;

use crate::state::State;
use crate::state::truce::Truce;
use crate::words::action::Action;
use crate::words::notice::Notice;
use crate::words::turn::Turn;

/// Whether a worker may start on `device` now, as far as other programs are concerned. Asks them if they were not.
pub(crate) fn permits(state: &mut State, turn: &mut Turn, device: Device) -> bool {
    let Some(terms) = state.settings().truce.filter(|_| device != Device::Host) else {
        return true;
    };
    match state.truces().of(device) {
        Truce::None => {
            let until = turn.now() + terms.answer;
            state.truces_mut().set(device, Truce::Asked { until });
            turn.act(Action::AskTruce { device });
            turn.tell(Notice::TruceAsked { device });
            false
        }
        Truce::Asked { .. } => false,
        Truce::Settling { .. } | Truce::Held { .. } => true,
    }
}

/// Moves the agreements on whose time is over, or whose device got a worker.
pub(crate) fn move_on(state: &mut State, turn: &Turn) {
    let Some(terms) = state.settings().truce else {
        return;
    };
    let now = turn.now();
    let truces: Vec<(Device, Truce)> = state.truces().iter().collect();
    for (device, truce) in truces {
        let held = Truce::Held {
            until: now + terms.hold,
            used: is_used(state, device),
        };
        let next = match truce {
            Truce::Asked { until } | Truce::Settling { until } if until <= now => held,
            unchanged => unchanged,
        };
        state.truces_mut().set(device, next);
    }
}

/// Ends the agreements that no worker uses.
pub(crate) fn end_unused(state: &mut State, turn: &mut Turn) {
    let truces: Vec<(Device, Truce)> = state.truces().iter().collect();
    for (device, truce) in truces {
        let next = after_use(state, turn, device, truce);
        if next == Truce::None {
            turn.act(Action::EndTruce { device });
            turn.tell(Notice::TruceEnded { device });
        }
        state.truces_mut().set(device, next);
    }
}

fn after_use(state: &State, turn: &Turn, device: Device, truce: Truce) -> Truce {
    let is_used = is_used(state, device);
    let until = turn.now();
    match truce {
        Truce::Settling { .. } | Truce::Held { .. } if is_used => Truce::Held { until, used: true },
        // Its memory is back once the driver confirms it.
        Truce::Held { used: true, .. } if state.budget().is_settled(device) => Truce::None,
        Truce::Held {
            used: false,
            until: end,
        } if end <= until => Truce::None,
        // The settings ask no longer.
        _ if state.settings().truce.is_none() && !is_used => Truce::None,
        unchanged => unchanged,
    }
}

fn is_used(state: &State, device: Device) -> bool {
    let mut workers = state.fleet().iter();
    workers.any(|worker| worker.device() == device)
}
