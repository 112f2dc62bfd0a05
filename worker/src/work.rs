//! A count of work done, which only rises: it tells a slow worker from a hung one.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

static FINISHED: AtomicU64 = AtomicU64::new(0);

/// One more piece of work is finished, such as a layer's product.
pub fn finished_one() {
    FINISHED.fetch_add(1, Ordering::Relaxed);
}

/// Pieces of work finished so far, and pages that came from a disk.
pub fn count() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    FINISHED
        .load(Ordering::Relaxed)
        .saturating_add(major_faults(&stat).unwrap_or(0))
}

/// The 12th field of proc(5)'s `stat`; the second, a name in parentheses, may hold anything.
fn major_faults(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(9)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_rises_with_each_finished_piece() {
        let before = count();
        finished_one();
        assert!(count() > before);
    }

    #[test]
    fn major_faults_are_found_behind_any_name() {
        let stat = "4711 (a) b (c) S 1 2 3 4 5 6 77 8 99 10 11 12";
        assert_eq!(major_faults(stat), Some(99));
    }
}
