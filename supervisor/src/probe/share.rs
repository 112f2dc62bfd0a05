//! Tells the memory of our workers on a GPU from that of others, measurement by measurement.
//!
//! The driver's list of processes says what each holds. Memory of a process that is gone is not in that list, though the
//! driver may still free it: it shows as memory of nobody, beyond what nobody held before. In a container the
//! driver may list no process, or none of ours. Then all that was there before our workers is foreign, and so is
//! everything beyond what was promised to them.

use std::collections::BTreeMap;

use ipc_protocol::ids::Generation;

use super::gpu::{GpuFacts, GpuProcess};

/// A dead worker holds nothing any more if less than this part of its memory is in use without an owner.
const REST: u64 = 8;

/// A worker on a GPU, alive or dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuTenant {
    /// Its process.
    pub pid: u32,
    /// Memory that was promised to it there, in bytes.
    pub promised: u64,
    /// It has loaded its model, so it holds memory.
    pub is_ready: bool,
    /// Its exit was reported.
    pub is_dead: bool,
}

/// The holders of a GPU's memory, in bytes. Everything that is not free is `workers`, `dead` or `foreign`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GpuShares {
    /// Memory of each living worker, if the driver tells.
    pub workers: BTreeMap<Generation, u64>,
    /// Memory of all living workers.
    pub measured: u64,
    /// Memory of dead workers that the driver has not freed yet.
    pub dead: BTreeMap<Generation, u64>,
    /// Memory of all other programs, and of the driver.
    pub foreign: u64,
}

/// Facts of a GPU that are kept from one measurement to the next.
#[derive(Debug, Clone, Default)]
pub struct GpuHistory {
    /// Memory of no listed process while no dead worker could hold any of it.
    of_nobody: u64,
    /// Everything that was taken while no worker of ours was there.
    before_us: u64,
    /// Memory of each worker at the last measurement that listed it.
    held: BTreeMap<Generation, u64>,
}

impl GpuHistory {
    /// Splits what a measurement found among our workers, dead ones and others.
    pub fn split(
        &mut self,
        facts: &GpuFacts,
        tenants: &BTreeMap<Generation, GpuTenant>,
    ) -> GpuShares {
        if tenants.is_empty() {
            self.before_us = facts.used_bytes;
        }
        let shares = match listed(facts, tenants) {
            Some(listed) => self.split_listed(facts.used_bytes, &listed, tenants),
            None => self.split_unlisted(facts.used_bytes, tenants),
        };
        self.held.retain(|worker, _| tenants.contains_key(worker));
        self.held
            .extend(shares.workers.iter().map(|(&w, &b)| (w, b)));
        shares
    }

    fn split_listed(
        &mut self,
        used: u64,
        listed: &BTreeMap<u32, u64>,
        tenants: &BTreeMap<Generation, GpuTenant>,
    ) -> GpuShares {
        let of = |tenant: &GpuTenant| listed.get(&tenant.pid).copied();
        let nobodys = used.saturating_sub(listed.values().sum());
        let (dead, living): (Vec<_>, Vec<_>) = tenants.iter().partition(|(_, t)| t.is_dead);
        let workers: BTreeMap<Generation, u64> = living
            .into_iter()
            .map(|(worker, tenant)| (*worker, of(tenant).unwrap_or_default()))
            .collect();
        if dead.is_empty() {
            self.of_nobody = nobodys;
        }
        let mut beyond = nobodys.saturating_sub(self.of_nobody);
        let mut left = BTreeMap::new();
        for (worker, tenant) in dead {
            let rest = of(tenant).unwrap_or_else(|| {
                // It may have taken more since it was last listed, up to its promise.
                let held = self.held.get(worker).copied().unwrap_or_default();
                let most = held.max(tenant.promised);
                let rest = beyond.min(most);
                if rest < most / REST { 0 } else { rest }
            });
            beyond = beyond.saturating_sub(rest);
            left.insert(*worker, rest);
        }
        let measured = workers.values().sum();
        let foreign = used.saturating_sub(measured + left.values().sum::<u64>());
        GpuShares {
            workers,
            measured,
            dead: left,
            foreign,
        }
    }

    fn split_unlisted(&self, used: u64, tenants: &BTreeMap<Generation, GpuTenant>) -> GpuShares {
        let ours = used.saturating_sub(self.before_us);
        let (dead, living): (Vec<_>, Vec<_>) = tenants.iter().partition(|(_, t)| t.is_dead);
        let promised: u64 = living.iter().map(|(_, tenant)| tenant.promised).sum();
        let measured = ours.min(promised);
        let mut beyond = ours - measured;
        let mut left = BTreeMap::new();
        for (worker, tenant) in dead {
            let rest = beyond.min(tenant.promised);
            beyond -= rest;
            left.insert(*worker, rest);
        }
        GpuShares {
            workers: BTreeMap::new(),
            measured,
            foreign: used - measured - left.values().sum::<u64>(),
            dead: left,
        }
    }
}

/// The memory of each process; `None` if the driver hides one of ours or its memory.
fn listed(
    facts: &GpuFacts,
    tenants: &BTreeMap<Generation, GpuTenant>,
) -> Option<BTreeMap<u32, u64>> {
    let entry = |process: &GpuProcess| Some((process.pid, process.bytes?));
    let listed: BTreeMap<u32, u64> = facts.processes.as_ref()?.iter().filter_map(entry).collect();
    let seen =
        |tenant: &GpuTenant| tenant.is_dead || !tenant.is_ready || listed.contains_key(&tenant.pid);
    tenants.values().all(seen).then_some(listed)
}

#[cfg(test)]
mod tests {
    use super::super::sample::gpu;
    use super::*;

    const MIB: u64 = 1 << 20;

    fn tenant(pid: u32, promised_mb: u64) -> GpuTenant {
        GpuTenant {
            pid,
            promised: promised_mb * MIB,
            is_ready: true,
            is_dead: false,
        }
    }

    fn dead(tenant: GpuTenant) -> GpuTenant {
        GpuTenant {
            is_dead: true,
            ..tenant
        }
    }

    fn tenants<const N: usize>(all: [GpuTenant; N]) -> BTreeMap<Generation, GpuTenant> {
        (1..).map(Generation).zip(all).collect()
    }

    /// A GPU with `used_mb` taken, of which these processes hold their parts.
    fn with(used_mb: u64, processes: &[(u32, u64)]) -> GpuFacts {
        let process = |&(pid, mb): &(u32, u64)| GpuProcess {
            pid,
            bytes: Some(mb * MIB),
        };
        GpuFacts {
            processes: Some(processes.iter().map(process).collect()),
            ..gpu(0, used_mb)
        }
    }

    fn in_mb(shares: &GpuShares) -> (u64, Vec<u64>, u64) {
        let dead = shares.dead.values().map(|bytes| bytes / MIB).collect();
        (shares.measured / MIB, dead, shares.foreign / MIB)
    }

    #[test]
    fn what_our_processes_do_not_hold_is_foreign() {
        let mut history = GpuHistory::default();
        let ours = tenants([tenant(1, 100), tenant(2, 100)]);
        let shares = history.split(&with(300, &[(1, 60), (2, 90), (3, 70)]), &ours);
        assert_eq!(in_mb(&shares), (150, vec![], 150));
        assert_eq!(shares.workers[&Generation(2)], 90 * MIB);
    }

    #[test]
    fn memory_of_a_dead_worker_is_its_own_until_the_driver_has_freed_it() {
        let mut history = GpuHistory::default();
        let (one, two) = (tenant(1, 100), tenant(2, 100));
        history.split(&with(200, &[(1, 60), (2, 90)]), &tenants([one, two]));
        let after = tenants([dead(one), two]);
        let listed = history.split(&with(200, &[(1, 60), (2, 90)]), &after);
        assert_eq!(in_mb(&listed), (90, vec![60], 50), "still listed");
        let late = history.split(&with(200, &[(2, 90)]), &after);
        assert_eq!(in_mb(&late), (90, vec![60], 50), "listed no more, not free");
        let half = history.split(&with(170, &[(2, 90)]), &after);
        assert_eq!(in_mb(&half), (90, vec![30], 50), "half of it is free");
        let free = history.split(&with(141, &[(2, 90)]), &after);
        assert_eq!(
            in_mb(&free),
            (90, vec![0], 51),
            "what is left is the driver's"
        );
    }

    #[test]
    fn a_worker_that_died_before_it_was_measured_may_have_held_what_it_was_promised() {
        let mut history = GpuHistory::default();
        history.split(&with(50, &[]), &BTreeMap::new());
        let gone = tenants([dead(tenant(1, 100))]);
        assert_eq!(
            in_mb(&history.split(&with(130, &[]), &gone)),
            (0, vec![80], 50)
        );
        assert_eq!(
            in_mb(&history.split(&with(50, &[]), &gone)),
            (0, vec![0], 50)
        );
        assert_eq!(
            in_mb(&history.split(&with(400, &[]), &gone)),
            (0, vec![100], 300),
            "more than its promise is not its own"
        );
    }

    #[test]
    fn where_the_driver_hides_our_processes_everything_beyond_the_promises_is_foreign() {
        let mut history = GpuHistory::default();
        history.split(&with(50, &[]), &BTreeMap::new());
        let one = tenant(1, 100);
        for facts in [
            with(120, &[(99, 70)]),
            GpuFacts {
                processes: None,
                ..gpu(0, 120)
            },
        ] {
            let shares = history.split(&facts, &tenants([one]));
            assert_eq!(in_mb(&shares), (70, vec![], 50));
        }
        let more = history.split(&with(250, &[]), &tenants([one]));
        assert_eq!(in_mb(&more), (100, vec![], 150));
        let late = history.split(&with(120, &[]), &tenants([dead(one)]));
        assert_eq!(in_mb(&late), (0, vec![70], 50));
    }

    #[test]
    fn the_parts_are_always_all_of_it() {
        let mut history = GpuHistory::default();
        let mut state = 7_u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        for _ in 0..10_000 {
            let mut ours = BTreeMap::new();
            for nth in 0..random(4) {
                let tenant = GpuTenant {
                    pid: nth as u32,
                    promised: random(200) * MIB,
                    is_ready: random(2) == 0,
                    is_dead: random(3) == 0,
                };
                ours.insert(Generation(nth), tenant);
            }
            let processes: Vec<(u32, u64)> = (0..random(6))
                .map(|pid| (pid as u32, random(150)))
                .collect();
            let facts = with(random(1000), &processes);
            let shares = history.split(&facts, &ours);
            let sum = shares.measured + shares.dead.values().sum::<u64>() + shares.foreign;
            let listed: u64 = processes.iter().map(|(_, mb)| mb * MIB).sum();
            // A driver that lists more than it says is taken is believed the larger number.
            assert!(
                sum >= facts.used_bytes && sum <= facts.used_bytes.max(listed),
                "{shares:?}"
            );
        }
    }
}
