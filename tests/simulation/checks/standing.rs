//! Whether a model may start workers and run jobs, after what went wrong with it.

use pool::Moment;

use crate::observed::ModelRecord;

/// A model's failures.
#[derive(Debug, Clone, Default)]
pub(super) struct FailureCounts {
    pub(super) deaths: u32,
    pub(super) loads: u32,
    pub(super) failures: u32,
    pub(super) again: Option<Moment>,
    pub(super) cooling: Option<Moment>,
    /// Another load helps only after its files or its program were mended.
    pub(super) to_mend: bool,
    pub(super) opened: Option<Moment>,
    /// It has been open and was not closed.
    pub(super) probing: bool,
    pub(super) successes: u32,
    /// Loads in a row without progress, and ended from outside; starts in a row without a process.
    pub(super) hung: u32,
    pub(super) lost: u32,
    pub(super) no_starts: u32,
    /// Ends that were nobody's fault, counted together since then.
    pub(super) bad_luck: (Moment, u32),
}

/// Whether a model may serve, and if not until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ModelStanding {
    Missing,
    Stopped,
    Broken(Moment, u32),
    Cooling(Moment),
    BackOff(Moment),
    Probing,
    Well,
}

impl FailureCounts {
    pub(super) fn standing(&self, model: &ModelRecord, now: Moment) -> ModelStanding {
        let ahead = |at: Option<Moment>| at.filter(|&at| now < at);
        if !model.spec.files.are_here() {
            return ModelStanding::Missing;
        }
        if model.stopped {
            return ModelStanding::Stopped;
        }
        if let Some(until) = ahead(self.opened) {
            return ModelStanding::Broken(until, self.failures);
        }
        if let Some(until) = ahead(self.cooling) {
            return ModelStanding::Cooling(until);
        }
        if let Some(until) = ahead(self.again) {
            return ModelStanding::BackOff(until);
        }
        match self.probing {
            true => ModelStanding::Probing,
            false => ModelStanding::Well,
        }
    }
}
