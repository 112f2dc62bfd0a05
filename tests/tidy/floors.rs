//! Imports point down. The floors are those of ARCHITECTURE.md.

use crate::sources::{self, ProjectFile};

/// Modules of a library by floor; who is not here is a violation by itself.
const SUPERVISOR: &[(&str, u8)] = &[
    ("daemon", 5),
    ("text_to_image", 5),
    ("api", 4),
    ("cli", 4),
    ("driver", 3),
    ("catalogue", 2),
    ("process", 1),
    ("record", 1),
    ("obituaries", 1),
    ("journal", 1),
    ("picture", 1),
    ("link", 1),
    ("probe", 1),
    ("config", 1),
    ("telemetry", 1),
    ("clock", 0),
    ("allowance", 0),
    ("frames", 0),
    ("cgroup", 0),
    ("line_ring", 0),
];

const WORKER: &[(&str, u8)] = &[
    ("session", 3),
    ("job", 2),
    ("golden", 2),
    ("manifest", 2),
    ("pipelines", 1),
    ("sampling", 0),
    ("device", 0),
    ("weights", 0),
    ("pixels", 0),
    ("cancel", 0),
    ("leash", 0),
    ("footprint", 0),
    ("work", 0),
    ("own_file", 0),
    ("panics", 0),
    ("fault", 0),
];

/// Modules that every module above and beside them may use.
const SHARED: &[&str] = &["config", "telemetry", "fault", "device", "own_file"];

fn violations(sources: &[ProjectFile], package: &str, floors: &[(&str, u8)]) -> Vec<String> {
    let floor_of = |module: &str| {
        floors
            .iter()
            .find(|(name, _)| *name == module)
            .map(|(_, floor)| *floor)
    };
    let mut found = Vec::new();
    for source in sources {
        let Some(inside) = source.path.strip_prefix(package) else {
            continue;
        };
        let module = inside.split(['/', '.']).next().unwrap_or_default();
        if matches!(module, "main" | "bin" | "lib") {
            continue;
        }
        let Some(floor) = floor_of(module) else {
            found.push(format!("{}: {module} has no floor", source.path));
            continue;
        };
        for (number, line) in source.product_lines() {
            for other in imports(line).filter(|other| *other != module) {
                let allowed = match floor_of(other) {
                    None => true, // A name of the library's root, or a macro.
                    Some(below) => below < floor || (below == floor && SHARED.contains(&other)),
                };
                if !allowed {
                    let at = format!("{}:{number}", source.path);
                    found.push(format!("{at}: {module} (floor {floor}) imports {other}"));
                }
            }
        }
    }
    found
}

/// The modules that a line names as `crate::module`.
fn imports(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let name = &rest[..end.unwrap_or(rest.len())];
        (!name.is_empty()).then_some(name)
    })
}

#[test]
fn the_supervisors_imports_point_down() {
    let found = violations(&sources::rust(), "supervisor/src/", SUPERVISOR);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_workers_imports_point_down() {
    let found = violations(&sources::rust(), "worker/src/", WORKER);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn an_import_that_points_up_or_aside_is_found() {
    let up = ProjectFile::planted(
        "supervisor/src/process/x.rs",
        "use crate::driver::Driver;\n",
    );
    let aside = ProjectFile::planted("supervisor/src/link.rs", "use crate::process::spawn;\n");
    let nowhere = ProjectFile::planted("supervisor/src/cellar.rs", "\n");
    let down = ProjectFile::planted("supervisor/src/cli/x.rs", "use crate::config::paths;\n");
    for wrong in [up, aside, nowhere] {
        assert_eq!(violations(&[wrong], "supervisor/src/", SUPERVISOR).len(), 1);
    }
    assert!(violations(&[down], "supervisor/src/", SUPERVISOR).is_empty());
}

#[test]
fn the_mind_depends_on_words_alone() {
    let manifest = sources::read("supervisor/pool/Cargo.toml").text;
    let dependencies: Vec<&str> = manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.trim().is_empty())
        .collect();
    assert_eq!(dependencies, ["ipc-protocol.workspace = true"]);
}
