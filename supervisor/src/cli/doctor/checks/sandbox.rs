//! How far the worker program can confine itself on this kernel, and whether the daemon lets it.

use ipc_protocol::sandbox::SandboxReached;
use ipc_protocol::untrusted::Untrusted;

use super::machine::Machine;
use crate::cli::doctor::result::CheckResult;
use crate::process::{programs, spawn};

const CHECK: &str = "sandbox";

/// Checks the sandbox of a daemon's workers, and that of the worker program on this kernel.
pub fn check(machine: &Machine) -> Vec<CheckResult> {
    let workers = machine
        .daemon
        .iter()
        .flat_map(|daemon| &daemon.report.workers);
    let mut reached = workers.filter_map(|worker| worker.sandbox);
    if reached.any(|reached| reached == SandboxReached::Off) {
        return vec![CheckResult::warning(
            CHECK,
            "the daemon starts workers without it",
            "the settings: a model's files could make a worker do anything that its user may do",
            "remove `sandbox = false` and `--no-sandbox`, and restart the daemon",
        )];
    }
    let said = programs::find("worker").and_then(|program| spawn::sandbox_of(&program));
    vec![judge(said.unwrap_or_else(|error| Err(error.to_string())))]
}

fn judge(said: Result<String, String>) -> CheckResult {
    match said.as_deref().map(str::trim) {
        Ok("full") => CheckResult::ok(
            CHECK,
            "workers read only their model's files, write nothing, and reach no network and no other process",
        ),
        Ok(partial) => CheckResult::warning(
            CHECK,
            format!(
                "workers can confine themselves in part: {}",
                Untrusted::new(partial)
            ),
            "the kernel or the container: a model's files could make a worker do more than it should",
            "use Linux 6.12 or later with `landlock` in the kernel's `lsm=` list; in a container allow its system calls",
        ),
        Err(why) => CheckResult::warning(
            CHECK,
            format!(
                "the worker program does not confine itself: {}",
                Untrusted::new(why)
            ),
            "the program's file, or a library that it needs",
            "install the package again",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::result::Grade;

    #[test]
    fn a_partial_sandbox_is_a_warning_that_names_the_missing_part() {
        assert_eq!(judge(Ok("full\n".into())).grade, Grade::Ok);
        let partial = judge(Ok("partial (no Landlock)\n".into()));
        assert_eq!(partial.grade, Grade::Warning);
        assert!(partial.found.ends_with("(no Landlock)"), "{partial:?}");
        assert_eq!(judge(Err("killed".into())).grade, Grade::Warning);
    }
}
