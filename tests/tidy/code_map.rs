//! ARCHITECTURE.md's code map is what is on disk, and its sentences are the modules' own.

use std::collections::BTreeMap;

use crate::sources::{self, Source};

/// The entries of a map: `- `path` — sentence`.
fn entries(map: &str) -> BTreeMap<String, String> {
    map.lines()
        .filter_map(|line| line.strip_prefix("- `"))
        .filter_map(|line| line.split_once("` — "))
        .map(|(path, sentence)| (path.to_owned(), sentence.to_owned()))
        .collect()
}

/// The first sentence of a module's own description.
fn sentence(source: &Source) -> Option<String> {
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
    (!text.is_empty()).then(|| format!("{}.", &text[..end]))
}

fn violations(map: &str, sources: &[Source]) -> Vec<String> {
    let mut entries = entries(map);
    let mut found = Vec::new();
    for source in sources {
        match (entries.remove(&source.path), sentence(source)) {
            (_, None) => found.push(format!("{} does not say what it is", source.path)),
            (None, _) => found.push(format!("{} is not on the map", source.path)),
            (Some(said), Some(says)) if said != says => {
                found.push(format!("{}: the map says {said:?}", source.path));
            }
            (Some(_), Some(_)) => {}
        }
    }
    found.extend(
        entries
            .into_keys()
            .map(|path| format!("{path} is on the map only")),
    );
    found
}

#[test]
fn the_map_shows_every_module_and_nothing_else() {
    let map = sources::read("ARCHITECTURE.md").text;
    let found = violations(&map, &sources::rust());
    let how = "`scripts/code-map` writes it anew";
    assert!(found.is_empty(), "{how}:\n{}", found.join("\n"));
}

#[test]
fn a_wrong_map_is_found() {
    let module = Source::planted("a.rs", "//! Says so. And more.\n");
    let map = |line: &str| violations(line, std::slice::from_ref(&module)).len();
    assert_eq!(map("- `a.rs` — Says so."), 0);
    assert_eq!(map("- `a.rs` — Says something else."), 1);
    assert_eq!(map(""), 1);
    assert_eq!(map("- `a.rs` — Says so.\n- `b.rs` — Gone."), 1);
    assert_eq!(
        violations("", &[Source::planted("a.rs", "fn main() {}\n")]).len(),
        1
    );
}
