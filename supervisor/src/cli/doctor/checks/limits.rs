//! The limits of processes (getrlimit(2)), of the daemon if one runs.

use std::fs;

use super::machine::Machine;
use crate::cli::doctor::result::{CheckResult, Grade};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A limit, and from where on it is too low.
#[derive(Debug, Clone, Copy)]
struct LimitRule {
    check: &'static str,
    /// Its name in /proc/PID/limits.
    name: &'static str,
    /// Option of `ulimit`, and the name in a unit.
    option: (&'static str, &'static str),
    /// A value to set.
    wanted: &'static str,
    problem_below: u64,
    warning_below: u64,
    /// Bytes of a unit of the printed value; 1 for counts.
    unit: u64,
    why: &'static str,
}

const RULES: [LimitRule; 5] = [
    LimitRule {
        check: "open files",
        name: "Max open files",
        option: ("-n", "LimitNOFILE"),
        wanted: "4096",
        problem_below: 128,
        warning_below: 1024,
        unit: 1,
        why: "each client and each worker needs some",
    },
    LimitRule {
        check: "processes",
        name: "Max processes",
        option: ("-u", "LimitNPROC"),
        wanted: "4096",
        problem_below: 64,
        warning_below: 512,
        unit: 1,
        why: "each worker has a thread per core, and all of the user's processes count",
    },
    LimitRule {
        check: "address space",
        name: "Max address space",
        option: ("-v", "LimitAS"),
        wanted: "unlimited",
        problem_below: 8 * GIB,
        warning_below: u64::MAX,
        unit: MIB,
        why: "a worker maps its weights, and CUDA reserves far more than it uses",
    },
    LimitRule {
        check: "file size",
        name: "Max file size",
        option: ("-f", "LimitFSIZE"),
        wanted: "unlimited",
        problem_below: 64 * MIB,
        warning_below: 40 * GIB,
        unit: MIB,
        why: "segments and model files are larger",
    },
    LimitRule {
        check: "locked memory",
        name: "Max locked memory",
        option: ("-l", "LimitMEMLOCK"),
        wanted: "unlimited",
        problem_below: 0,
        warning_below: MIB,
        unit: MIB,
        why: "CUDA pins memory for transfers",
    },
];

/// Checks every limit.
pub fn check(machine: &Machine) -> Vec<CheckResult> {
    let own = || fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let path = format!("/proc/{}/limits", machine.examined_pid());
    let limits = fs::read_to_string(path).unwrap_or_else(|_| own());
    let whose = machine.examined();
    let findings = RULES.iter().map(|rule| judge(rule, &limits, &whose));
    findings.collect()
}

fn judge(rule: &LimitRule, limits: &str, whose: &str) -> CheckResult {
    let Some(limit) = soft_limit(limits, rule.name) else {
        return CheckResult::ok(rule.check, "no limit");
    };
    let value = match rule.unit {
        1 => limit.to_string(),
        unit => format!("{} MiB", limit / unit),
    };
    let found = format!("{whose} may have {value}: {}", rule.why);
    let grade = match limit {
        limit if limit < rule.problem_below => Grade::Problem,
        limit if limit < rule.warning_below => Grade::Warning,
        _ => return CheckResult::ok(rule.check, format!("{whose} may have {value}")),
    };
    let (option, unit) = rule.option;
    let wanted = rule.wanted;
    let in_unit = wanted.replace("unlimited", "infinity");
    let remedy = format!(
        "`ulimit {option} {wanted}` in the shell that starts the daemon, or {unit}={in_unit} in its unit"
    );
    CheckResult::bad(
        rule.check,
        grade,
        found,
        "the limits of the process that starts the daemon",
        remedy,
    )
}

/// Parses the soft limit in a line of /proc/PID/limits; `None` if there is no limit.
fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \nMax file size             unlimited            unlimited            bytes     \nMax processes             95                   95                   processes \nMax open files            64                   20000                files     \nMax locked memory         8388608              8388608              bytes     \nMax address space         1073741824           unlimited            bytes     \n";

    #[test]
    fn a_low_limit_is_a_problem_with_the_command_that_raises_it() {
        let found: Vec<CheckResult> = RULES
            .iter()
            .map(|rule| judge(rule, LIMITS, "this shell"))
            .collect();
        let grades: Vec<_> = found.iter().map(|finding| finding.grade).collect();
        assert_eq!(
            grades,
            [
                Grade::Problem,
                Grade::Warning,
                Grade::Problem,
                Grade::Ok,
                Grade::Ok
            ]
        );
        let advice = found[0].advice.clone().expect("it is a problem");
        assert!(
            advice.remedy.contains("ulimit -n 4096") && advice.remedy.contains("LimitNOFILE=4096"),
            "{advice:?}"
        );
        assert!(
            found[0].found.starts_with("this shell may have 64: "),
            "{found:?}"
        );
        assert!(found[2].found.contains("1024 MiB"), "{found:?}");
        assert_eq!(found[3].found, "no limit");
    }
}
