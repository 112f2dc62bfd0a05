//! Looks for a smaller world with the same violation.

use crate::faults::FaultKind;
use crate::plan::WorldPlan;
use crate::world::World;

/// Smaller worlds that are tried at most.
const TRIES_MAX: u32 = 400;

/// The smallest world found that still breaks, `plan` itself where none does.
pub(crate) fn shrunk(plan: &WorldPlan) -> WorldPlan {
    let mut best = plan.clone();
    let mut tries = 0;
    'smaller: loop {
        for candidate in candidates(&best) {
            tries += 1;
            if tries > TRIES_MAX {
                break 'smaller;
            }
            if let Some(smaller) = broken(candidate) {
                best = smaller;
                continue 'smaller;
            }
        }
        break;
    }
    best
}

/// The plan, cut off at its violation, where it has one.
fn broken(mut plan: WorldPlan) -> Option<WorldPlan> {
    let violation = World::new(&plan, false).live().err()?;
    plan.events = plan.events.min(violation.event);
    Some(plan)
}

fn candidates(plan: &WorldPlan) -> Vec<WorldPlan> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut WorldPlan)| {
        let mut smaller = plan.clone();
        change(&mut smaller);
        if size(&smaller) < size(plan) {
            all.push(smaller);
        }
    };
    with(&|p| p.faults.0 = 0);
    for (fault, _) in FaultKind::ALL {
        with(&|p| p.faults = p.faults.without(*fault));
    }
    with(&|p| p.models = (p.models / 2).max(1));
    with(&|p| p.models = (p.models - 1).max(1));
    with(&|p| p.clients = (p.clients / 2).max(1));
    with(&|p| p.clients = (p.clients - 1).max(1));
    with(&|p| p.users = 1);
    with(&|p| p.devices = (p.devices - 1).max(1));
    with(&|p| p.events /= 2);
    all
}

fn size(plan: &WorldPlan) -> u64 {
    let parts = plan.models + plan.clients + plan.users + plan.devices;
    plan.events + 10 * parts as u64 + 100 * u64::from(plan.faults.0.count_ones())
}
