//! The project's own files, as text.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the project.
#[derive(Debug, Clone)]
pub struct ProjectFile {
    /// From the project's root, with `/` between folders.
    pub path: String,
    /// All of it.
    pub text: String,
}

impl ProjectFile {
    /// A text that a test planted.
    pub fn planted(path: &str, text: &str) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
        }
    }

    /// The product part as numbered lines: without comments, and without the tests at the end.
    pub fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self
            .text
            .find("#[cfg(test)]\nmod ")
            .unwrap_or(self.text.len());
        (1..)
            .zip(self.text[..end].lines())
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Whether it is part of a program or library that people get.
    pub fn is_product(&self) -> bool {
        let folder = |name: &str| self.path.contains(name);
        self.path.ends_with(".rs")
            && !self.path.starts_with("tests/")
            && !folder("/tests/")
            && !folder("/benches/")
    }
}

/// The project's root.
pub fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("this package lies in the project")
        .to_owned()
}

/// Every Rust file of the project.
pub fn rust() -> Vec<ProjectFile> {
    let mut found = Vec::new();
    for folder in ["ipc-protocol", "supervisor", "worker", "tests"] {
        walk(&root().join(folder), &mut found);
    }
    assert!(found.len() > 100, "the walk found {} files", found.len());
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Every page of the project and the example of its settings.
pub fn pages() -> Vec<ProjectFile> {
    let mut found: Vec<ProjectFile> = paths()
        .into_iter()
        .filter(|path| path.ends_with(".md") || path == "imagepool.example.toml")
        .map(|path| read(&path))
        .collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The path of every file of the project, build outputs and hidden folders left out.
pub fn paths() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the project") {
            let path = entry.expect("an entry of it").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let built = name == "target" || name.starts_with('.') || path.is_symlink();
            if path.is_dir() && !built {
                folders.push(path);
            } else if path.is_file() {
                let inside = path.strip_prefix(root()).expect("below the root");
                found.push(inside.to_string_lossy().into_owned());
            }
        }
    }
    found
}

/// One file of the project.
pub fn read(path: &str) -> ProjectFile {
    let text = fs::read_to_string(root().join(path));
    ProjectFile {
        path: path.into(),
        text: text.unwrap_or_else(|error| panic!("{path}: {error}")),
    }
}

fn walk(folder: &Path, found: &mut Vec<ProjectFile>) {
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let inside = path.strip_prefix(root()).expect("below the root");
            found.push(read(&inside.to_string_lossy()));
        }
    }
}
