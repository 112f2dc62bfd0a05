//! Observations of a model's workers: pace, memory, deaths.

use crate::state::pace::Pace;
use crate::words::event::Footprint;
use crate::words::lasting::MeasuredNeed;

/// Added to the predicted need after running out of memory while loading, in percent.
const RAISE_PERCENT: u64 = 25;

/// Observations of a model's workers.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pace: Pace,
    /// Largest footprint of a worker that had usual jobs only.
    worst: Footprint,
    /// The digest of the weights that an earlier daemon measured.
    recalled: Option<String>,
    raised_percent: u64,
    deaths: u64,
}

impl Observed {
    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(crate) fn pace_mut(&mut self) -> &mut Pace {
        &mut self.pace
    }

    /// Largest footprint of a worker that had usual jobs only.
    pub(crate) fn worst(&self) -> Footprint {
        self.worst
    }

    /// Added to the predicted need, in percent.
    pub(super) fn raised_percent(&self) -> u64 {
        self.raised_percent
    }

    /// Workers that died since the start.
    pub(crate) fn deaths(&self) -> u64 {
        self.deaths
    }

    pub(crate) fn note_death(&mut self) {
        self.deaths += 1;
    }

    /// Notes the footprint of a worker that had usual jobs only; returns whether it is larger than any before.
    pub(crate) fn note_footprint(&mut self, footprint: Footprint) -> bool {
        let before = self.worst;
        self.worst.host = self.worst.host.max(footprint.host);
        self.worst.device = self.worst.device.max(footprint.device);
        self.worst != before
    }

    /// Takes over what an earlier daemon measured.
    pub(crate) fn recall(&mut self, need: &MeasuredNeed) {
        self.note_footprint(Footprint {
            host: need.host,
            device: need.device,
        });
        self.recalled = Some(need.digest.clone());
    }

    /// Forgets what an earlier daemon measured if that was of other weights, as `differs` tells of a digest.
    pub(super) fn forget_other(&mut self, differs: impl FnOnce(&str) -> bool) {
        if let Some(digest) = self.recalled.take_if(|digest| differs(digest)) {
            drop(digest);
            self.worst = Footprint::default();
        }
    }

    /// Raises the predicted need, unless it is raised already; returns whether it was raised.
    pub(crate) fn raise_need(&mut self) -> bool {
        let first = self.raised_percent == 0;
        self.raised_percent = RAISE_PERCENT;
        first
    }

    /// Takes the raise of the predicted need back.
    pub(crate) fn lower_need(&mut self) {
        self.raised_percent = 0;
    }
}
