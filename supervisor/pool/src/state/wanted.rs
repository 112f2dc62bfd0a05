//! The wishes of operators and the registry for a model.

/// The wishes of operators and the registry for a model.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    retired: bool,
    stopped: bool,
    held_slots: Vec<u32>,
    pinned: bool,
    kept: u32,
}

impl Wanted {
    pub(super) fn new(pinned: bool) -> Self {
        Self {
            pinned,
            ..Self::default()
        }
    }

    /// It is no longer in the registry.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired
    }

    /// An operator stopped it.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// It keeps at least one worker.
    pub(crate) fn is_pinned(&self) -> bool {
        self.pinned
    }

    /// An operator stopped it, or this slot of it.
    pub(crate) fn is_held(&self, slot: Option<u32>) -> bool {
        self.stopped || slot.is_some_and(|slot| self.held_slots.contains(&slot))
    }

    /// An operator stopped this slot.
    pub(crate) fn holds_slot(&self, slot: u32) -> bool {
        self.held_slots.contains(&slot)
    }

    /// Workers to keep whatever the load is, at least `least` and at most `most`: one for each of the first
    /// slots that no operator stopped.
    pub(super) fn floor(&self, least: u32, most: usize) -> usize {
        let slots = 0..least.max(self.kept);
        let wanted = slots.filter(|slot| !self.held_slots.contains(slot));
        wanted.count().max(self.pinned.into()).min(most)
    }

    /// Notes whether the registry still has it.
    pub(crate) fn set_retired(&mut self, retired: bool) {
        self.retired = retired;
    }

    pub(crate) fn set_pinned(&mut self, pinned: bool) {
        self.pinned = pinned;
    }

    /// Stops one slot.
    pub(crate) fn hold_slot(&mut self, slot: u32) {
        self.held_slots.push(slot);
    }

    /// Stops the model: no worker is kept.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        self.kept = 0;
    }

    /// Takes back an operator's stop of the model, and of one slot or of all.
    pub(super) fn let_start(&mut self, slot: Option<u32>) {
        self.stopped = false;
        match slot {
            Some(slot) => self.held_slots.retain(|&held| held != slot),
            None => self.held_slots.clear(),
        }
    }

    /// Keeps at least the first `slots` slots resident.
    pub(crate) fn keep(&mut self, slots: u32) {
        self.kept = self.kept.max(slots);
    }

    /// Keeps at least this many workers resident.
    pub(crate) fn keep_workers(&mut self, workers: usize) {
        let free = (0..).filter(|slot| !self.held_slots.contains(slot));
        let slots = free.take(workers).last().map_or(0, |last| last + 1);
        self.keep(slots);
    }

    /// Keeps no more workers resident than a pin and the settings want.
    pub(crate) fn let_go(&mut self) {
        self.kept = 0;
    }

    /// Keeps exactly this many workers resident, whichever slots were stopped before.
    pub(crate) fn scale(&mut self, workers: u32) {
        self.held_slots.clear();
        self.kept = workers;
        self.stopped &= workers == 0;
    }
}
