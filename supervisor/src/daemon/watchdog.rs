//! Ends the daemon if its loop hangs, so that a service manager starts it again.
//!
//! The thread looks at the loop ten times within the limit and counts the looks that found it at the same beat. Time in
//! which this process was stopped or the machine slept is therefore one look, not a hang.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::driver::pulse::{LoopActivity, LoopPulse};
use crate::process::stat;
use crate::telemetry;

/// How long one activity of the loop may take. It takes microseconds; the longest measured one took 40 ms.
const LIMIT: Duration = Duration::from_secs(10);
/// Looks at the loop within that time.
const LOOKS: u32 = 10;
/// How long the last log lines may take.
const FLUSH: Duration = Duration::from_secs(1);

/// Watches until it is dropped.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// Never sends: its end ends the thread.
    _watching: mpsc::Sender<()>,
}

impl Watchdog {
    /// Watches a loop that runs on the first thread of this process; aborts the process if it hangs.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start(pulse: Arc<LoopPulse>) -> io::Result<Self> {
        Self::watch(pulse, LIMIT, |activity| {
            let place = stat::main_thread();
            telemetry::daemon::hangs(activity.words(), LIMIT, &place);
            telemetry::logging::flush(FLUSH);
            // An abort leaves a core file where those are wanted, with the stack of the loop.
            std::process::abort()
        })
    }

    fn watch(
        pulse: Arc<LoopPulse>,
        limit: Duration,
        give_up: impl FnOnce(LoopActivity) + Send + 'static,
    ) -> io::Result<Self> {
        let (watching, end) = mpsc::channel::<()>();
        thread::Builder::new()
            .name("watchdog".into())
            .spawn(move || {
                let (mut last, mut same) = (None, 0);
                while end.recv_timeout(limit / LOOKS) == Err(RecvTimeoutError::Timeout) {
                    let (beats, activity) = pulse.look();
                    let hangs = last == Some(beats) && activity != LoopActivity::Resting;
                    same = if hangs { same + 1 } else { 0 };
                    if same == LOOKS {
                        return give_up(activity);
                    }
                    last = Some(beats);
                }
            })?;
        Ok(Self {
            _watching: watching,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(20);

    fn watched(pulse: &Arc<LoopPulse>) -> (Watchdog, mpsc::Receiver<LoopActivity>) {
        let (sender, given_up) = mpsc::channel();
        let watchdog = Watchdog::watch(Arc::clone(pulse), SHORT, move |activity| {
            let _ = sender.send(activity);
        });
        (watchdog.expect("a thread"), given_up)
    }

    #[test]
    fn a_loop_that_hangs_is_given_up_with_its_activity() {
        let pulse = Arc::new(LoopPulse::default());
        pulse.begin(LoopActivity::Clients);
        let (_watchdog, given_up) = watched(&pulse);
        assert_eq!(given_up.recv_timeout(LONG), Ok(LoopActivity::Clients));
    }

    #[test]
    fn a_loop_that_rests_or_turns_is_not_given_up() {
        let pulse = Arc::new(LoopPulse::default());
        let (watchdog, given_up) = watched(&pulse);
        let rested = given_up.recv_timeout(4 * SHORT);
        assert_eq!(rested, Err(RecvTimeoutError::Timeout));
        for _ in 0..40 {
            pulse.begin(LoopActivity::Workers);
            let turned = given_up.recv_timeout(SHORT / LOOKS);
            assert_eq!(turned, Err(RecvTimeoutError::Timeout));
        }
        drop(watchdog);
        let ended = given_up.recv_timeout(LONG);
        assert_eq!(ended, Err(RecvTimeoutError::Disconnected));
    }
}
