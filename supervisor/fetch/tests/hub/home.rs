//! A user's home in a temporary folder, with a command and its settings.

#![expect(
    clippy::disallowed_methods,
    reason = "this file is where these tests start processes"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;
use tests::binaries::Binaries;

use crate::mirror::COMMIT;

/// The token that every command here has and none may show.
pub const TOKEN: &str = "hf_never_shown";

/// A home.
pub struct Home {
    folder: TempDir,
}

impl Home {
    /// With these lines in the `[hub]` section.
    pub fn new(endpoint: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = format!("[hub]\nendpoint = \"{endpoint}\"\n{more}\n");
        fs::write(folder.path().join("settings.toml"), settings).expect("our own folder");
        Self { folder }
    }

    /// `imagepool` with these arguments, not started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.program(&Binaries::built().imagepool(), arguments)
    }

    /// Any program in this home.
    pub fn program(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.folder.path())
            .env("IMAGEPOOL_CONFIG", self.folder.path().join("settings.toml"))
            .env("HF_TOKEN", TOKEN)
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `imagepool` to its end; nothing it says may hold the token.
    pub fn run(&self, arguments: &[&str]) -> CommandOutput {
        CommandOutput::of(
            self.command(arguments)
                .output()
                .expect("the command under test starts"),
        )
    }

    /// Starts `imagepool`.
    pub fn begin(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .spawn()
            .expect("the command under test starts")
    }

    /// Where the model is when it is whole.
    pub fn published(&self, key: &str, variant: &str) -> PathBuf {
        self.models().join(key).join(variant).join(COMMIT)
    }

    /// Where its files are until it is.
    pub fn unfinished(&self, key: &str, variant: &str) -> PathBuf {
        self.models()
            .join(key)
            .join(variant)
            .join(format!("{COMMIT}.part"))
    }

    /// Where fetched models are.
    pub fn models(&self) -> PathBuf {
        self.folder.path().join(".local/share/imagepool/models")
    }
}

/// The output of a command that ended.
#[derive(Debug)]
pub struct CommandOutput {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl CommandOutput {
    pub fn of(output: Output) -> Self {
        let said = Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        assert!(
            !said.stdout.contains(TOKEN) && !said.stderr.contains(TOKEN),
            "{said:?}"
        );
        said
    }

    /// Fails the test unless the command ended with `code`.
    #[track_caller]
    pub fn ended_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

/// The files of FLUX's original layout, small: name here → (name on the mirror, content).
pub fn flux_files() -> BTreeMap<String, Vec<u8>> {
    let sizes = [
        (
            "black-forest-labs/FLUX.1-schnell/flux1-schnell.safetensors",
            3_000_001,
        ),
        ("black-forest-labs/FLUX.1-schnell/ae.safetensors", 70_000),
        ("black-forest-labs/FLUX.1-schnell/README.md", 500),
        (
            "comfyanonymous/flux_text_encoders/clip_l.safetensors",
            40_000,
        ),
        (
            "comfyanonymous/flux_text_encoders/t5xxl_fp16.safetensors",
            50_000,
        ),
        (
            "comfyanonymous/flux_text_encoders/t5xxl_fp8_e4m3fn.safetensors",
            9_000,
        ),
    ];
    sizes
        .into_iter()
        .map(|(name, size)| (name.to_owned(), noise(size)))
        .collect()
}

/// Bytes that no fault leaves as they are.
pub fn noise(size: usize) -> Vec<u8> {
    let mut state = size as u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..size).map(|_| next()).collect()
}

/// Fails the test unless the folder holds the model's files, whole and nothing else of them.
#[track_caller]
pub fn assert_whole(folder: &Path) {
    for (path, content) in flux_files() {
        let name = path.rsplit('/').next().unwrap_or_default();
        let here = fs::read(folder.join(name)).ok();
        let wanted = ["flux1-schnell", "ae.", "clip_l.", "t5xxl_fp16."]
            .iter()
            .any(|start| name.starts_with(start));
        assert_eq!(here, wanted.then_some(content), "{name}");
    }
}
