//! Where the programs under test are: beside the test, in the folder that Cargo built both in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The programs of one installation: each finds the others beside itself.
#[derive(Debug, Clone)]
pub struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// Finds the programs that Cargo built last.
    pub fn built() -> Self {
        let test = std::env::current_exe().expect("a running program has a path");
        // target/release/deps/integration-0123 → target/release, where the benchmarks are
        let folder = test
            .ancestors()
            .skip(1)
            .find(|folder| !folder.ends_with("deps"))
            .expect("Cargo puts programs into folders")
            .to_owned();
        let binaries = Self { folder };
        for program in [
            binaries.supervisor(),
            binaries.worker(),
            binaries.imagepool(),
            binaries.fetch(),
        ] {
            assert!(
                program.is_file(),
                "{} is missing: run `cargo build --release --workspace` first",
                program.display()
            );
        }
        binaries
    }

    /// An installation in `folder` whose workers are the hostile ones, with the honest one beside them.
    pub fn with_hostile_worker(folder: &Path) -> Self {
        let built = Self::built();
        let hostile = built.folder.join("hostile-worker");
        assert!(
            hostile.is_file(),
            "{} is missing: run `cargo build --release --workspace` first",
            hostile.display()
        );
        for (from, name) in [
            (built.supervisor(), "supervisor"),
            (built.imagepool(), "imagepool"),
            (built.fetch(), "fetch"),
            (hostile, "worker"),
            (built.worker(), "honest-worker"),
        ] {
            link(&from, &folder.join(name));
        }
        Self {
            folder: folder.to_owned(),
        }
    }

    /// The library of pretended GPUs, in the same folder.
    pub fn stand_in_gpus() -> PathBuf {
        let library = Self::built().folder.join("libstand_in_gpu.so");
        assert!(
            library.is_file(),
            "{} is missing: run `cargo build --release --workspace` first",
            library.display()
        );
        library
    }

    /// An installation in `folder` where `program` starts behind a line of shell, e.g. `ulimit -f 8`.
    pub fn behind(folder: &Path, program: &str, line: &str) -> Self {
        let built = Self::built();
        for name in ["supervisor", "worker", "imagepool", "fetch"] {
            let own = match name == program {
                true => format!("{name}-itself"),
                false => name.to_owned(),
            };
            link(&built.folder.join(name), &folder.join(own));
        }
        let itself = folder.join(format!("{program}-itself"));
        let script = format!("#!/bin/sh\n{line}\nexec '{}' \"$@\"\n", itself.display());
        let path = folder.join(program);
        fs::write(&path, script).expect("our own folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
        Self {
            folder: folder.to_owned(),
        }
    }

    /// An installation in `folder` without the fetch program.
    pub fn without_fetch(folder: &Path) -> Self {
        let built = Self::built();
        for name in ["supervisor", "worker", "imagepool"] {
            link(&built.folder.join(name), &folder.join(name));
        }
        Self {
            folder: folder.to_owned(),
        }
    }

    /// The program behind `scripts/manual`, which `cargo test` builds too.
    pub fn manual() -> PathBuf {
        let program = Self::built().folder.join("examples/manual");
        assert!(
            program.is_file(),
            "{} is missing: run `cargo build --release --workspace --example manual` first",
            program.display()
        );
        program
    }

    /// The daemon.
    pub fn supervisor(&self) -> PathBuf {
        self.folder.join("supervisor")
    }

    /// The worker.
    pub fn worker(&self) -> PathBuf {
        self.folder.join("worker")
    }

    /// The command.
    pub fn imagepool(&self) -> PathBuf {
        self.folder.join("imagepool")
    }

    /// The program that fetches models.
    pub fn fetch(&self) -> PathBuf {
        self.folder.join("fetch")
    }
}

/// Programs find each other beside the path they were started by, and a link of the same file system is as
/// good as a copy.
fn link(from: &Path, to: &Path) {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).expect("a copy of a program");
    }
}
