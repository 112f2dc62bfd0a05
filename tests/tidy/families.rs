//! A family of weights is named in its folder and in the tables; hardly anywhere else.

use crate::sources::{self, ProjectFile};
use crate::split::{split, without_tests};

/// Folders and tables that name families, tests among the product files, and the help's examples.
const PLACES: [&str; 6] = [
    "worker/src/pipelines/families/",
    "ipc-protocol/src/family.rs",
    "supervisor/store/src/release.rs",
    "supervisor/src/cli/examples.rs",
    "worker/src/golden/mutations.rs",
    "worker/src/golden/half_mutations.rs",
];

/// Parts of names; the embedded models' keys and the family without weights are not meant.
const NAMES: [&str; 4] = ["flux", "sd3", "stablediffusion", "stable_diffusion"];

/// The public names of the library's models, and the comparison with recorded values.
const LINES_MAX: usize = 5;

fn lines(sources: &[ProjectFile]) -> Vec<String> {
    let mut found = Vec::new();
    let product = sources.iter().filter(|source| source.is_product());
    for source in
        product.filter(|source| !PLACES.iter().any(|place| source.path.starts_with(place)))
    {
        let parts = split(&source.text);
        for (number, code) in (1..).zip(without_tests(&parts.code).lines()) {
            let strings = parts.strings.iter().filter(|(line, _)| *line == number);
            let mut words = code.to_lowercase();
            if !code.trim().is_empty() {
                words.extend(strings.map(|(_, string)| string.to_lowercase()));
            }
            let words = words.replace("pocket-flux", "").replace("pocket_flux", "");
            if NAMES.iter().any(|name| words.contains(name)) {
                found.push(format!("{}:{number}: {}", source.path, code.trim()));
            }
        }
    }
    found
}

#[test]
fn a_family_is_named_in_its_folder_and_in_the_tables() {
    let found = lines(&sources::rust());
    assert!(found.len() <= LINES_MAX, "{}", found.join("\n"));
}

#[test]
fn a_line_that_names_a_family_is_found() {
    let count = |path, text: &str| lines(&[ProjectFile::planted(path, text)]).len();
    let elsewhere = "worker/src/session.rs";
    assert_eq!(count(elsewhere, "use crate::families::flux;\n"), 1);
    assert_eq!(count(elsewhere, "let key = \"sd3.5-turbo\";\n"), 1);
    assert_eq!(count(elsewhere, "// flux\nlet key = \"pocket-flux\";\n"), 0);
    assert_eq!(
        count(
            elsewhere,
            "#[cfg(test)]\nmod tests { const A: &str = \"flux\"; }\n"
        ),
        0
    );
    assert_eq!(
        count("worker/src/pipelines/families/mod.rs", "mod flux;\n"),
        0
    );
}
