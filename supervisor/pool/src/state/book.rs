//! The books of one device: what may be promised on it, what is, and what was measured.

use std::collections::{BTreeMap, BTreeSet};

use ipc_protocol::ids::Generation;
use ipc_protocol::units::Mebibytes;

use crate::words::moment::Moment;
use crate::words::registry::ModelId;

/// Limit, promises and measurements of one device.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) limit: Mebibytes,
    pub(super) reserved: Mebibytes,
    pub(super) confirms: bool,
    /// Of dead workers, each with its deadline.
    pub(super) settling: BTreeMap<Generation, (Mebibytes, Moment)>,
    pub(super) unreclaimed: BTreeMap<Generation, Mebibytes>,
    pub(super) measured: Option<Mebibytes>,
    pub(super) foreign: Option<Mebibytes>,
    pub(super) total: Option<Mebibytes>,
    pub(super) sight: Sight,
    pub(super) rest: Option<DeviceRest>,
    /// Models whose workers lost their context there since a worker last finished a job there.
    pub(super) struck: BTreeSet<ModelId>,
}

/// Knowledge of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sight {
    /// Its last measurement counts, or it is never measured.
    Current,
    /// Its last measurement is too old to promise from. The next one is on its way.
    Aged,
    /// It is gone for this reason, until it is measured again.
    Lost(String),
}

/// A pause of a device that failed for several models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeviceRest {
    pub(super) until: Moment,
    pub(super) why: String,
}

impl Book {
    pub(super) fn new(limit: Mebibytes, confirms: bool) -> Self {
        Self {
            limit,
            reserved: Mebibytes::ZERO,
            confirms,
            settling: BTreeMap::new(),
            unreclaimed: BTreeMap::new(),
            measured: None,
            foreign: None,
            total: None,
            sight: Sight::Current,
            rest: None,
            struck: BTreeSet::new(),
        }
    }

    pub(super) fn settling(&self) -> Mebibytes {
        self.settling.values().map(|&(part, _)| part).sum()
    }

    pub(super) fn unreclaimed(&self) -> Mebibytes {
        self.unreclaimed.values().copied().sum()
    }

    pub(super) fn free(&self) -> Mebibytes {
        let promised = self.reserved + self.settling() + self.unreclaimed();
        self.ceiling().saturating_sub(promised)
    }

    /// Most that can be promised: the limit, or what other programs leave of the device. How much they hold is unknown
    /// if the last measurement is too old.
    pub(super) fn ceiling(&self) -> Mebibytes {
        match (&self.sight, self.total, self.foreign) {
            (Sight::Current | Sight::Lost(_), Some(total), Some(foreign)) => {
                self.limit.min(total.saturating_sub(foreign))
            }
            (Sight::Current | Sight::Lost(_), _, _) | (Sight::Aged, ..) => self.limit,
        }
    }
}
