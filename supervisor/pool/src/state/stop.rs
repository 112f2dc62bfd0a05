//! How a worker is stopped: ask, terminate, kill, with a time limit for each step.

use std::time::Duration;

use ipc_protocol::ids::Generation;

use crate::words::action::Action;
use crate::words::moment::Moment;
use crate::words::settings::Patience;

/// The present step of stopping a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StopPlan {
    step: StopStep,
    due: Moment,
    first_kill: Option<Moment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopStep {
    Ask,
    Terminate,
    Kill,
}

impl StopPlan {
    /// Asks first.
    pub(crate) fn ask(now: Moment, patience: &Patience, worker: Generation) -> (Self, Action) {
        let plan = Self {
            step: StopStep::Ask,
            due: now + patience.ask,
            first_kill: None,
        };
        (plan, Action::AskToLeave { worker })
    }

    /// Terminates at once, for a worker that has no time left to exit by itself.
    pub(crate) fn terminate(
        now: Moment,
        patience: &Patience,
        worker: Generation,
    ) -> (Self, Action) {
        let plan = Self {
            step: StopStep::Terminate,
            due: now + patience.terminate,
            first_kill: None,
        };
        (plan, Action::Terminate { worker })
    }

    /// When the next step is due.
    pub(crate) fn due(&self) -> Moment {
        self.due
    }

    /// Time since the first SIGKILL.
    pub(crate) fn killing_for(&self, now: Moment) -> Option<Duration> {
        self.first_kill.map(|first| now.since(first))
    }

    /// The step after this one. The last step repeats: a process that survives SIGKILL is stuck in the
    /// kernel, and the pool can only report it.
    pub(crate) fn next(
        self,
        now: Moment,
        patience: &Patience,
        worker: Generation,
    ) -> (Self, Action) {
        match self.step {
            StopStep::Ask => Self::terminate(now, patience, worker),
            StopStep::Terminate | StopStep::Kill => {
                let plan = Self {
                    step: StopStep::Kill,
                    due: now + patience.kill,
                    first_kill: self.first_kill.or(Some(now)),
                };
                (plan, Action::Kill { worker })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_then_terminates_then_kills_until_the_process_is_gone() {
        let patience = Patience::default();
        let worker = Generation(7);
        let (plan, first) = StopPlan::ask(Moment(0), &patience, worker);
        assert_eq!(
            (first, plan.due()),
            (Action::AskToLeave { worker }, Moment(1_000_000))
        );
        let (plan, second) = plan.next(plan.due(), &patience, worker);
        assert_eq!(
            (second, plan.due()),
            (Action::Terminate { worker }, Moment(3_000_000))
        );
        let (plan, third) = plan.next(plan.due(), &patience, worker);
        assert_eq!(
            (third, plan.due()),
            (Action::Kill { worker }, Moment(8_000_000))
        );
        let (plan, fourth) = plan.next(plan.due(), &patience, worker);
        assert_eq!(fourth, Action::Kill { worker });
        assert_eq!(
            plan.killing_for(Moment(8_000_000)),
            Some(Duration::from_secs(5))
        );
    }
}
