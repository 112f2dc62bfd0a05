//! A temporary folder that daemons and commands run in.
//!
//! It holds their home, runtime folder, pictures and settings. Processes started in it can be found again.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::binaries::Binaries;
use crate::imagepool;
use crate::program::{self, Call, ProgramOutput};

/// A temporary home, runtime folder, picture folder and settings file. Removed when dropped.
#[derive(Debug)]
pub struct Sandbox {
    folder: TempDir,
    binaries: Binaries,
}

impl Sandbox {
    /// A sandbox with the programs as built, and these settings.
    pub fn new(settings: &str) -> Self {
        Self::furnish(settings, |_| Binaries::built())
    }

    /// A sandbox whose workers misbehave where their model tells them to.
    pub fn with_hostile_worker(settings: &str) -> Self {
        Self::furnish(settings, Binaries::with_hostile_worker)
    }

    /// A sandbox where `program` starts behind a line of shell, e.g. `ulimit -f 8`.
    pub fn behind(program: &str, line: &str, settings: &str) -> Self {
        Self::furnish(settings, |folder| Binaries::behind(folder, program, line))
    }

    fn furnish(settings: &str, binaries: impl FnOnce(&Path) -> Binaries) -> Self {
        // Beside the programs, so that they can be linked; short, because sockets' paths are bounded.
        let folder = tempfile::Builder::new()
            .prefix("imagepool-test-")
            .tempdir()
            .expect("a temporary folder");
        for name in ["home", "run", "pictures", "bin"] {
            fs::create_dir(folder.path().join(name)).expect("our own folder");
        }
        fs::write(folder.path().join("settings.toml"), settings).expect("our own folder");
        let binaries = binaries(&folder.path().join("bin"));
        Self { folder, binaries }
    }

    /// The programs of this sandbox.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The whole environment of everything that is started here. `TMPDIR` is nobody else's, and workers
    /// inherit it: that is how processes of this sandbox are found.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("HOME", self.home().into()),
            ("TMPDIR", self.home().into()),
            ("XDG_RUNTIME_DIR", self.folder.path().join("run").into()),
            ("IMAGEPOOL_CONFIG", self.settings().into()),
            ("PATH", "/usr/bin:/bin".into()),
            // What a service's environment may hold and no worker may see.
            ("HF_TOKEN", "hf_secret".into()),
        ]
    }

    /// The folder that `HOME` names here.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The settings file.
    pub fn settings(&self) -> PathBuf {
        self.folder.path().join("settings.toml")
    }

    /// The runtime folder that daemons and private pools here use.
    pub fn runtime_dir(&self) -> PathBuf {
        self.folder.path().join("run/imagepool")
    }

    /// The socket of a daemon here.
    pub fn socket(&self) -> PathBuf {
        self.runtime_dir().join("pool.sock")
    }

    /// The file for a daemon's record.
    pub fn record(&self) -> PathBuf {
        self.folder.path().join("record.jsonl")
    }

    /// Where commands run and write.
    pub fn pictures(&self) -> PathBuf {
        self.folder.path().join("pictures")
    }

    /// Runs `imagepool` here and waits for its end.
    pub fn imagepool(&self, arguments: &[&str]) -> ProgramOutput {
        self.imagepool_begun(arguments).output()
    }

    /// Runs `imagepool` here as another user, which only root can.
    pub fn imagepool_as(&self, uid: u32, gid: u32, arguments: &[&str]) -> ProgramOutput {
        let command = program::as_user(imagepool::command(self, arguments), uid, gid);
        Call::start(command).output()
    }

    /// Lets other users in, as far as the runtime folder lets them, and write pictures.
    pub fn open(&self) {
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own folder");
        };
        mode(self.folder.path(), 0o755);
        mode(&self.pictures(), 0o777);
    }

    /// Starts `imagepool` here.
    pub fn imagepool_begun(&self, arguments: &[&str]) -> Call {
        Call::start(imagepool::command(self, arguments))
    }
}
