//! Whether the settings file is valid.

use super::machine::Machine;
use crate::cli::doctor::result::CheckResult;

const CHECK: &str = "settings";

/// Checks the settings file.
pub fn check(machine: &Machine) -> Vec<CheckResult> {
    vec![match (&machine.invalid, &machine.file) {
        (Some(why), _) => CheckResult::problem(
            CHECK,
            why,
            "the settings file",
            "correct the line; `supervisor --check-config` checks it again",
        ),
        (None, Some(file)) => CheckResult::ok(CHECK, format!("{} is valid", file.display())),
        (None, None) => CheckResult::ok(CHECK, "no settings file: the defaults apply"),
    }]
}
