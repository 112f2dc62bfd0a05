//! The agreements with other programs about the memory of accelerators.

use std::collections::BTreeMap;

use ipc_protocol::ids::Device;

use crate::words::moment::Moment;

/// The agreement about one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Truce {
    /// Other programs may use the device: they are asked before a worker starts there.
    #[default]
    None,
    /// They were asked to free memory. Without an answer by then they count as gone.
    Asked { until: Moment },
    /// They answered; their memory may still be on its way back until then.
    Settling { until: Moment },
    /// Workers may start. Until one does, the agreement ends at this moment; afterwards when the last has left.
    Held { until: Moment, used: bool },
}

/// The agreements about all devices.
#[derive(Debug, Default)]
pub(crate) struct Truces {
    by_device: BTreeMap<Device, Truce>,
}

impl Truce {
    /// When it changes without an event.
    fn deadline(self) -> Option<Moment> {
        match self {
            Self::None | Self::Held { used: true, .. } => None,
            Self::Asked { until } | Self::Settling { until } | Self::Held { until, .. } => {
                Some(until)
            }
        }
    }
}

impl Truces {
    pub(crate) fn of(&self, device: Device) -> Truce {
        self.by_device.get(&device).copied().unwrap_or_default()
    }

    pub(crate) fn set(&mut self, device: Device, truce: Truce) {
        match truce {
            Truce::None => drop(self.by_device.remove(&device)),
            truce => drop(self.by_device.insert(device, truce)),
        }
    }

    /// The devices about which there is an agreement, or a question.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Device, Truce)> {
        self.by_device
            .iter()
            .map(|(&device, &truce)| (device, truce))
    }

    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.iter().filter_map(|(_, truce)| truce.deadline()).min()
    }
}
