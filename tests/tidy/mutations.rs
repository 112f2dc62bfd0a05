//! The bugs that `scripts/mutants` plants: the lines that they change exist.

use crate::sources::{self, ProjectFile};

const LIST: &str = "tests/simulation/mutations/list.txt";
const FOLDER: &str = "supervisor/pool/src";

/// The bugs of the list whose line is in no file, by name.
fn stale(list: &str, sources: &[ProjectFile]) -> Vec<String> {
    let bugs = list
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let gone = bugs.filter(|bug| {
        let parts: Vec<&str> = bug.split(" | ").collect();
        let [_, file, old, _] = parts[..] else {
            return true;
        };
        let (path, old) = (format!("{FOLDER}/{file}"), old.replace("\\|", "|"));
        let file = sources.iter().find(|source| source.path == path);
        !file.is_some_and(|file| file.text.lines().any(|line| line.contains(&old)))
    });
    gone.map(str::to_owned).collect()
}

#[test]
fn every_bug_that_is_planted_changes_a_line_that_exists() {
    let found = stale(&sources::read(LIST).text, &sources::rust());
    assert_eq!(found, [] as [String; 0]);
}

#[test]
fn a_bug_whose_line_is_gone_is_found() {
    let file = ProjectFile::planted("supervisor/pool/src/state/a.rs", "if a || b {\n");
    let list = "# a comment\nthere | state/a.rs | a \\|\\| b | a\ngone | state/a.rs | c | d\nno file | b.rs | a | b\n";
    let found = stale(list, &[file]);
    assert_eq!(
        found,
        ["gone | state/a.rs | c | d", "no file | b.rs | a | b"]
    );
}
