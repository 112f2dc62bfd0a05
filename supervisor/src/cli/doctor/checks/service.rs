//! The unit of systemd, if it is installed: whether its time-outs leave time to drain.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::machine::Machine;
use crate::cli::doctor::result::CheckResult;

const CHECK: &str = "service";

/// Folders of units; the first that has ours counts.
const FOLDERS: [&str; 3] = [
    "/etc/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const UNIT: &str = "imagepool.service";

/// The manager's TimeoutStopSec=, if a unit has none.
const STOP_DEFAULT: Duration = Duration::from_secs(90);
/// Time to end workers after the drain.
const AFTER_DRAIN: Duration = Duration::from_secs(5);

/// Checks the installed unit with its drop-ins.
pub fn check(machine: &Machine) -> Vec<CheckResult> {
    let installed = FOLDERS.iter().map(|folder| Path::new(folder).join(UNIT));
    let Some(path) = installed.into_iter().find(|path| path.is_file()) else {
        return vec![CheckResult::ok(
            CHECK,
            "not installed as a service of systemd",
        )];
    };
    let mut text = fs::read_to_string(&path).unwrap_or_default();
    for folder in FOLDERS {
        let drop_ins = Path::new(folder).join(format!("{UNIT}.d"));
        let entries = fs::read_dir(drop_ins).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
        files.sort();
        for file in files {
            text.push('\n');
            text += &fs::read_to_string(file).unwrap_or_default();
        }
    }
    vec![judge(
        &path.display().to_string(),
        &text,
        machine.config.pool.drain,
    )]
}

fn judge(path: &str, unit: &str, drain: Duration) -> CheckResult {
    let stop = match value(unit, "TimeoutStopSec") {
        None => Some(STOP_DEFAULT),
        Some("infinity") => None,
        Some(text) => match seconds(text) {
            Some(stop) => Some(stop),
            None => {
                return CheckResult::warning(
                    CHECK,
                    format!("{path}: TimeoutStopSec={text} is not a time"),
                    "the unit",
                    "`systemctl edit imagepool`: TimeoutStopSec=90",
                );
            }
        },
    };
    let needed = drain + AFTER_DRAIN;
    match stop {
        Some(stop) if stop < needed => CheckResult::problem(
            CHECK,
            format!(
                "{path}: TimeoutStopSec is {} s, and draining takes up to {} s (pool.drain_seconds)",
                stop.as_secs(),
                drain.as_secs()
            ),
            "the unit: systemd kills the daemon while it still finishes jobs",
            format!(
                "`systemctl edit imagepool`: TimeoutStopSec={}",
                needed.as_secs()
            ),
        ),
        Some(_) | None => CheckResult::ok(
            CHECK,
            format!("{path} leaves time to drain for {} s", drain.as_secs()),
        ),
    }
}

/// The last value of a key.
fn value<'a>(unit: &'a str, key: &str) -> Option<&'a str> {
    let lines = unit.lines().filter_map(|line| line.trim().split_once('='));
    let mut ours = lines.filter(|(name, _)| name.trim() == key);
    ours.next_back().map(|(_, value)| value.trim())
}

/// Parses a time of systemd: `90`, `90s`, `1min 30s`, `2h`.
fn seconds(text: &str) -> Option<Duration> {
    let mut total = 0;
    for word in text.split_whitespace() {
        let digits = word
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(word.len());
        let (number, unit) = word.split_at(digits);
        let unit = match unit {
            "" | "s" | "sec" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            _ => return None,
        };
        total += number.parse::<u64>().ok()?.checked_mul(unit)?;
    }
    Some(Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::result::Grade;

    #[test]
    fn a_unit_that_kills_a_draining_daemon_is_a_problem() {
        let judged = |unit: &str, drain| judge("u", unit, Duration::from_secs(drain));
        assert_eq!(judged("[Service]\nTimeoutStopSec=30\n", 5).grade, Grade::Ok);
        assert_eq!(judged("[Service]\n", 60).grade, Grade::Ok);
        assert_eq!(judged("TimeoutStopSec=infinity", 6000).grade, Grade::Ok);
        let short = judged("TimeoutStopSec=90\nTimeoutStopSec = 1min 30s\n", 300);
        assert_eq!(short.grade, Grade::Problem);
        assert!(
            short.found.contains("is 90 s") && short.found.contains("300 s"),
            "{short:?}"
        );
        assert_eq!(judged("TimeoutStopSec=soon", 5).grade, Grade::Warning);
    }
}
