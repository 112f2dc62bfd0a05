//! Whether our programs are here, start, and are of one build.

use ipc_protocol::version::BUILD;

use super::machine::Machine;
use crate::cli::doctor::result::CheckResult;
use crate::process::{programs, spawn};

const CHECK: &str = "programs";

/// The programs that a pool needs, and whether it works without.
const PROGRAMS: [(&str, bool); 3] = [("supervisor", true), ("worker", true), ("fetch", false)];

/// Checks each program, and the version of the daemon that runs.
pub fn check(machine: &Machine) -> Vec<CheckResult> {
    let mut bad: Vec<CheckResult> = PROGRAMS
        .into_iter()
        .filter_map(|(program, is_needed)| wrong(program, is_needed))
        .collect();
    if let Ok(daemon) = &machine.daemon
        && daemon.version != BUILD
    {
        bad.push(CheckResult::warning(
            CHECK,
            format!(
                "the daemon (pid {}) is version {} and imagepool is {BUILD}",
                daemon.pid, daemon.version
            ),
            "the daemon was started before an update",
            "restart it: `imagepool shutdown`, then start it again; as a service `systemctl restart imagepool`",
        ));
    }
    match bad.is_empty() {
        true => vec![CheckResult::ok(
            CHECK,
            format!("supervisor, worker and fetch are here, all of version {BUILD}"),
        )],
        false => bad,
    }
}

fn wrong(program: &'static str, is_needed: bool) -> Option<CheckResult> {
    let path = match programs::find(program) {
        Ok(path) => path,
        Err(error) if is_needed => {
            return Some(CheckResult::problem(
                CHECK,
                error.to_string(),
                "the installation",
                "install the package again, or build with `cargo build --release --workspace`",
            ));
        }
        Err(error) => {
            return Some(CheckResult::warning(
                CHECK,
                error.to_string(),
                "the installation",
                "install the package again: without it no model is downloaded",
            ));
        }
    };
    let shown = path.display();
    let said = match spawn::version_of(&path) {
        Ok(Ok(said)) => said,
        Ok(Err(why)) => {
            return Some(CheckResult::problem(
                CHECK,
                format!("{shown} does not start: {why}"),
                "the program's file, or a library that it needs",
                format!("run `{shown} --version`; install the package again"),
            ));
        }
        Err(error) => {
            return Some(CheckResult::problem(
                CHECK,
                format!("{shown} cannot be run: {error}"),
                "the program's file or its permissions",
                "install the package again",
            ));
        }
    };
    let version = said.split_whitespace().next_back().unwrap_or_default();
    (version != BUILD).then(|| {
        CheckResult::problem(
            CHECK,
            format!("{shown} is version {version:?} and imagepool is {BUILD}"),
            "the installation: its programs are of different builds",
            "install all programs of one build",
        )
    })
}
