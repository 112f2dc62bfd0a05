//! The states of a worker's life, and the transitions between them.
//!
//! ```text
//!   Start          Hello           Ready             Run
//! ─────────▶ Starting ─────▶ Loading ─────▶ Idle ◀────────▶ Busy
//!                │ deadline     │ deadline    │ evict, drain  │ cancel ▶ Unwinding ▶ Idle
//!                ▼              ▼             ▼               ▼ silence, no progress, protocol
//!                └──────────────┴──────▶ Stopping ◀───────────┘
//!                                           │ ask ▸ terminate ▸ kill
//!   from every state: the kernel reports the exit ──▶ gone: memory back, its job placed again
//! ```

use crate::state::attempt::Attempt;
use crate::state::budget::Reservation;
use crate::state::stop::StopPlan;
use crate::state::watch::Watch;
use crate::words::moment::Moment;
use crate::words::reasons::StopReason;

/// A state of a worker's life. Each state holds what is true in it and nothing else.
#[derive(Debug)]
pub(crate) enum Lifecycle {
    /// No hello yet.
    Starting {
        reservation: Reservation,
        /// Over its process, once that exists.
        watch: Option<Watch>,
    },
    /// Its weights are being loaded.
    Loading {
        reservation: Reservation,
        permille: u16,
        progressed: Moment,
        watch: Watch,
    },
    /// Loaded and without a job: evictable.
    Idle { reservation: Reservation },
    /// With a job, and the memory that the job takes beyond the usual.
    Busy {
        reservation: Reservation,
        extra: Option<Reservation>,
        attempt: Attempt,
    },
    /// Told to give up its job, which is answered already.
    Unwinding {
        reservation: Reservation,
        extra: Option<Reservation>,
        attempt: Attempt,
        asked: Moment,
    },
    /// Told to exit, perhaps with a job that is placed again after the exit.
    Stopping {
        reservation: Reservation,
        plan: StopPlan,
        why: StopReason,
        attempt: Option<Attempt>,
        was_loading: bool,
    },
}

/// The outcome of a transition: the next state, or the present one if it has no such transition.
#[derive(Debug)]
pub(super) enum Transition {
    Made(Lifecycle),
    Refused(Lifecycle),
}

/// The remains of a worker whose process has exited.
#[derive(Debug)]
pub(crate) struct Remains {
    reservation: Reservation,
    attempt: Option<Attempt>,
    why: Option<StopReason>,
    was_loading: bool,
}

impl Remains {
    /// Returns the reason to stop it, if it was stopped.
    pub(crate) fn why(&self) -> Option<StopReason> {
        self.why
    }

    /// It exited before it was ready.
    pub(crate) fn was_loading(&self) -> bool {
        self.was_loading
    }

    /// The memory to give back, and the attempt whose job has to be placed again.
    pub(crate) fn into_parts(self) -> (Reservation, Option<Attempt>) {
        (self.reservation, self.attempt)
    }
}

impl Lifecycle {
    /// Hello received: weights are being loaded from now on.
    pub(super) fn loading(self, now: Moment) -> Transition {
        match self {
            Self::Starting { reservation, .. } => Transition::Made(Self::Loading {
                reservation,
                permille: 0,
                progressed: now,
                watch: Watch::new(now),
            }),
            Self::Loading { .. }
            | Self::Idle { .. }
            | Self::Busy { .. }
            | Self::Unwinding { .. }
            | Self::Stopping { .. } => Transition::Refused(self),
        }
    }

    /// Loaded, without a job.
    pub(super) fn resident(self) -> Transition {
        match self {
            Self::Loading { reservation, .. } => Transition::Made(Self::Idle { reservation }),
            Self::Starting { .. }
            | Self::Idle { .. }
            | Self::Busy { .. }
            | Self::Unwinding { .. }
            | Self::Stopping { .. } => Transition::Refused(self),
        }
    }

    /// With a job. Takes `extra`, the memory beyond the usual, unless it refuses.
    pub(super) fn busy(self, extra: &mut Option<Reservation>, attempt: Attempt) -> Transition {
        match self {
            Self::Idle { reservation } => Transition::Made(Self::Busy {
                reservation,
                extra: extra.take(),
                attempt,
            }),
            Self::Starting { .. }
            | Self::Loading { .. }
            | Self::Busy { .. }
            | Self::Unwinding { .. }
            | Self::Stopping { .. } => Transition::Refused(self),
        }
    }

    /// The same, with `more` promised to it.
    pub(super) fn holding(self, more: Reservation) -> Self {
        let mut life = self;
        let (Self::Starting { reservation, .. }
        | Self::Loading { reservation, .. }
        | Self::Idle { reservation }
        | Self::Busy { reservation, .. }
        | Self::Unwinding { reservation, .. }
        | Self::Stopping { reservation, .. }) = &mut life;
        reservation.join(more);
        life
    }

    /// Told to give up its job, which is answered already.
    pub(super) fn unwinding(self, asked: Moment) -> Transition {
        match self {
            Self::Busy {
                reservation,
                extra,
                attempt,
            } => Transition::Made(Self::Unwinding {
                reservation,
                extra,
                attempt,
                asked,
            }),
            Self::Starting { .. }
            | Self::Loading { .. }
            | Self::Idle { .. }
            | Self::Unwinding { .. }
            | Self::Stopping { .. } => Transition::Refused(self),
        }
    }

    /// Told to exit, by `plan`.
    pub(super) fn stopping(self, plan: StopPlan, why: StopReason) -> Transition {
        match self {
            Self::Starting { .. }
            | Self::Loading { .. }
            | Self::Idle { .. }
            | Self::Busy { .. }
            | Self::Unwinding { .. } => {
                let Remains {
                    reservation,
                    attempt,
                    was_loading,
                    ..
                } = self.remains();
                Transition::Made(Self::Stopping {
                    reservation,
                    plan,
                    why,
                    attempt,
                    was_loading,
                })
            }
            Self::Stopping { .. } => Transition::Refused(self),
        }
    }

    /// Returns the worker's remains.
    pub(super) fn remains(self) -> Remains {
        let (reservation, attempt, why, was_loading) = match self {
            Self::Starting { reservation, .. } | Self::Loading { reservation, .. } => {
                (reservation, None, None, true)
            }
            Self::Idle { reservation } => (reservation, None, None, false),
            Self::Busy {
                reservation,
                extra,
                attempt,
            } => (reservation.joined(extra), Some(attempt), None, false),
            Self::Unwinding {
                reservation, extra, ..
            } => (reservation.joined(extra), None, None, false),
            Self::Stopping {
                reservation,
                why,
                attempt,
                was_loading,
                ..
            } => (reservation, attempt, Some(why), was_loading),
        };
        Remains {
            reservation,
            attempt,
            why,
            was_loading,
        }
    }
}
