//! Devices: measured, not measured for too long, lost, or failing for several models.

use ipc_protocol::ids::Device;
use ipc_protocol::units::Mebibytes;

use crate::state::State;
use crate::state::truce::Truce;
use crate::words::notice::Notice;
use crate::words::registry::ModelId;
use crate::words::turn::Turn;

/// Models whose workers lost their context on a device, without a finished job there meanwhile, until it rests. One model
/// may be at fault itself.
const STRUCK_MAX: usize = 2;

/// The memory of a device was measured.
pub(crate) fn measured(
    state: &mut State,
    turn: &mut Turn,
    device: Device,
    total: Option<Mebibytes>,
    (measured, foreign): (Mebibytes, Mebibytes),
) {
    if state.budget_mut().measure(device, total, measured, foreign) {
        turn.tell(Notice::DeviceBack { device });
    }
}

/// Other programs answered: their memory is on its way back.
pub(crate) fn truce_answered(state: &mut State, turn: &Turn, device: Device) {
    if let Truce::Asked { .. } = state.truces().of(device) {
        let until = turn.now() + state.settings().patience.settle;
        state.truces_mut().set(device, Truce::Settling { until });
    }
}

/// A device is gone, or its driver does not answer.
pub(crate) fn lost(state: &mut State, turn: &mut Turn, device: Device, reason: String) {
    if state.budget_mut().lose(device, &reason) {
        turn.tell(Notice::DeviceLost { device, reason });
    }
}

/// A worker of a model lost its context on a device: the device rests once that happened to several models.
pub(crate) fn struck(state: &mut State, turn: &mut Turn, device: Device, model: ModelId) {
    let models = state.budget_mut().strike(device, model);
    if models < STRUCK_MAX {
        return;
    }
    let for_long = state.settings().breaker_open;
    let reason = format!("workers of {models} models lost their context there");
    let until = turn.now() + for_long;
    if state.budget_mut().rest(device, until, reason.clone()) {
        turn.tell(Notice::DeviceRests {
            device,
            reason,
            for_long,
        });
    }
}

/// Uses the devices again that have rested.
pub(crate) fn end_rests(state: &mut State, turn: &mut Turn) {
    for device in state.budget_mut().end_rests(turn.now()) {
        turn.tell(Notice::DeviceBack { device });
    }
}
