//! How much CPU time a process got, and how long it waited for a CPU (proc(5), sched-stats.rst).

use std::fs;
use std::path::Path;
use std::time::Duration;

use pool::CpuTime;

use super::stat::Stat;

/// CPU time of all living threads of a process, added up; nothing once it is gone or where the kernel does
/// not tell.
pub fn measure(pid: u32) -> Option<CpuTime> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    // A thread may end between its entry and its files.
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

/// `RAN WAITED SLICES`: the first two are nanoseconds.
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
    fn the_first_two_fields_are_the_time_on_a_cpu_and_the_time_without_one() {
        let expected = CpuTime {
            ran: Duration::from_nanos(5),
            waited: Duration::from_secs(2),
            blocked: false,
        };
        assert_eq!(parse("5 2000000000 17\n", false), Some(expected));
        assert_eq!(parse("5", false), None);
    }

    #[test]
    fn a_process_that_is_gone_has_no_cpu_time() {
        assert_eq!(measure(0), None);
    }
}
