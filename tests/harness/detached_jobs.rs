//! Detached jobs: starts them with the command, and waits for what `jobs` says of them.

use serde_json::Value;

use crate::daemon::TestDaemon;
use crate::program::PATIENCE;
use crate::wait;

/// Starts a detached request; returns the ids of its jobs.
pub fn detach(daemon: &TestDaemon, arguments: &[&str]) -> Vec<String> {
    let arguments = [&["generate", "a red circle", "--detach"], arguments].concat();
    let output = daemon.imagepool(&arguments).succeeded();
    output.text().lines().map(str::to_owned).collect()
}

/// The line of a job in `jobs --json`.
pub fn listed(daemon: &TestDaemon, job: &str) -> Option<Value> {
    let output = daemon.imagepool(&["jobs", "--json"]).succeeded();
    let jobs = output.json().remove(0);
    let mut jobs = jobs.as_array().expect("a list").clone().into_iter();
    let number: u64 = job.parse().expect("a job is a number");
    jobs.find(|line| line["job"] == number)
}

/// Waits until a field of a job has this value.
pub fn until_listed(daemon: &TestDaemon, job: &str, field: &str, value: &str) {
    let holds = || listed(daemon, job).is_some_and(|line| line[field] == value);
    assert!(
        wait::until(PATIENCE, holds),
        "{:?}",
        daemon.imagepool(&["jobs"])
    );
}

/// Waits until a job has finished this many steps.
pub fn until_step(daemon: &TestDaemon, job: &str, step: u64) {
    let holds = || {
        let line = listed(daemon, job)?;
        (line["step"].as_u64()? >= step).then_some(())
    };
    assert!(wait::until_found(PATIENCE, holds).is_some());
}
