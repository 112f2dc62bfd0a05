//! A counter of finished work, which never falls: it tells a slow worker from a hung one.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::own_file::OwnFile;

static STAT: OwnFile = OwnFile::new("/proc/self/stat");
static FINISHED: AtomicU64 = AtomicU64::new(0);

/// Counts one more finished piece of work, such as a layer's product.
pub fn finished_one() {
    FINISHED.fetch_add(1, Ordering::Relaxed);
}

/// Number of finished pieces of work and of pages read from a disk.
pub fn count() -> u64 {
    let stat = STAT.read();
    FINISHED
        .load(Ordering::Relaxed)
        .saturating_add(major_faults(&stat).unwrap_or(0))
}

/// The 12th field of `stat` in proc(5). The second field, a name in parentheses, may contain any characters.
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
    fn major_faults_are_found_after_any_process_name() {
        let stat = "4711 (a) b (c) S 1 2 3 4 5 6 77 8 99 10 11 12";
        assert_eq!(major_faults(stat), Some(99));
    }
}
