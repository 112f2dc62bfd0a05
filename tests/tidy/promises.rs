//! SPECIFICATION.md: each promise names the tests that hold it, and these exist.

use crate::sources::{self, ProjectFile};

/// The promises: lines `| number | … |` of tables.
fn promises(page: &str) -> impl Iterator<Item = (&str, &str)> {
    page.lines().filter_map(|line| {
        let (number, rest) = line.strip_prefix("| ")?.split_once(" |")?;
        let numbered = number.starts_with(|c: char| c.is_ascii_digit());
        numbered.then_some((number, rest))
    })
}

/// The tests that a promise names: `PATH.rs::FUNCTION`.
fn tests(promise: &str) -> impl Iterator<Item = (&str, &str)> {
    promise
        .split('`')
        .filter_map(|word| word.split_once("::"))
        .filter(|(path, _)| path.ends_with(".rs"))
}

fn violations(page: &str, sources: &[ProjectFile]) -> Vec<String> {
    let mut found = Vec::new();
    for (number, promise) in promises(page) {
        if tests(promise).next().is_none() && !promise.contains("not held yet") {
            found.push(format!(
                "promise {number} names no test and is not called \"not held yet\""
            ));
        }
        for (path, function) in tests(promise) {
            let file = sources.iter().find(|source| source.path == path);
            let head = format!("fn {function}(");
            if !file.is_some_and(|file| file.text.contains(&head)) {
                found.push(format!("promise {number}: there is no {path}::{function}"));
            }
        }
    }
    found
}

#[test]
fn every_promise_names_tests_that_exist() {
    let page = sources::read("SPECIFICATION.md").text;
    assert!(promises(&page).count() >= 9, "the table is read");
    let found = violations(&page, &sources::rust());
    assert!(found.is_empty(), "SPECIFICATION.md:\n{}", found.join("\n"));
}

#[test]
fn a_promise_without_its_test_is_found() {
    let file = [ProjectFile::planted(
        "tests/a.rs",
        "#[test]\nfn it_holds() {}\n",
    )];
    let count = |row: &str| violations(row, &file).len();
    assert_eq!(count("| 1 | holds | `tests/a.rs::it_holds` |"), 0);
    assert_eq!(count("| 1 | holds | `tests/a.rs::it_held` |"), 1);
    assert_eq!(count("| 1 | holds | `tests/b.rs::it_holds` |"), 1);
    assert_eq!(count("| 1 | holds | `it_holds` |"), 1);
    assert_eq!(count("| 1 | not held yet | – |"), 0);
}
