//! One type name, one meaning: no name is defined twice, but for the listed ones.

use std::collections::{BTreeMap, BTreeSet};

use crate::sources::{self, ProjectFile};
use crate::split::split;

/// Names with more than one definition, each with the reason: lines `Name: reason`.
const LISTED: &str = include_str!("type_names.txt");

/// Where each struct, enum, trait and union is defined, by name.
fn definitions(sources: &[ProjectFile]) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources {
        let code = split(&source.text).code;
        for (number, line) in (1..).zip(code.lines()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            for pair in words.windows(2) {
                let name = pair[1].split(|c: char| !c.is_alphanumeric()).next();
                let name = name.filter(|name| name.starts_with(char::is_uppercase));
                if let (["struct" | "enum" | "trait" | "union", _], Some(name)) = (pair, name) {
                    let place = format!("{}:{number}", source.path);
                    found.entry(name.to_owned()).or_default().push(place);
                }
            }
        }
    }
    found
}

/// The listed names; a line without a reason is an error.
fn listed(text: &str) -> Result<BTreeSet<&str>, String> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| match line.split_once(": ") {
            Some((name, reason)) if reason.split(' ').count() > 2 => Ok(name),
            _ => Err(format!("type_names.txt: no reason in {line:?}")),
        })
        .collect()
}

fn violations(sources: &[ProjectFile], list: &str) -> Vec<String> {
    let listed = match listed(list) {
        Ok(listed) => listed,
        Err(error) => return vec![error],
    };
    let repeated: BTreeMap<String, Vec<String>> = definitions(sources)
        .into_iter()
        .filter(|(_, places)| places.len() > 1)
        .collect();
    let unlisted = repeated
        .iter()
        .filter(|(name, _)| !listed.contains(name.as_str()))
        .map(|(name, places)| format!("{name}: {}", places.join(" ")));
    let stale = listed
        .iter()
        .filter(|name| !repeated.contains_key(**name))
        .map(|name| format!("type_names.txt: {name} is not defined twice"));
    unlisted.chain(stale).collect()
}

#[test]
fn a_type_name_is_defined_once() {
    let found = violations(&sources::rust(), LISTED);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_name_defined_twice_is_found() {
    let one = ProjectFile::planted("a.rs", "pub struct Job<T>(T);\n// struct Text\n");
    let two = ProjectFile::planted(
        "b.rs",
        "enum Job { A }\nconst S: &str = \"struct Text;\";\n",
    );
    let sources = [one, two];
    assert_eq!(violations(&sources, "").len(), 1);
    assert_eq!(violations(&sources[..1], "").len(), 0);
    assert_eq!(
        violations(&sources, "Job: each program has its own\n").len(),
        0
    );
    assert_eq!(violations(&sources, "Job:\n").len(), 1);
    assert_eq!(
        violations(&sources[..1], "Job: each program has its own\n").len(),
        1
    );
}
