//! Measures a process's CPU time and its wait for a CPU (proc(5), sched-stats.rst).

use std::fs;
use std::path::Path;
use std::time::Duration;

use pool::CpuTime;

use super::stat::Stat;

/// Sums the CPU time of all living threads of a process. `None` if the process is gone or the kernel does not
/// report it.
pub fn measure(pid: u32) -> Option<CpuTime> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    // A thread may exit between the listing and the read.
    let times = threads.filter_map(|thread| of_thread(&thread.path()));
    times.reduce(|all, one| CpuTime {
        ran: all.ran + one.ran,
        waited: all.waited + one.waited,
        blocked: all.blocked || one.blocked,
    })
}

fn of_thread(folder: &Path) -> Option<CpuTime> {
    let line = fs::read_to_string(folder.join("schedstat")).ok()?;
    let blocked = Stat::read(&folder.join("stat")).is_some_and(|stat| stat.is_blocked);
    parse(&line, blocked)
}

/// Parses `RAN WAITED SLICES`; the first two are nanoseconds.
fn parse(line: &str, blocked: bool) -> Option<CpuTime> {
    let mut fields = line.split_ascii_whitespace().map(str::parse);
    Some(CpuTime {
        ran: Duration::from_nanos(fields.next()?.ok()?),
        waited: Duration::from_nanos(fields.next()?.ok()?),
        blocked,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_two_fields_are_the_times_on_a_cpu_and_waiting_for_one() {
        let expected = CpuTime {
            ran: Duration::from_nanos(5),
            waited: Duration::from_secs(2),
            blocked: false,
        };
        assert_eq!(parse("5 2000000000 17\n", false), Some(expected));
        assert_eq!(parse("5", false), None);
    }

    #[test]
    fn a_process_that_has_exited_has_no_cpu_time() {
        assert_eq!(measure(0), None);
    }
}
