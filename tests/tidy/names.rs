//! Names that say nothing, and places that only one machine has.

use crate::sources::{self, ProjectFile};

/// Words that name nothing.
const EMPTY_WORDS: [&str; 6] = [
    "utils",
    "common",
    "helpers",
    "types",
    "manager",
    "scheduler",
];

/// Beginnings of paths that exist on one machine only.
const PLACES: [&str; 4] = ["/home/", "/root/", "/opt/", "/Users/"];

fn empty_names(sources: &[ProjectFile]) -> Vec<String> {
    let named = |path: &str, word: &str| path.split(['/', '_', '.', '-']).any(|part| part == word);
    let mut found = Vec::new();
    for source in sources {
        for word in EMPTY_WORDS {
            let singular = word.trim_end_matches('s');
            if named(&source.path, word) || named(&source.path, singular) {
                found.push(format!("{}: {word}", source.path));
            }
            let declared = |line: &str| {
                ["struct ", "enum ", "trait "].iter().any(|kind| {
                    line.split_once(kind).is_some_and(|(_, rest)| {
                        let name: String =
                            rest.chars().take_while(|c| c.is_alphanumeric()).collect();
                        name.to_lowercase().ends_with(singular) && word != "types"
                    })
                })
            };
            let own = source.path == "tests/tidy/names.rs"; // It plants one to find.
            let lines = source
                .product_lines()
                .filter(|(_, line)| !own && declared(line));
            for (number, line) in lines {
                found.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    found
}

fn places(sources: &[ProjectFile]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources
        .iter()
        .filter(|source| source.path != "tests/tidy/names.rs")
    {
        for (number, line) in (1..).zip(source.text.lines()) {
            if PLACES.iter().any(|place| line.contains(place)) {
                found.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    found
}

#[test]
fn no_file_or_type_has_a_name_that_says_nothing() {
    let found = empty_names(&sources::rust());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn nothing_names_a_place_that_only_one_machine_has() {
    let mut all = sources::rust();
    for page in ["README.md", "ARCHITECTURE.md", "imagepool.example.toml"] {
        all.push(sources::read(page));
    }
    let found = places(&all);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn an_empty_name_and_a_machines_place_are_found() {
    let file = ProjectFile::planted("supervisor/src/utils.rs", "\n");
    let name = ProjectFile::planted("worker/src/x.rs", "pub struct MemoryManager;\n");
    let place = ProjectFile::planted("worker/src/x.rs", "let p = \"/home/me/model\";\n");
    assert_eq!(empty_names(&[file]).len(), 1);
    assert_eq!(empty_names(&[name]).len(), 1);
    assert_eq!(places(&[place]).len(), 1);
}
