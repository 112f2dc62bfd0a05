//! ARCHITECTURE.md's map names every folder with code, and every file says in a line what it is.

use std::collections::BTreeSet;

use crate::sources::{self, ProjectFile};

/// The longest first sentence of a file, in characters.
const LONGEST: usize = 100;

/// The folders of the map: the lines that begin with "- `folder/`".
fn folders(map: &str) -> BTreeSet<&str> {
    map.lines()
        .filter_map(|line| line.strip_prefix("- `")?.split_once('`'))
        .filter_map(|(path, _)| path.strip_suffix('/'))
        .collect()
}

/// The first sentence of a file's own description.
fn sentence(source: &ProjectFile) -> Option<String> {
    let paragraph: Vec<&str> = source
        .text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let text = paragraph.join(" ");
    let end = text
        .find(". ")
        .map_or(text.trim_end_matches('.').len(), |at| at);
    (!text.is_empty()).then(|| text[..end].to_owned())
}

fn unmapped(map: &str, sources: &[ProjectFile]) -> Vec<String> {
    let mapped = folders(map);
    let on_disk: BTreeSet<&str> = sources
        .iter()
        .filter_map(|source| source.path.rsplit_once('/'))
        .map(|(folder, _)| folder)
        .collect();
    let missing = on_disk.difference(&mapped);
    let gone = mapped.difference(&on_disk);
    missing
        .map(|folder| format!("`{folder}/` is not on the map"))
        .chain(gone.map(|folder| format!("`{folder}/` is on the map and holds no code")))
        .collect()
}

fn undescribed(sources: &[ProjectFile]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        match sentence(source).map(|sentence| sentence.chars().count()) {
            None => found.push(format!("{}: no `//!` line", source.path)),
            Some(length) if length > LONGEST => {
                found.push(format!("{}: {length} characters", source.path));
            }
            Some(_) => {}
        }
    }
    found
}

#[test]
fn the_map_shows_every_folder_and_no_other() {
    let found = unmapped(&sources::read("ARCHITECTURE.md").text, &sources::rust());
    assert!(found.is_empty(), "ARCHITECTURE.md:\n{}", found.join("\n"));
}

#[test]
fn every_file_describes_itself_in_one_short_sentence() {
    let found = undescribed(&sources::rust());
    let rule = format!("the first sentence of `//!` has at most {LONGEST} characters");
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn a_wrong_map_and_a_file_without_a_sentence_are_found() {
    let file = ProjectFile::planted("a/b.rs", "//! Adds numbers. And more.\n");
    let map = |text: &str| unmapped(text, std::slice::from_ref(&file)).len();
    assert_eq!(map("- `a/`: arithmetic"), 0);
    assert_eq!(map(""), 1);
    assert_eq!(map("- `a/`: arithmetic\n- `c/`: gone"), 1);

    let described = |text: &str| undescribed(&[ProjectFile::planted("a/b.rs", text)]).len();
    assert_eq!(described("//! Adds numbers. And more.\n"), 0);
    assert_eq!(described("fn main() {}\n"), 1);
    assert_eq!(described(&format!("//! {}\n", "long ".repeat(30))), 1);
}
