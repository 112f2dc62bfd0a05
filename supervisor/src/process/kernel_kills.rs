//! Attributes deaths to the kernel's out-of-memory killer: each kill that it counts explains one death.

use std::sync::{LazyLock, Mutex};

use nix::sys::signal::Signal;

use crate::cgroup::MemoryGroup;

/// The kills in our own control group, which the workers share. The count of the whole machine would not say which
/// processes were killed, so without an own group no death is attributed to the kernel.
pub static OWN: LazyLock<KernelKills> = LazyLock::new(|| {
    let group = MemoryGroup::own();
    KernelKills::new(move || group.as_ref()?.out_of_memory_kills())
});

/// The kernel's count of kills, and how many of them have explained a death.
pub struct KernelKills {
    count: Box<dyn Fn() -> Option<u64> + Send + Sync>,
    explained: Mutex<u64>,
}

impl std::fmt::Debug for KernelKills {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelKills")
            .field("explained", &self.explained)
            .finish_non_exhaustive()
    }
}

impl KernelKills {
    /// Starts with this count; kills counted so far explain no death.
    fn new(count: impl Fn() -> Option<u64> + Send + Sync + 'static) -> Self {
        let explained = Mutex::new(count().unwrap_or(0));
        Self {
            count: Box::new(count),
            explained,
        }
    }

    /// Called when a worker starts: earlier kills were of other processes in the group.
    pub fn forget_older(&self) {
        let mut explained = self.explained.lock().expect("no holder can panic");
        *explained = (self.count)().unwrap_or(0).max(*explained);
    }

    /// Whether a counted kill explains a death by `signal`. If so, that kill is used up.
    pub fn explain(&self, signal: i32) -> bool {
        if signal != Signal::SIGKILL as i32 {
            return false;
        }
        let mut explained = self.explained.lock().expect("no holder can panic");
        let counted = (self.count)().unwrap_or(0);
        let unexplained = counted > *explained;
        *explained += u64::from(unexplained);
        unexplained
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn one_counted_kill_explains_one_of_two_deaths() {
        let count = Arc::new(AtomicU64::new(7));
        let read = Arc::clone(&count);
        let kills = KernelKills::new(move || Some(read.load(Ordering::Relaxed)));
        assert!(!kills.explain(9));
        count.store(8, Ordering::Relaxed);
        assert!(!kills.explain(11));
        assert!(kills.explain(9));
        assert!(!kills.explain(9));
    }

    #[test]
    fn a_kill_before_a_worker_started_does_not_explain_its_death() {
        let count = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&count);
        let kills = KernelKills::new(move || Some(read.load(Ordering::Relaxed)));
        count.store(3, Ordering::Relaxed);
        kills.forget_older();
        assert!(!kills.explain(9));
    }

    #[test]
    fn without_a_count_no_death_is_attributed_to_the_kernel() {
        assert!(!KernelKills::new(|| None).explain(9));
    }
}
