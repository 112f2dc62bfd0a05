//! One worker process, from its start to its reaped exit.
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

use std::time::Duration;

use ipc_protocol::ids::{Device, Generation, JobId, WorkerName};

use crate::action::StopReason;
use crate::budget::{Amount, Reservation};
use crate::event::Footprint;
use crate::job::Attempt;
use crate::model::ModelId;
use crate::moment::Moment;
use crate::settings::Patience;
use crate::stop::StopPlan;
use crate::watch::{Due, Limits, Watch};

/// A worker that is not reaped yet.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) generation: Generation,
    pub(crate) name: WorkerName,
    pub(crate) model: ModelId,
    pub(crate) device: Device,
    pub(crate) pid: Option<u32>,
    pub(crate) spawned: Moment,
    /// Entry into the present state.
    pub(crate) since: Moment,
    /// Last sign of life.
    pub(crate) heard: Moment,
    /// Finished pieces of work, as it counts them.
    pub(crate) work: u64,
    /// When it became ready.
    pub(crate) ready: Option<Moment>,
    pub(crate) jobs_done: u64,
    pub(crate) footprint: Option<Footprint>,
    /// It has drawn a picture that took more than its start booked: what it holds since then says nothing
    /// about what the next worker of its model needs.
    pub(crate) stretched: bool,
    /// It was told that it holds more than was promised to it.
    pub(crate) outgrown: bool,
    /// What it said about a load that failed.
    pub(crate) load_failure: Option<String>,
    /// Its model changed under it: it leaves as soon as it is idle.
    pub(crate) outdated: bool,
    pub(crate) life: Lifecycle,
}

/// Where a worker is in its life. Each state holds exactly what is true in it.
#[derive(Debug)]
pub(crate) enum Lifecycle {
    /// No hello yet.
    Starting { reservation: Reservation },
    /// Weights on their way.
    Loading {
        reservation: Reservation,
        permille: u16,
        progressed: Moment,
        watch: Watch,
    },
    /// Resident and free: evictable.
    Idle { reservation: Reservation },
    /// With a job, and the room that job takes beyond the usual.
    Busy {
        reservation: Reservation,
        extra: Option<Reservation>,
        attempt: Attempt,
    },
    /// Told to give its job up, which is answered already.
    Unwinding {
        reservation: Reservation,
        extra: Option<Reservation>,
        attempt: Attempt,
        asked: Moment,
    },
    /// On its way out, perhaps with a job that goes elsewhere once it is gone.
    Stopping {
        reservation: Reservation,
        plan: StopPlan,
        why: StopReason,
        attempt: Option<Attempt>,
        was_loading: bool,
    },
}

/// What is owed once a worker is gone.
pub(crate) struct Remains {
    pub(crate) reservation: Reservation,
    pub(crate) attempt: Option<Attempt>,
    pub(crate) why: Option<StopReason>,
    pub(crate) was_loading: bool,
}

impl Worker {
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.life, Lifecycle::Idle { .. })
    }

    /// Alive in our view: will serve, or does.
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self.life, Lifecycle::Stopping { .. })
    }

    pub(crate) fn is_coming(&self) -> bool {
        matches!(
            self.life,
            Lifecycle::Starting { .. } | Lifecycle::Loading { .. }
        )
    }

    /// There was a process: it spoke.
    pub(crate) fn has_said_hello(&self) -> bool {
        match self.life {
            Lifecycle::Starting { .. } => false,
            Lifecycle::Stopping { .. } => self.pid.is_some(),
            Lifecycle::Loading { .. }
            | Lifecycle::Idle { .. }
            | Lifecycle::Busy { .. }
            | Lifecycle::Unwinding { .. } => true,
        }
    }

    pub(crate) fn is_resident(&self) -> bool {
        self.is_live() && !self.is_coming()
    }

    /// The job that is answered by it or placed again after it.
    pub(crate) fn attempt(&self) -> Option<&Attempt> {
        match &self.life {
            Lifecycle::Busy { attempt, .. } => Some(attempt),
            Lifecycle::Stopping { attempt, .. } => attempt.as_ref(),
            Lifecycle::Starting { .. }
            | Lifecycle::Loading { .. }
            | Lifecycle::Idle { .. }
            | Lifecycle::Unwinding { .. } => None,
        }
    }

    pub(crate) fn attempt_mut(&mut self, job: JobId) -> Option<&mut Attempt> {
        let attempt = match &mut self.life {
            Lifecycle::Busy { attempt, .. } => Some(attempt),
            Lifecycle::Stopping { attempt, .. } => attempt.as_mut(),
            Lifecycle::Starting { .. }
            | Lifecycle::Loading { .. }
            | Lifecycle::Idle { .. }
            | Lifecycle::Unwinding { .. } => None,
        };
        attempt.filter(|attempt| attempt.job == job)
    }

    /// The job it works on as far as it knows, wanted or not.
    pub(crate) fn job_at_hand(&self) -> Option<JobId> {
        match &self.life {
            Lifecycle::Busy { attempt, .. } | Lifecycle::Unwinding { attempt, .. } => {
                Some(attempt.job)
            }
            Lifecycle::Stopping { attempt, .. } => attempt.as_ref().map(|attempt| attempt.job),
            Lifecycle::Starting { .. } | Lifecycle::Loading { .. } | Lifecycle::Idle { .. } => None,
        }
    }

    /// The same worker without its job: the room beyond the usual comes back, and the attempt where
    /// its job is still wanted.
    pub(crate) fn released(mut self, now: Moment) -> (Self, Option<Reservation>, Option<Attempt>) {
        match self.life {
            Lifecycle::Busy {
                reservation,
                extra,
                attempt,
            } => {
                self.life = Lifecycle::Idle { reservation };
                self.since = now;
                (self, extra, Some(attempt))
            }
            Lifecycle::Unwinding {
                reservation, extra, ..
            } => {
                self.life = Lifecycle::Idle { reservation };
                self.since = now;
                (self, extra, None)
            }
            Lifecycle::Stopping {
                ref mut attempt, ..
            } => {
                let attempt = attempt.take();
                (self, None, attempt)
            }
            Lifecycle::Starting { .. } | Lifecycle::Loading { .. } | Lifecycle::Idle { .. } => {
                (self, None, None)
            }
        }
    }

    /// Everything promised to it.
    pub(crate) fn promised(&self) -> impl Iterator<Item = Amount> {
        let (base, extra) = match &self.life {
            Lifecycle::Busy {
                reservation, extra, ..
            }
            | Lifecycle::Unwinding {
                reservation, extra, ..
            } => (reservation, extra.as_ref()),
            Lifecycle::Starting { reservation }
            | Lifecycle::Loading { reservation, .. }
            | Lifecycle::Idle { reservation }
            | Lifecycle::Stopping { reservation, .. } => (reservation, None),
        };
        [base].into_iter().chain(extra).map(Reservation::amount)
    }

    /// When it has been silent or without progress for too long, and what to do then.
    pub(crate) fn deadline(&self, patience: &Patience, limits: &Limits) -> (Moment, Overdue) {
        let silent = (
            self.heard + patience.heartbeat,
            Overdue::Stop(StopReason::Silent),
        );
        let watched = |watch: &Watch, progressed: Moment| {
            let (at, due) = watch.due(limits, progressed);
            let overdue = match due {
                Due::Measure => Overdue::Measure,
                Due::NoSample => Overdue::NoSample,
                Due::End(why) => Overdue::Stop(why),
            };
            (at, overdue)
        };
        let stuck = match &self.life {
            Lifecycle::Starting { .. } => {
                let due = self.spawned + patience.hello;
                return (due, Overdue::Stop(StopReason::NoHello));
            }
            Lifecycle::Stopping { plan, .. } => return (plan.due(), Overdue::NextStep),
            Lifecycle::Idle { .. } => return silent,
            Lifecycle::Loading {
                progressed, watch, ..
            } => watched(watch, *progressed),
            Lifecycle::Busy { attempt, .. } => watched(&attempt.watch, attempt.progressed),
            Lifecycle::Unwinding { asked, .. } => (
                *asked + limits.busy,
                Overdue::Stop(StopReason::IgnoredCancel),
            ),
        };
        if stuck.0 < silent.0 { stuck } else { silent }
    }

    /// The watch over its progress, where it has to make some.
    pub(crate) fn watch_mut(&mut self) -> Option<&mut Watch> {
        match &mut self.life {
            Lifecycle::Loading { watch, .. } => Some(watch),
            Lifecycle::Busy { attempt, .. } => Some(&mut attempt.watch),
            Lifecycle::Starting { .. }
            | Lifecycle::Idle { .. }
            | Lifecycle::Unwinding { .. }
            | Lifecycle::Stopping { .. } => None,
        }
    }

    /// Moves everything that its deadlines are counted from, as if a time up to now had not passed, and begins the
    /// watch over its progress anew. A worker on its way out is told the next step in time: that needs nobody to
    /// be heard.
    pub(crate) fn excuse(&mut self, now: Moment, lasted: Duration) {
        let later = |moment: Moment| (moment + lasted).min(now);
        self.heard = later(self.heard);
        if let Some(watch) = self.watch_mut() {
            *watch = Watch::new(now);
        }
        match &mut self.life {
            Lifecycle::Starting { .. } => self.spawned = later(self.spawned),
            Lifecycle::Loading { progressed, .. } => *progressed = later(*progressed),
            Lifecycle::Busy { attempt, .. } => attempt.progressed = later(attempt.progressed),
            Lifecycle::Unwinding { asked, .. } => *asked = later(*asked),
            Lifecycle::Idle { .. } | Lifecycle::Stopping { .. } => {}
        }
    }

    /// The same worker in the state that `next` makes of its present one.
    pub(crate) fn turned(self, now: Moment, next: impl FnOnce(Lifecycle) -> Lifecycle) -> Self {
        Self {
            since: now,
            life: next(self.life),
            ..self
        }
    }

    /// What is owed now that the process is gone.
    pub(crate) fn remains(self) -> Remains {
        self.life.remains()
    }
}

/// What a worker's deadline asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// End it, for this reason.
    Stop(StopReason),
    /// The next step of its stop plan.
    NextStep,
    /// The processor time it got.
    Measure,
    /// To go on without the measurement that was asked for.
    NoSample,
}

impl Lifecycle {
    /// With a job. Only an idle worker takes one; any other keeps what it has.
    pub(crate) fn busy(self, extra: Option<Reservation>, attempt: Attempt) -> Self {
        let Remains { reservation, .. } = self.remains();
        Self::Busy {
            reservation,
            extra,
            attempt,
        }
    }

    /// Weights on their way.
    pub(crate) fn loading(self, now: Moment) -> Self {
        match self {
            Self::Starting { reservation } => Self::Loading {
                reservation,
                permille: 0,
                progressed: now,
                watch: Watch::new(now),
            },
            Self::Loading { .. }
            | Self::Idle { .. }
            | Self::Busy { .. }
            | Self::Unwinding { .. }
            | Self::Stopping { .. } => self,
        }
    }

    /// Resident and free, after a load.
    pub(crate) fn resident(self) -> Self {
        match self {
            Self::Loading { reservation, .. } => Self::Idle { reservation },
            Self::Starting { .. }
            | Self::Idle { .. }
            | Self::Busy { .. }
            | Self::Unwinding { .. }
            | Self::Stopping { .. } => self,
        }
    }

    /// Idle with so much more promised to it.
    pub(crate) fn holding(self, more: Reservation) -> Self {
        let Remains { reservation, .. } = self.remains();
        Self::Idle {
            reservation: reservation.join(more),
        }
    }

    /// Told to give its job up, which is answered already.
    pub(crate) fn unwinding(self, asked: Moment) -> Self {
        match self {
            Self::Busy {
                reservation,
                extra,
                attempt,
            } => Self::Unwinding {
                reservation,
                extra,
                attempt,
                asked,
            },
            Self::Starting { .. }
            | Self::Loading { .. }
            | Self::Idle { .. }
            | Self::Unwinding { .. }
            | Self::Stopping { .. } => self,
        }
    }

    /// Told to leave by `plan`.
    pub(crate) fn stopping(self, plan: StopPlan, why: StopReason) -> Self {
        let Remains {
            reservation,
            attempt,
            why: before,
            was_loading,
        } = self.remains();
        Self::Stopping {
            reservation,
            plan,
            why: before.unwrap_or(why),
            attempt,
            was_loading,
        }
    }

    fn remains(self) -> Remains {
        let joined = |one: Reservation, two: Option<Reservation>| match two {
            Some(two) => one.join(two),
            None => one,
        };
        let (reservation, attempt, why, was_loading) = match self {
            Self::Starting { reservation } | Self::Loading { reservation, .. } => {
                (reservation, None, None, true)
            }
            Self::Idle { reservation } => (reservation, None, None, false),
            Self::Busy {
                reservation,
                extra,
                attempt,
            } => (joined(reservation, extra), Some(attempt), None, false),
            Self::Unwinding {
                reservation, extra, ..
            } => (joined(reservation, extra), None, None, false),
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
