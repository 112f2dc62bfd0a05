//! Whether the clock is plausible.

use super::machine::Machine;
use crate::cli::doctor::result::CheckResult;
use crate::clock::Clock;

const CHECK: &str = "clock";

/// 2026-01-01: this program is younger.
const BUILT_AFTER: u64 = 1_767_225_600;
/// 2100-01-01.
const TOO_LATE: u64 = 4_102_444_800;
/// Mean seconds of a year.
const YEAR: u64 = 31_556_952;

/// Checks the date, and that time does not run backwards.
pub fn check(_: &Machine) -> Vec<CheckResult> {
    let clock = Clock::start();
    let (before, after) = (clock.now(), clock.now());
    if after < before {
        return vec![CheckResult::problem(
            CHECK,
            format!("the monotonic clock ran from {before} s back to {after} s"),
            "the kernel or the virtual machine",
            "`cat /sys/devices/system/clocksource/clocksource0/current_clocksource`; choose another",
        )];
    }
    vec![judge(clock.unix_seconds())]
}

fn judge(unix_seconds: u64) -> CheckResult {
    let year = 1970 + unix_seconds / YEAR;
    match unix_seconds {
        BUILT_AFTER..TOO_LATE => CheckResult::ok(CHECK, format!("the year is {year}")),
        _ => CheckResult::problem(
            CHECK,
            format!("the year is {year}: downloads fail, because certificates are not valid then"),
            "the machine's clock",
            "`timedatectl set-ntp true`, or `date -s 'YYYY-MM-DD HH:MM'`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::result::Grade;

    #[test]
    fn a_year_before_this_program_is_a_problem() {
        let unset = judge(0);
        assert_eq!(unset.grade, Grade::Problem);
        assert!(unset.found.starts_with("the year is 1970"), "{unset:?}");
        assert_eq!(judge(BUILT_AFTER + YEAR).grade, Grade::Ok);
        assert_eq!(judge(TOO_LATE).grade, Grade::Problem);
    }
}
