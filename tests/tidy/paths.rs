//! Every path that code or a page cites exists.

use std::collections::BTreeSet;

use crate::sources::{self, ProjectFile};
use crate::split::split;

/// Folders of the project in which a cited path may begin.
const TOPS: [&str; 5] = [
    "supervisor/",
    "worker/",
    "ipc-protocol/",
    "tests/",
    "scripts/",
];

/// Endings of files that only this project has, wherever they are cited.
const ENDINGS: [&str; 2] = [".rs", ".md"];

/// Other projects whose files are cited: a paragraph that names one may name files of theirs.
const SOURCES: [&str; 7] = [
    "black-forest-labs/",
    "Stability-AI/",
    "huggingface/",
    "openai/",
    "ggml",
    "candle-core-",
    "transformers",
];

/// The paths that a text cites: file names of ours, and what begins in one of our folders.
fn cited(text: &str) -> Vec<&str> {
    let outside = |c: char| !(c.is_alphanumeric() || "_-./:".contains(c));
    text.split(outside)
        .filter(|word| !word.contains("//")) // an address
        .map(|word| word.split("::").next().unwrap_or_default())
        .map(|word| word.split(":").next().unwrap_or_default())
        .map(|word| word.trim_end_matches('.').trim_start_matches("../"))
        .filter(|word| {
            let ours = |top: &&str| word.starts_with(*top) && word.len() > top.len();
            let named = |ending: &&str| word.ends_with(*ending) && word.len() > ending.len();
            TOPS.iter().any(ours) || ENDINGS.iter().any(named)
        })
        .filter(|word| !word.split('/').any(placeholder))
        .collect()
}

/// A name or a half of one in capitals stands for any name; pages such as this project's are names.
fn placeholder(part: &str) -> bool {
    let capitals =
        |half: &str| half.len() > 1 && half.chars().all(|c| c.is_uppercase() || c == '_');
    !part.ends_with(".md") && part.split(['-', '.']).any(capitals)
}

/// Every file and folder of the project, as each end of its path.
fn ends(paths: &[String]) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for path in paths {
        let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        for whole in folders.chain([path.as_str()]) {
            found.insert(whole);
            found.extend(whole.match_indices('/').map(|(at, _)| &whole[at + 1..]));
        }
    }
    found
}

fn violations(sources: &[ProjectFile], paths: &[String]) -> Vec<String> {
    let ends = ends(paths);
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| source.path != file!()) {
        let lines = if source.path.ends_with(".rs") {
            split(&source.text).comments
        } else {
            (1..).zip(source.text.lines().map(str::to_owned)).collect()
        };
        for paragraph in
            lines.chunk_by(|(above, text), (below, _)| above + 1 == *below && !is_blank(text))
        {
            let names = |source: &&str| paragraph.iter().any(|(_, text)| text.contains(source));
            if SOURCES.iter().any(names) {
                continue;
            }
            for (line, text) in paragraph {
                let missing = cited(text)
                    .into_iter()
                    .filter(|path| !ends.contains(path.trim_end_matches('/')));
                found.extend(missing.map(|path| format!("{}:{line}: {path}", source.path)));
            }
        }
    }
    found
}

/// Whether a line of a page or a comment holds no words.
fn is_blank(line: &str) -> bool {
    line.trim_matches(['/', '!', ' ']).is_empty()
}

#[test]
fn a_cited_path_exists() {
    let mut all = sources::rust();
    all.extend(sources::pages());
    let found = violations(&all, &sources::paths());
    assert!(found.is_empty(), "no such path:\n{}", found.join("\n"));
}

#[test]
fn a_path_that_does_not_exist_is_found() {
    let paths = ["worker/src/job.rs".to_owned(), "README.md".to_owned()];
    let count = |path, text: &str| violations(&[ProjectFile::planted(path, text)], &paths).len();
    assert_eq!(
        count(
            "a.rs",
            "// see `worker/src/job.rs:12`, job.rs and worker/src/\n"
        ),
        0
    );
    assert_eq!(count("a.rs", "// see `worker/src/gone.rs`\n"), 1);
    assert_eq!(
        count("a.md", "notes.md, scripts/gone, README.md, DIR/x.rs\n"),
        2
    );
    assert_eq!(count("a.rs", "// `gone.rs` in openai/CLIP\n"), 0);
    assert_eq!(count("a.rs", "// openai/CLIP\n//\n// gone.rs\n"), 1);
    assert_eq!(
        count("a.rs", "let x = \"gone.rs\"; // https://a.b/gone.rs\n"),
        0
    );
}
