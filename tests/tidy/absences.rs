//! Words that product code holds in one place only, or nowhere.

use crate::sources::{self, ProjectFile};

/// A text that product code may hold only where `allowed` begins a path (`except` narrows the search).
struct Absence {
    text: &'static str,
    within: &'static str,
    allowed: &'static [&'static str],
    why: &'static str,
}

const ABSENCES: [Absence; 19] = [
    only("candle", "", &["worker/"], "inference is in the worker"),
    only(
        "hf_hub",
        "",
        &["supervisor/fetch/"],
        "one program has a network",
    ),
    only(
        "reqwest",
        "",
        &["supervisor/fetch/"],
        "one program has a network",
    ),
    only(
        "serde_json",
        "supervisor/",
        JSON,
        "JSON is for people and files",
    ),
    only(
        "tracing::",
        "supervisor/src/",
        &["supervisor/src/telemetry/"],
        "log lines and their fields are in one folder",
    ),
    only(
        "Instant::now",
        "supervisor/",
        &["supervisor/src/clock.rs"],
        "one clock",
    ),
    only(
        "SystemTime::now",
        "supervisor/",
        &["supervisor/src/clock.rs"],
        "decisions use the clock's moments; the wall clock is for lists",
    ),
    only(
        "Command::new",
        "supervisor/",
        &["supervisor/src/process/spawn.rs"],
        "one spawner",
    ),
    only("Command::new", "worker/", &[], "workers start nothing"),
    only(
        "encode_to_vec",
        "",
        &["ipc-protocol/src/codec.rs"],
        "one codec (its derives may stand anywhere)",
    ),
    only(
        "decode_from_slice",
        "",
        &["ipc-protocol/src/codec.rs"],
        "one codec",
    ),
    only(
        "shared_memory::",
        "",
        &["ipc-protocol/src/segment/named.rs"],
        "one back end with names",
    ),
    only(".unwrap()", "", &[], "an expect states its invariant"),
    only(
        "unsafe {",
        "",
        &["worker/src/weights"],
        "the map of weight files",
    ),
    only("unsafe fn", "", &[], "no unsafe interfaces"),
    only(
        "use worker::",
        "supervisor/",
        &[],
        "the supervisor knows the worker's messages, not its code",
    ),
    only(
        "use supervisor::",
        "worker/",
        &[],
        "the worker does not know the supervisor",
    ),
    only("tokio", "worker/", &[], "the worker is plain threads"),
    only("tokio", "ipc-protocol/", &[], "the ground has no runtime"),
];

const JSON: &[&str] = &[
    "supervisor/src/api/",
    "supervisor/src/cli/",
    "supervisor/src/telemetry/",
    "supervisor/src/catalogue/",
    "supervisor/src/picture/",
    "supervisor/src/record/",
    "supervisor/src/obituaries/",
    "supervisor/src/journal/",
    "supervisor/src/probe/",
    "supervisor/store/",
    "supervisor/fetch/",
];

const fn only(
    text: &'static str,
    within: &'static str,
    allowed: &'static [&'static str],
    why: &'static str,
) -> Absence {
    Absence {
        text,
        within,
        allowed,
        why,
    }
}

fn violations(sources: &[ProjectFile]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| source.is_product()) {
        for rule in ABSENCES.iter().filter(|rule| rule.concerns(source)) {
            for (number, line) in source.product_lines() {
                if line.contains(rule.text) {
                    let Absence { text, why, .. } = rule;
                    found.push(format!("{}:{number}: {text}: {why}", source.path));
                }
            }
        }
    }
    found
}

impl Absence {
    fn concerns(&self, source: &ProjectFile) -> bool {
        let allowed = |place: &&str| source.path.starts_with(place);
        source.path.starts_with(self.within) && !self.allowed.iter().any(allowed)
    }
}

#[test]
fn what_must_be_absent_is_absent() {
    let found = violations(&sources::rust());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn unsafe_stands_in_at_most_two_files() {
    let all = sources::rust();
    let has_unsafe = |source: &&ProjectFile| {
        let mut lines = source.product_lines();
        lines.any(|(_, line)| line.contains("unsafe {"))
    };
    let (product, tests): (Vec<_>, Vec<_>) = all
        .iter()
        .filter(has_unsafe)
        .partition(|source| source.is_product());
    assert!(product.len() <= 2, "{product:?}");
    // A library with a C interface, the system calls of an attacker, and the text of this rule.
    let allowed = [
        "tests/stand-in-gpu/src/lib.rs",
        "tests/hostile-worker/escape/call.rs",
        "tests/tidy/absences.rs",
    ];
    for source in tests {
        assert!(allowed.contains(&source.path.as_str()), "{}", source.path);
    }
}

#[test]
fn each_absence_is_found_where_it_is_broken() {
    for rule in &ABSENCES {
        let folder = match rule.within {
            "" => "supervisor/pool/src/",
            folder => folder,
        };
        let path = format!("{}/planted.rs", folder.trim_end_matches('/'));
        let planted = ProjectFile::planted(&path, &format!("let x = {};\n", rule.text));
        assert!(
            !violations(&[planted]).is_empty(),
            "{} in {path}",
            rule.text
        );
    }
    let comment = ProjectFile::planted("supervisor/pool/src/x.rs", "// no .unwrap() here\n");
    assert!(violations(&[comment]).is_empty());
}
