//! Where the programs under test are: beside the test, in the folder that Cargo built both in.

use std::path::{Path, PathBuf};

/// The programs of one installation: each finds the others beside itself.
#[derive(Debug, Clone)]
pub struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// What Cargo built last.
    pub fn built() -> Self {
        let test = std::env::current_exe().expect("a running program has a path");
        // target/release/deps/integration-0123 → target/release
        let folder = test
            .ancestors()
            .nth(2)
            .expect("Cargo puts tests two folders deep")
            .to_owned();
        let binaries = Self { folder };
        for program in [
            binaries.supervisor(),
            binaries.worker(),
            binaries.imagepool(),
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
            (hostile, "worker"),
            (built.worker(), "honest-worker"),
        ] {
            // Programs find each other beside the path they were started by, and a link of the same
            // file system is as good as a copy.
            let to = folder.join(name);
            if std::fs::hard_link(&from, &to).is_err() {
                std::fs::copy(&from, &to).expect("a copy of a program");
            }
        }
        Self {
            folder: folder.to_owned(),
        }
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
}
