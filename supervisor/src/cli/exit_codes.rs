//! The exit codes of `imagepool`: the one list for its help, its manual page and the README.

/// Each code and its meaning.
pub const EXIT_CODES: &[(&str, &str)] = &[
    ("0", "done"),
    (
        "1",
        "failed; an unknown name for supervisorctl's verbs: start, stop, restart, signal, tail, clear, update",
    ),
    (
        "2",
        "wrong usage or an invalid value, a model's name for generate, plan, replay and models included",
    ),
    (
        "3",
        "status: a named or pinned worker or model is not RUNNING",
    ),
    (
        "4",
        "no permission, or an unknown name for every other command: no worker, model or job has it",
    ),
    (
        "7",
        "no daemon answers, or it speaks another protocol version",
    ),
    (
        "75",
        "try again later: the queue or a quota is full, or the pool drains, loads or is stopped",
    ),
    ("124", "the job took longer than its time limit"),
    (
        "130",
        "interrupted, and the jobs of this command cancelled, except by wait",
    ),
];

/// The list as text, for the help.
pub fn block() -> String {
    let lines = EXIT_CODES
        .iter()
        .map(|(code, meaning)| format!("  {code:<4} {meaning}"));
    format!("Exit codes:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_has_the_same_list() {
        let readme = include_str!("../../../README.md");
        for (code, meaning) in EXIT_CODES {
            let row = format!("| {code} | {meaning} |");
            assert!(readme.contains(&row), "README.md lacks the row {row}");
        }
    }
}
