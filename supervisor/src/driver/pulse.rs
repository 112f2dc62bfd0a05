//! The turns of the loop and its current activity, for the watchdog of another thread.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The activities of the loop, in the order of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoopActivity {
    /// It waits for something to do.
    Resting,
    /// It decides about an event, and carries out the actions.
    Deciding,
    /// It reads how much memory there is.
    MeasuringMemory,
    /// It carries out a command of the daemon.
    Commands,
    /// It judges who is overdue.
    Deadlines,
    /// It hears of processes that started or ended.
    Processes,
    /// It hears messages of workers.
    Workers,
    /// It answers clients.
    Clients,
    /// It hears of fetches, GPUs and settings.
    OtherNews,
}

const ALL: [LoopActivity; 9] = [
    LoopActivity::Resting,
    LoopActivity::Deciding,
    LoopActivity::MeasuringMemory,
    LoopActivity::Commands,
    LoopActivity::Deadlines,
    LoopActivity::Processes,
    LoopActivity::Workers,
    LoopActivity::Clients,
    LoopActivity::OtherNews,
];

impl LoopActivity {
    /// The activity in the middle of a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Self::Resting => "waiting for something to do",
            Self::Deciding => "deciding about an event",
            Self::MeasuringMemory => "measuring memory",
            Self::Commands => "carrying out a command",
            Self::Deadlines => "judging deadlines",
            Self::Processes => "hearing of processes",
            Self::Workers => "hearing workers",
            Self::Clients => "answering clients",
            Self::OtherNews => "hearing of fetches, GPUs or settings",
        }
    }
}

/// Written by the loop, read by its watchdog.
#[derive(Debug, Default)]
pub struct LoopPulse {
    /// Changes of the activity.
    beats: AtomicU64,
    activity: AtomicUsize,
}

impl LoopPulse {
    /// The loop begins an activity.
    pub fn begin(&self, activity: LoopActivity) {
        self.activity.store(activity as usize, Ordering::Relaxed);
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of activities that began, and the current one.
    pub fn look(&self) -> (u64, LoopActivity) {
        let activity = ALL.get(self.activity.load(Ordering::Relaxed));
        let beats = self.beats.load(Ordering::Relaxed);
        (beats, activity.copied().unwrap_or(LoopActivity::Resting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_activity_is_read_as_it_was_written() {
        let pulse = LoopPulse::default();
        assert_eq!(pulse.look(), (0, LoopActivity::Resting));
        for (number, activity) in (1..).zip(ALL) {
            pulse.begin(activity);
            assert_eq!(pulse.look(), (number, activity));
        }
    }
}
