//! The words of messages, pages and first sentences: those that CONTRIBUTING.md rules out are not used.

use crate::sources::{self, ProjectFile};
use crate::split::split;

/// A phrase that is not used, and what to write.
struct Phrase {
    words: &'static str,
    /// Words before or after it with which it is plain English.
    unless: &'static [&'static str],
    instead: &'static str,
}

const fn phrase(words: &'static str, instead: &'static str) -> Phrase {
    but(words, &[], instead)
}

const fn but(
    words: &'static str,
    unless: &'static [&'static str],
    instead: &'static str,
) -> Phrase {
    Phrase {
        words,
        unless,
        instead,
    }
}

const NAMED: &str = "client, caller, operator, worker, user";
const REPORTED: &str = "who reports, prints or returns it";
/// "There is no socket" and "is no longer than" are plain.
const THERE: &[&str] = &[
    "there is no",
    "there are no",
    "is no longer",
    "are no longer",
    "is no larger",
    "is no further",
];

const PHRASES: [Phrase; 29] = [
    phrase("nobody", NAMED),
    phrase("somebody", NAMED),
    phrase("anybody", NAMED),
    phrase("everybody", NAMED),
    phrase("whoever", NAMED),
    phrase("whomever", NAMED),
    but("is none", &["there is none"], "is missing, is not a …"),
    phrase("are none", "are missing"),
    but("is no", THERE, "is not a …, invalid"),
    but("are no", THERE, "are not …, invalid"),
    phrase("so many", "the setting's name"),
    phrase("as may", "at most N"),
    phrase("goes on from", "resumes from"),
    phrase("go on from", "resume from"),
    phrase("gone on from", "resumed from"),
    phrase("going on from", "resuming from"),
    phrase("went on from", "resumed from"),
    phrase("borne", "accepted, allowed"),
    phrase("for ever", "without end, without a limit"),
    phrase("is said", REPORTED),
    phrase("are said", REPORTED),
    phrase("was said", REPORTED),
    phrase("be said", REPORTED),
    but("is told", &["is told apart"], REPORTED),
    but("are told", &["are told apart"], REPORTED),
    phrase("was told", REPORTED),
    but("be told", &["be told apart"], REPORTED),
    phrase("is heard", "arrives, is read"),
    phrase("that may go", "evictable"),
];

/// First words of a sentence that names a thing by a clause instead of a noun.
const HEADLESS: [&str; 5] = ["what", "who", "whose", "whom", "which"];

/// Lower-case words with one blank between, and one at each end; names in backticks and values in braces are left out.
fn words(text: &str) -> String {
    let prose: Vec<&str> = text.split('`').step_by(2).collect();
    let prose = prose.join(" name ");
    let values = prose
        .split('{')
        .map(|part| part.rsplit('}').next().unwrap_or(part));
    let prose = values.collect::<Vec<_>>().join(" value ");
    let words = prose
        .split(|c: char| !(c.is_alphanumeric() || c == '\''))
        .filter(|word| !word.is_empty());
    let mut line = String::from(" ");
    for word in words {
        line.push_str(&word.to_lowercase());
        line.push(' ');
    }
    line
}

/// Returns the faults of a text.
fn faults(text: &str) -> impl Iterator<Item = String> {
    let text = words(text);
    PHRASES.iter().filter_map(move |phrase| {
        let mut plain = text.clone();
        for allowed in phrase.unless {
            plain = plain.replace(&format!(" {allowed} "), " ");
        }
        plain
            .contains(&format!(" {} ", phrase.words))
            .then(|| format!("{:?}: write {}", phrase.words, phrase.instead))
    })
}

/// The first sentences of a file's doc comments, with their lines.
fn first_sentences(source: &ProjectFile) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut paragraph: Option<(usize, String)> = None;
    let mut inside = false;
    for (number, line) in (1..).zip(source.text.lines()) {
        let doc = ["//!", "///"]
            .iter()
            .find_map(|slashes| line.trim_start().strip_prefix(slashes))
            .filter(|rest| !rest.starts_with('/'));
        match (doc.map(str::trim), &mut paragraph) {
            (Some(text), None) if !inside && !text.is_empty() => {
                paragraph = Some((number, text.to_owned()));
            }
            (Some(text), Some((_, so_far))) if !text.is_empty() => {
                so_far.push(' ');
                so_far.push_str(text);
            }
            _ => found.extend(paragraph.take()),
        }
        inside = doc.is_some();
    }
    found.extend(paragraph);
    for (_, text) in &mut found {
        let end = text.find(". ").unwrap_or(text.len());
        text.truncate(end);
    }
    found
}

/// The paragraphs of a page, with their first lines.
fn paragraphs(page: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut inside = false;
    for (number, line) in (1..).zip(page.lines()) {
        let line = line.trim_start_matches('#').trim();
        match found.last_mut().filter(|_| inside) {
            Some((_, text)) => text.extend([" ", line]),
            None => found.push((number, line.to_owned())),
        }
        inside = !line.is_empty();
    }
    found
}

/// The names of a file's tests, with their lines.
fn test_names(source: &ProjectFile) -> Vec<(usize, String)> {
    let lines: Vec<&str> = source.text.lines().collect();
    (1..)
        .zip(lines.windows(2))
        .filter(|(_, pair)| pair[0].trim().starts_with("#[test]"))
        .filter_map(|(number, pair)| {
            let name = pair[1].trim().strip_prefix("fn ")?.split('(').next()?;
            Some((number + 1, name.replace('_', " ")))
        })
        .collect()
}

fn violations(sources: &[ProjectFile]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| source.path != file!()) {
        let at = |line: usize, fault: String| format!("{}:{line}: {fault}", source.path);
        if !source.path.ends_with(".rs") {
            for (line, text) in paragraphs(&source.text) {
                found.extend(faults(&text).map(|fault| at(line, fault)));
            }
            continue;
        }
        let sentences = first_sentences(source);
        for (line, text) in &sentences {
            let first = words(text).split_whitespace().next().map(str::to_owned);
            if let Some(first) = first.filter(|first| HEADLESS.contains(&first.as_str())) {
                let fault = format!("the first sentence begins with {first:?}: name the noun");
                found.push(at(*line, fault));
            }
        }
        let messages = split(&source.text).strings;
        let messages = messages
            .into_iter()
            .filter(|(_, text)| source.is_product() && text.contains(' '));
        for (line, text) in sentences
            .into_iter()
            .chain(test_names(source))
            .chain(messages)
        {
            found.extend(faults(&text).map(|fault| at(line, fault)));
        }
    }
    found
}

#[test]
fn messages_pages_and_first_sentences_use_plain_words() {
    let mut all = sources::rust();
    all.extend(sources::pages());
    let found = violations(&all);
    assert!(
        found.is_empty(),
        "{} places:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn a_word_that_is_ruled_out_is_found() {
    let count = |path: &str, text: &str| violations(&[ProjectFile::planted(path, text)]).len();
    for phrase in &PHRASES {
        let words = phrase.words;
        let message = format!("let m = \"value {words} value\";\n");
        assert_eq!(count("worker/src/x.rs", &message), 1, "{words}");
        assert_eq!(count("README.md", &format!("A {words} b.\n")), 1, "{words}");
    }
    let product = "worker/src/x.rs";
    assert_eq!(count(product, "let m = \"is {said} here\";\n"), 0);
    assert_eq!(count(product, "/// What it holds.\nstruct A;\n"), 1);
    assert_eq!(
        count(product, "/// Holds it. Nobody knows.\nstruct A;\n"),
        0
    );
    assert_eq!(count(product, "/// Told\n/// to nobody.\nstruct A;\n"), 1);
    assert_eq!(count(product, "#[test]\nfn nobody_waits() {}\n"), 1);
    assert_eq!(
        count(product, "// nobody\nlet m = \"there is no socket\";\n"),
        0
    );
    assert_eq!(count("tests/x.rs", "let m = \"nobody waits\";\n"), 0);
}
