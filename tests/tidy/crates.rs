//! The crates that Cargo.lock may not hold, by deny.toml, and the exceptions with their reasons.

use crate::sources;

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
