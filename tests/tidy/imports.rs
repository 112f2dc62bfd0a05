//! The imports of files: no circles in product code, and inside the mind only downwards.
//!
//! A path leads to the file that defines what it names: re-exports (`pub use`) are followed and are no
//! imports themselves. A file may use what the modules above it define: those are its own folder's words.

use std::collections::{BTreeMap, BTreeSet};

use crate::sources::{self, ProjectFile};
use crate::split::{split, without_tests};

const CRATES: [&str; 8] = [
    "ipc-protocol/src/",
    "supervisor/pool/src/",
    "supervisor/fetch/src/",
    "supervisor/store/src/",
    "supervisor/src/",
    "worker/src/",
    "worker/kernels/src/",
    "worker/sandbox/src/",
];
const MIND: &str = "supervisor/pool/src/";

/// Files by the files that they use.
type Graph = BTreeMap<String, BTreeSet<String>>;
type Path = Vec<String>;

/// A file of a crate, read for its imports.
struct Module {
    file: String,
    code: String,
    /// Paths of `use` and in the code.
    uses: Vec<Path>,
    /// The paths of `pub use`, by the name that each gets.
    exports: Vec<(String, Path)>,
}

impl Module {
    fn read(source: &ProjectFile) -> Self {
        let code = without_tests(&split(&source.text).code);
        let (mut uses, mut exports) = (Vec::new(), Vec::new());
        let mut rest = String::new();
        for statement in code.split_inclusive(';') {
            match use_tree(statement) {
                Some((head, tree)) => {
                    let mut paths = Vec::new();
                    leaves(tree, &[], &mut paths);
                    if is_public(head) {
                        exports.extend(paths);
                    } else {
                        uses.extend(paths.into_iter().map(|(_, path)| path));
                    }
                    rest.push_str(head.strip_suffix("use").unwrap_or(head));
                }
                None => rest.push_str(statement),
            }
        }
        uses.extend(inline_paths(&rest));
        Self {
            file: source.path.clone(),
            code,
            uses,
            exports,
        }
    }

    fn defines(&self, name: &str) -> bool {
        let kinds = [
            "fn", "struct", "enum", "trait", "type", "const", "static", "mod",
        ];
        let words: Vec<&str> = self
            .code
            .split(|c: char| !is_name(c))
            .filter(|word| !word.is_empty())
            .collect();
        words
            .windows(2)
            .any(|pair| pair[1] == name && kinds.contains(&pair[0]))
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The text of a statement up to its `use`, and the tree after it.
fn use_tree(statement: &str) -> Option<(&str, &str)> {
    let statement = statement.strip_suffix(';')?;
    let (at, _) = statement.match_indices("use ").last()?;
    let (head, tree) = (&statement[..at + 3], &statement[at + 4..]);
    let of_a_path = |c: char| is_name(c) || c.is_whitespace() || "{}:,*".contains(c);
    let is_word = !statement[..at].ends_with(is_name);
    (is_word && tree.chars().all(of_a_path)).then_some((head, tree))
}

fn is_public(head: &str) -> bool {
    let before = head.trim_end_matches("use").trim_end();
    let line = before.lines().next_back().unwrap_or_default();
    line.trim_start().starts_with("pub")
}

/// Every path of a tree, with the name that it gets.
fn leaves(tree: &str, head: &[String], found: &mut Vec<(String, Path)>) {
    let tree = tree.trim();
    let named = |text: &str| -> Path {
        let parts = text.split("::").map(str::trim);
        parts
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let Some((before, inside)) = tree.split_once('{') else {
        let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
        let mut path = [head, &named(path)].concat();
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let name = match alias.trim() {
            "" => path.last().cloned().unwrap_or_default(),
            alias => alias.to_owned(),
        };
        found.push((name, path));
        return;
    };
    let head = [head, &named(before)].concat();
    let inside = inside.trim_end();
    let inside = inside.strip_suffix('}').unwrap_or(inside);
    let (mut depth, mut begin) = (0, 0);
    for (at, sign) in inside.char_indices().chain([(inside.len(), ',')]) {
        match sign {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inside[begin..at].trim().is_empty() {
                    leaves(&inside[begin..at], &head, found);
                }
                begin = at + 1;
            }
            _ => {}
        }
    }
}

/// Paths with `::` in code.
fn inline_paths(code: &str) -> Vec<Path> {
    code.split(|c: char| !is_name(c) && c != ':')
        .map(|word| word.split("::").map(str::to_owned).collect::<Path>())
        .filter(|path| path.len() > 1 && !path[0].is_empty() && !path[0].contains(':'))
        .collect()
}

/// The module that a file is, below its crate's root.
fn module_of(inside: &str) -> Path {
    let stem = inside.trim_end_matches(".rs");
    let mut parts: Path = stem.split('/').map(str::to_owned).collect();
    if parts
        .last()
        .is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main"))
    {
        parts.pop();
    }
    parts
}

/// The names of the modules of a file that are compiled for tests only.
fn test_modules(code: &str) -> impl Iterator<Item = String> {
    code.split("#[cfg(test)]").skip(1).filter_map(|item| {
        let (head, _) = item.split_once(';')?;
        head.trim().strip_prefix("mod ").map(str::to_owned)
    })
}

/// The modules of one crate.
struct Crate(BTreeMap<Path, Module>);

impl Crate {
    fn read(sources: &[ProjectFile], root: &str) -> Self {
        let mut modules = BTreeMap::new();
        let mut for_tests = BTreeSet::new();
        for source in sources.iter().filter(|source| source.is_product()) {
            if let Some(inside) = source.path.strip_prefix(root) {
                let module = module_of(inside);
                let code = split(&source.text).code;
                for below in test_modules(&code) {
                    for_tests.insert([module.as_slice(), &[below]].concat());
                }
                modules.insert(module, Module::read(source));
            }
        }
        modules.retain(|module, _| !for_tests.contains(module));
        Self(modules)
    }

    /// The module that defines what `path`, written in `module`, names; `None` outside of the crate.
    fn resolve(&self, module: &[String], path: &[String], depth: usize) -> Option<Path> {
        let (begin, rest) = self.start(module, path)?;
        let below = |length: usize| [begin.as_slice(), &rest[..length]].concat();
        let known = |length: &usize| self.0.contains_key(&below(*length));
        let length = (0..=rest.len()).rev().find(known)?;
        let (at, rest) = (below(length), &rest[length..]);
        let [name, after @ ..] = rest else {
            return Some(at);
        };
        let here = self.0.get(&at)?;
        if depth < 8 && !here.defines(name) {
            for (exported, target) in &here.exports {
                let target = match exported.as_str() {
                    "*" => [&target[..target.len() - 1], rest].concat(),
                    exported if exported == name => [target, after].concat(),
                    _ => continue,
                };
                let found = self.resolve(&at, &target, depth + 1);
                let real = found.filter(|found| {
                    exported != "*" || self.0.get(found).is_some_and(|module| module.defines(name))
                });
                if real.is_some() {
                    return real;
                }
            }
        }
        Some(at)
    }

    /// Where a path begins, and what is left of it.
    fn start<'a>(&self, module: &[String], path: &'a [String]) -> Option<(Path, &'a [String])> {
        match path.first()?.as_str() {
            "crate" => Some((Vec::new(), &path[1..])),
            "self" => Some((module.to_vec(), &path[1..])),
            "super" => {
                let up = path.iter().take_while(|part| *part == "super").count();
                let left = module.len().checked_sub(up)?;
                Some((module[..left].to_vec(), &path[up..]))
            }
            _ => {
                let below = [module, &path[..1]].concat();
                self.0.contains_key(&below).then(|| (module.to_vec(), path))
            }
        }
    }

    fn graph(&self) -> Graph {
        let mut graph = Graph::new();
        for (module, read) in &self.0 {
            let used = read
                .uses
                .iter()
                .filter_map(|path| self.resolve(module, path, 0));
            let others = used.filter(|used| !module.starts_with(used));
            let files = others.filter_map(|used| Some(self.0.get(&used)?.file.clone()));
            graph.insert(read.file.clone(), files.collect());
        }
        graph
    }
}

/// Groups of files that reach each other.
fn circles(graph: &Graph) -> Vec<String> {
    let reach: BTreeMap<&str, BTreeSet<&str>> = graph
        .keys()
        .map(|file| (file.as_str(), reached(graph, file)))
        .collect();
    let mut groups: BTreeSet<Vec<&str>> = BTreeSet::new();
    for (file, files) in &reach {
        let back = |other: &&&str| reach.get(**other).is_some_and(|from| from.contains(file));
        let group: Vec<&str> = files.iter().filter(back).copied().collect();
        if files.contains(file) {
            groups.insert(group);
        }
    }
    groups.into_iter().map(|group| group.join(" ")).collect()
}

/// Every file that `file` uses, directly or through others.
fn reached<'a>(graph: &'a Graph, file: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&str> = graph
        .get(file)
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    while let Some(used) = next.pop() {
        if found.insert(used) {
            next.extend(graph.get(used).into_iter().flatten().map(String::as_str));
        }
    }
    found
}

/// The floors of the mind, highest first: the word after the number in each line of the section's block.
fn floors(page: &str) -> Vec<&str> {
    let is_number = |word: &&str| word.bytes().all(|byte| byte.is_ascii_digit());
    page.split("\n## Floors of the mind\n")
        .nth(1)
        .and_then(|section| section.split("```").nth(1))
        .into_iter()
        .flat_map(|block| block.lines().skip(1))
        .filter_map(|line| {
            line.split_whitespace()
                .skip_while(|word| !is_number(word))
                .nth(1)
        })
        .map(|name| name.trim_end_matches('/'))
        .collect()
}

/// Uses of a higher floor, and files without a floor.
fn upward(graph: &Graph, floors: &[&str]) -> Vec<String> {
    let floor = |file: &str| {
        let name = file.strip_prefix(MIND)?.split(['/', '.']).next()?;
        floors.iter().position(|floor| *floor == name)
    };
    let mut found = Vec::new();
    for (file, uses) in graph.iter().filter(|(file, _)| !file.ends_with("/lib.rs")) {
        let Some(own) = floor(file) else {
            found.push(format!("{file}: not on a floor of the mind"));
            continue;
        };
        let higher = uses
            .iter()
            .filter(|used| floor(used).is_some_and(|other| other < own));
        found.extend(higher.map(|used| format!("{file} uses {used}, which is above it")));
    }
    found
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let sources = sources::rust();
    let of = |root| circles(&Crate::read(&sources, root).graph());
    let found: Vec<String> = CRATES.into_iter().flat_map(of).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn inside_the_mind_no_file_uses_a_higher_floor() {
    let page = sources::read("ARCHITECTURE.md").text;
    let floors = floors(&page);
    assert!(floors.len() > 5, "the floors are read: {floors:?}");
    let graph = Crate::read(&sources::rust(), MIND).graph();
    assert!(graph.len() > 20, "the mind is read");
    let found = upward(&graph, &floors);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn circles_are_found_through_paths_trees_and_exports() {
    let plant = |files: &[(&str, &str)]| {
        let plant =
            |(path, text): &(&str, &str)| ProjectFile::planted(&format!("worker/src/{path}"), text);
        let sources: Vec<ProjectFile> = files.iter().map(plant).collect();
        circles(&Crate::read(&sources, "worker/src/").graph()).len()
    };
    let b = ("b.rs", "pub fn f() { crate::a::g() }\n");
    assert_eq!(plant(&[("a.rs", "use crate::b;\n"), b]), 1);
    assert_eq!(
        plant(&[("a.rs", "fn g() { let x = 1; super::b::f() }\n"), b]),
        1
    );
    assert_eq!(
        plant(&[("a.rs", "use crate::{c, b::{f, g as h}};\n"), b]),
        1
    );
    assert_eq!(plant(&[("a.rs", "// crate::b\nuse std::b;\n"), b]), 0);
    assert_eq!(
        plant(&[("a.rs", "#[cfg(test)]\nmod tests { use crate::b; }\n"), b]),
        0
    );
    let face = ("d/mod.rs", "mod e;\npub use e::E;\n");
    let e = ("d/e.rs", "pub struct E;\nuse crate::a;\n");
    assert_eq!(plant(&[("a.rs", "use crate::d::E;\n"), face, e]), 1);
    assert_eq!(plant(&[("a.rs", "\n"), face, e]), 0);
    let e = ("d/e.rs", "pub struct E;\nuse super::F;\n");
    let face = ("d/mod.rs", "mod e;\npub struct F;\nfn f() { e::g() }\n");
    assert_eq!(plant(&[face, e]), 0);
}

#[test]
fn a_use_of_a_higher_floor_is_found() {
    let page = "\n## Floors of the mind\n\n```text\npool  2  pool  face\n  1  steps/  changes\n  0  state/  facts\n```\n";
    let plant = |path: &str, text: &str| {
        let own = ProjectFile::planted(&format!("{MIND}{path}"), text);
        let others = ["steps/start.rs", "state/jobs.rs", "pool.rs"];
        let others = others.map(|path| ProjectFile::planted(&format!("{MIND}{path}"), "\n"));
        let sources = [others.as_slice(), &[own]].concat();
        upward(&Crate::read(&sources, MIND).graph(), &floors(page)).len()
    };
    assert_eq!(plant("steps/run.rs", "use crate::state::jobs;\n"), 0);
    assert_eq!(
        plant(
            "state/fleet.rs",
            "fn f() { crate::steps::start::start() }\n"
        ),
        1
    );
    assert_eq!(plant("steps/run.rs", "use crate::pool::Pool;\n"), 1);
    assert_eq!(plant("cellar.rs", "\n"), 1);
    assert_eq!(plant("lib.rs", "#[cfg(test)]\nmod pool;\n"), 0);
}
