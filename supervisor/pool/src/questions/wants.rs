//! When a model gets one more worker.

use ipc_protocol::ids::{Device, DeviceConstraint, JobId};
use ipc_protocol::units::Mebibytes;

use crate::questions::overtaking::{Lack, barriers};
use crate::questions::waiting::{grows_at, unserved, unserved_device};
use crate::state::State;
use crate::state::model::Standing;
use crate::state::phase::Phase;
use crate::state::record::RestartVerdict;
use crate::words::moment::Moment;
use crate::words::reasons::StartReason;
use crate::words::registry::ModelId;
use crate::words::settings::Settings;

/// After this many deaths in a row a cold start tries one worker, not several.
const CAREFUL_AFTER_DEATHS: u32 = 2;

/// More workers for a model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkerWant {
    /// The oldest job that wants it; models without one come last.
    pub(crate) job: Option<JobId>,
    pub(crate) model: ModelId,
    pub(crate) reason: StartReason,
    /// Where it may run.
    pub(crate) device: DeviceConstraint,
    pub(crate) count: usize,
}

impl WorkerWant {
    /// Idle workers of other models may be evicted for it.
    pub(crate) fn may_evict(&self) -> bool {
        match self.reason {
            StartReason::ColdStart | StartReason::Constraint | StartReason::Floor => true,
            StartReason::Growth | StartReason::Replacement => false,
        }
    }

    /// It starts only if fewer workers than this are starting or loading.
    pub(crate) fn most_coming(&self, settings: &Settings) -> usize {
        let most = settings.max_starting_workers as usize;
        match self.job {
            Some(_) => most,
            None => most.div_ceil(2),
        }
    }
}

/// The workers that models want, for the model of the oldest job first.
pub(crate) fn all(state: &State, now: Moment) -> Vec<WorkerWant> {
    let wants = state.model_ids().filter_map(|id| want(state, id, now));
    let mut wants: Vec<WorkerWant> = wants.collect();
    wants.sort_by_key(|want| (want.job.is_none(), want.job, want.model));
    wants
}

/// One more worker there would take what an older job that is due needs.
pub(crate) fn is_claimed(state: &State, want: WorkerWant, device: Device, now: Moment) -> bool {
    let Some(amount) = state.model(want.model).need_on(device, state.settings()) else {
        return false;
    };
    let claims = barriers(state, now).into_iter().filter(|barrier| {
        barrier.lack == Lack::Room && want.job.is_none_or(|job| barrier.job < job)
    });
    let mut lacks = claims.flat_map(|barrier| state.model(barrier.model).lacks());
    lacks.any(|lacking| {
        let takes = amount.at(lacking.at());
        takes > Mebibytes::ZERO && state.budget().free(lacking.at()) < lacking.need() + takes
    })
}

/// Another model waits for memory.
pub(crate) fn others_lack(state: &State, id: ModelId) -> bool {
    let mut others = state.model_ids().filter(|&other| other != id);
    others.any(|other| !state.model(other).lacks().is_empty())
}

fn want(state: &State, id: ModelId, now: Moment) -> Option<WorkerWant> {
    let model = state.model(id);
    let standing = model.standing(now);
    if !standing.may_start() {
        return None;
    }
    let careful = standing == Standing::Tried(RestartVerdict::Probe);
    let most = model.most(state.settings());
    let live = state.fleet().live(id).count();
    let all = state.fleet().count(id);
    if all >= most || careful && live > 0 {
        return None;
    }
    let (reason, device, count) = reason_to_start(state, id, live, now)?;
    let careful = careful || model.record().deaths_in_a_row() >= CAREFUL_AFTER_DEATHS;
    let count = count.min(most - all).max(1);
    Some(WorkerWant {
        job: match reason {
            StartReason::Constraint => unserved(state, id).next(),
            StartReason::ColdStart
            | StartReason::Floor
            | StartReason::Growth
            | StartReason::Replacement => state.jobs().queue(id).oldest(),
        },
        model: id,
        reason,
        device,
        count: if careful { 1 } else { count },
    })
}

fn reason_to_start(
    state: &State,
    id: ModelId,
    live: usize,
    now: Moment,
) -> Option<(StartReason, DeviceConstraint, usize)> {
    if let Some(device) = unserved_device(state, id, now) {
        let cold = state.settings().cold_start_workers.max(1) as usize;
        return Some(match live {
            0 => (StartReason::ColdStart, device, cold),
            _ => (StartReason::Constraint, device, 1),
        });
    }
    let model = state.model(id);
    let lacking = model.floor(state.settings()).saturating_sub(live);
    if state.phase() == Phase::Serving && lacking > 0 && lacking > coming_back(state, id) {
        return Some((StartReason::Floor, DeviceConstraint::Auto, 1));
    }
    let mut workers = state.fleet().live(id);
    if state.jobs().queue(id).is_empty() || workers.any(|w| w.is_idle() || w.is_coming()) {
        return None;
    }
    if model.to_replace() > 0 {
        return Some((StartReason::Replacement, DeviceConstraint::Auto, 1));
    }
    let due = grows_at(state, id)? <= now;
    due.then_some((StartReason::Growth, DeviceConstraint::Auto, 1))
}

/// Workers of a model that are being stopped and will be replaced in their own slots.
fn coming_back(state: &State, id: ModelId) -> usize {
    let restarts = |id| state.orders().iter().any(|order| order.restarts(id));
    let workers = state.fleet().of(id);
    workers.filter(|w| restarts(w.generation())).count()
}
