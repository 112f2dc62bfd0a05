//! A cache of inspected folders of weights, valid while their files are unchanged.
//!
//! Inspecting a folder starts a process and, for the digest, reads all bytes; checking the files' metadata takes
//! microseconds. The cache is kept in memory and in one file, which all daemons of a user share. A file that is
//! damaged, owned by another user or too large is ignored and replaced.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ipc_protocol::arithmetic::Arithmetic;
use ipc_protocol::mark::Mark;
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

use super::facts::FolderFacts;
use super::manifest::read_manifest;
use crate::telemetry;

/// Longest cache file, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Most cached folders.
const LOOKS_MAX: usize = 64;
/// Name of the cache file.
const NAME: &str = "looks.json";

/// The cached manifests, by the key that [`key`] makes. Shared by all threads.
#[derive(Debug)]
pub struct Looks {
    file: Option<PathBuf>,
    /// `None` until the first use: a slow disk must not delay the daemon's start.
    known: Mutex<Option<BTreeMap<String, String>>>,
}

/// The content of the cache file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LooksFile {
    /// Manifests as the worker program printed them, by key.
    looks: BTreeMap<String, String>,
}

impl Looks {
    /// Opens the cache in `folder`; without a folder it is kept in memory only.
    pub fn in_folder(folder: Option<&Path>) -> Self {
        Self {
            file: folder.map(|folder| folder.join(NAME)),
            known: Mutex::default(),
        }
    }

    /// Returns the cached properties if the files are unchanged.
    pub fn find(&self, what: &str) -> Option<FolderFacts> {
        let text = self.with_known(|known| known.get(what).cloned())?;
        let found = read_manifest(&text).ok()?;
        found.are_current().then_some(found)
    }

    /// Stores a manifest. If the file cannot be written, it is kept in memory only.
    pub fn keep(&self, what: &str, manifest: &str) {
        let known = self.with_known(|known| {
            if known.len() >= LOOKS_MAX && !known.contains_key(what) {
                known.pop_first();
            }
            known.insert(what.to_owned(), manifest.to_owned());
            known.clone()
        });
        let Some(file) = &self.file else {
            return;
        };
        // Another process may have added entries since.
        let mut all = read(file);
        all.extend(known);
        while all.len() > LOOKS_MAX {
            all.pop_first();
        }
        if let Err(error) = write(file, all) {
            telemetry::files::not_kept(file, &error);
        }
    }

    fn with_known<T>(&self, act: impl FnOnce(&mut BTreeMap<String, String>) -> T) -> T {
        let mut known = self.known.lock().expect("no holder of this lock can panic");
        act(known.get_or_insert_with(|| self.file.as_deref().map(read).unwrap_or_default()))
    }
}

/// The key of an inspection: the worker program, the family, the arithmetic and the folder.
pub fn key(program: &Path, folder: &Path, family: Option<&str>, arithmetic: Arithmetic) -> String {
    let program = Mark::of(program).map_or_else(String::new, |mark| {
        format!("{}.{}.{}", mark.inode, mark.bytes, mark.modified_ns)
    });
    let family = family.unwrap_or("any");
    let (dtype, encoders) = (arithmetic.dtype, arithmetic.encoders);
    format!("{program} {family} {dtype} {encoders} {}", folder.display())
}

/// Reads the cache file; empty if it is missing or invalid.
fn read(file: &Path) -> BTreeMap<String, String> {
    let kept = || -> io::Result<LooksFile> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW)
            .open(file)?;
        let found = file.metadata()?;
        let is_ours = found.uid() == Uid::effective().as_raw() && found.mode() & 0o022 == 0;
        if !found.is_file() || !is_ours || found.len() > FILE_BYTES_MAX {
            return Ok(LooksFile::default());
        }
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    };
    kept().unwrap_or_default().looks
}

/// Replaces the cache file atomically; only its owner may read it.
fn write(file: &Path, looks: BTreeMap<String, String>) -> io::Result<()> {
    let text = serde_json::to_vec(&LooksFile { looks })?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let part = folder.join(format!("{NAME}.{}", std::process::id()));
    let written = || -> io::Result<()> {
        let mut out = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&part)?;
        out.set_permissions(fs::Permissions::from_mode(0o600))?;
        out.write_all(&text)?;
        fs::rename(&part, file)
    };
    written().inspect_err(|_| {
        // Removes the incomplete file.
        let _ = fs::remove_file(&part);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(weights: &Path) -> String {
        let mark = Mark::of(weights).expect("it is there");
        serde_json::json!({
            "key": "", "family": "flux", "digest": "d", "default_size": [128, 128], "min_size": 64,
            "max_size": 256, "size_multiple": 16, "default_steps": 4, "max_steps": 64,
            "residency_mb": 30, "per_thread_mb": 0, "latents": {"channels": 16, "downscale": 8},
            "guidance": null, "sampler": "euler, linear sigmas", "draws": [], "rights": {"attribution": []},
            "activation": {"base_mb": 1, "per_megapixel_mb": 2, "per_megapixel_squared_mb": 3, "least_mb": 4},
            "on_cuda": [],
            "stamp": "s",
            "marks": [{"path": mark.path, "device": mark.device, "inode": mark.inode, "bytes": mark.bytes,
                "modified_ns": mark.modified_ns, "changed_ns": mark.changed_ns}],
        })
        .to_string()
    }

    #[test]
    fn an_inspection_is_cached_across_processes_until_the_files_change() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let weights = folder.path().join("weights");
        fs::write(&weights, "one").expect("our own folder");
        let cache = folder.path().join("cache");
        let looks = Looks::in_folder(Some(&cache));
        assert_eq!(looks.find("a"), None);
        looks.keep("a", &manifest(&weights));
        let next = Looks::in_folder(Some(&cache));
        assert_eq!(next.find("a").map(|found| found.digest), Some("d".into()));
        let mode = fs::metadata(cache.join(NAME))
            .expect("written")
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        fs::write(&weights, "other").expect("our own folder");
        assert_eq!(next.find("a"), None);
    }

    #[test]
    fn a_cache_file_that_is_damaged_or_writable_by_others_is_ignored_and_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let weights = folder.path().join("weights");
        fs::write(&weights, "one").expect("our own folder");
        let file = folder.path().join(NAME);
        for (text, mode) in [("{\"looks\": {\"a\": ", 0o600), ("{\"looks\":{}}", 0o666)] {
            fs::write(&file, text).expect("our own folder");
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("ours");
            let looks = Looks::in_folder(Some(folder.path()));
            assert_eq!(looks.find("a"), None);
            looks.keep("a", &manifest(&weights));
            assert!(Looks::in_folder(Some(folder.path())).find("a").is_some());
        }
    }

    #[test]
    fn the_number_of_cached_folders_is_bounded() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let looks = Looks::in_folder(Some(folder.path()));
        for nth in 0..LOOKS_MAX + 5 {
            looks.keep(&format!("{nth:03}"), "{}");
        }
        assert_eq!(read(&folder.path().join(NAME)).len(), LOOKS_MAX);
    }
}
