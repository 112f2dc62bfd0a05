//! The crates of each program: none banned, no network in the daemon, the same features in every build.

#![expect(
    clippy::disallowed_methods,
    reason = "Cargo is asked for its tree of crates"
)]

use std::collections::BTreeSet;
use std::process::Command;

use crate::sources;

/// Most crates of the daemon and of `imagepool`.
const DAEMON_CRATES_MAX: usize = 175;

/// Crates of HTTP clients and of TLS; the fetch program alone has them.
const NETWORK: [&str; 6] = [
    "aws-lc-rs",
    "hf-hub",
    "hyper-rustls",
    "reqwest",
    "ring",
    "rustls",
];

/// The crates of a build, each a line of name, version and features.
fn tree(arguments: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--offline", "--locked", "--prefix", "none"])
        .args(["--format", "{p} [{f}]"])
        .args(arguments)
        .current_dir(sources::root())
        .output()
        .expect("Cargo runs these tests");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let lines = String::from_utf8(output.stdout).expect("names and versions");
    let lines = lines.lines().map(|line| line.trim_end_matches(" (*)"));
    lines.map(str::to_owned).collect()
}

/// The names of crates in a tree.
fn names(tree: &BTreeSet<String>) -> BTreeSet<&str> {
    tree.iter()
        .filter_map(|line| line.split_whitespace().next())
        .collect()
}

/// The `name = "…"` lines of the lock file.
fn locked(lock: &str) -> Vec<&str> {
    lock.lines()
        .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
        .collect()
}

/// The `{ name = "…" }` entries between `deny = [` and `]`.
fn denied(deny: &str) -> Vec<&str> {
    deny.lines()
        .skip_while(|line| !line.starts_with("deny = ["))
        .take_while(|line| *line != "]")
        .filter_map(|line| line.trim().strip_prefix("{ name = \"")?.split('"').next())
        .collect()
}

fn violations(lock: &str, deny: &str) -> Vec<String> {
    let locked = locked(lock);
    denied(deny)
        .into_iter()
        .filter(|name| locked.contains(name))
        .map(|name| format!("{name} is denied and locked"))
        .collect()
}

#[test]
fn no_denied_crate_is_locked() {
    let (lock, deny) = (
        sources::read("Cargo.lock").text,
        sources::read("deny.toml").text,
    );
    assert!(denied(&deny).len() >= 3, "the list is read");
    assert!(locked(&lock).len() > 50, "the lock file is read");
    let found = violations(&lock, &deny);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_denied_crate_is_found() {
    let deny = "[bans]\ndeny = [\n  { name = \"bad\", reason = \"bad\" },\n]\n";
    assert_eq!(violations("name = \"bad\"\n", deny).len(), 1);
    assert!(violations("name = \"good\"\n", deny).is_empty());
}

#[test]
fn bincode_is_pinned_to_its_last_release() {
    let lock = sources::read("Cargo.lock").text;
    assert!(lock.contains("name = \"bincode\"\nversion = \"2.0.1\""));
}

#[test]
fn the_daemon_has_no_network_and_few_crates() {
    let daemon = tree(&["--package", "supervisor", "--edges", "normal,build"]);
    let found: Vec<_> = NETWORK
        .into_iter()
        .filter(|name| names(&daemon).contains(name))
        .collect();
    assert!(found.is_empty(), "{found:?}");
    let client = |line: &&String| line.starts_with("hyper") && line.contains("client");
    assert_eq!(daemon.iter().find(client), None, "hyper only serves");
    assert!(daemon.len() <= DAEMON_CRATES_MAX, "{} crates", daemon.len());
    let fetch = tree(&["--package", "fetch", "--edges", "normal,build"]);
    assert!(
        names(&fetch).contains("reqwest"),
        "the check looks for the right names"
    );
}

/// A crate with other features is another build of it and of all above it, candle among them. The worker's crates are the
/// slow ones; those of the HTTP door alone have more features in the fetch program, and the demo does without them.
#[test]
fn the_tests_build_no_crate_of_the_demo_again() {
    let worker = tree(&["--package", "worker", "--edges", "normal,build"]);
    let demo = tree(&["--edges", "normal,build"]);
    let of_worker = |line: &&String| {
        let name = line.split_whitespace().next().unwrap_or_default();
        names(&worker).contains(name)
    };
    for all in [
        &["--workspace", "--edges", "normal,build"][..],
        &["--workspace", "--edges", "normal,build,dev"],
    ] {
        let all = tree(all);
        let other: Vec<_> = demo.difference(&all).filter(of_worker).collect();
        assert!(
            other.is_empty(),
            "tests/features/Cargo.toml lacks features of {other:#?}"
        );
    }
    assert!(
        worker.difference(&demo).count() > 0,
        "features of a smaller build are told apart"
    );
}
