//! The folder of fetched models: `KEY/VARIANT/COMMIT/`, each published in one rename.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ipc_protocol::folders;
use serde::{Deserialize, Serialize};

use crate::digest;
use crate::lock::ModelLock;
use crate::name::FileName;
use crate::release::Release;
use crate::trouble::FetchError;

/// Name of the record in a published folder.
pub const RECORD: &str = "fetched.json";
/// Suffix of a commit's folder until all its files are there.
const UNFINISHED: &str = ".part";

/// The folder of all fetched models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    root: PathBuf,
}

/// The record of a published folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchRecord {
    /// The model.
    pub key: String,
    /// The choice of files.
    pub variant: String,
    /// The requested revision: a branch, a tag or a commit.
    pub revision: String,
    /// Other revisions, requested later, with the same commit.
    #[serde(default)]
    pub also_called: Vec<String>,
    /// The commit of the revision.
    pub commit: String,
    /// All files.
    pub files: Vec<RecordedFile>,
}

/// A file of a published folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedFile {
    /// Name in the folder.
    pub name: String,
    /// Repository, `owner/name`.
    pub repository: String,
    /// Commit of that repository.
    pub commit: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256.
    pub sha256: String,
}

/// A published model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedModel {
    /// Its folder.
    pub folder: PathBuf,
    /// Its record.
    pub record: FetchRecord,
}

impl FetchRecord {
    /// Whether a revision is a name of this commit.
    pub fn is_called(&self, revision: &str) -> bool {
        let names = [&self.commit, &self.revision].into_iter();
        names.chain(&self.also_called).any(|name| name == revision)
    }

    /// The digest of the model, from the recorded digests of its weight files; reads no file.
    pub fn digest(&self) -> String {
        let weights = self.files.iter().filter(|file| {
            [".safetensors", ".gguf"]
                .iter()
                .any(|end| file.name.ends_with(end))
        });
        digest::of_model(weights.map(|file| file.sha256.as_str()))
    }

    /// Size of all files in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

impl Store {
    /// The store in a folder, which may be missing.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The default folder: `$XDG_DATA_HOME/imagepool/models`, or `~/.local/share/imagepool/models`.
    pub fn default_root() -> PathBuf {
        folders::of_user("XDG_DATA_HOME", ".local/share")
            .unwrap_or_else(|| "/var/lib".into())
            .join("imagepool/models")
    }

    /// The folder of one model, with its lock and its variants.
    pub fn model(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// The folder of a published commit.
    pub fn published(&self, key: &str, variant: &str, commit: &str) -> PathBuf {
        self.model(key).join(variant).join(commit)
    }

    /// The folder of a commit until it is published.
    pub fn unfinished(&self, key: &str, variant: &str, commit: &str) -> PathBuf {
        self.model(key)
            .join(variant)
            .join(format!("{commit}{UNFINISHED}"))
    }

    /// Finds the published model to use: the first of `variants` that has one, at `revision` if given, the one published
    /// last if there are several.
    pub fn find(
        &self,
        key: &str,
        variants: &[&str],
        revision: Option<&str>,
    ) -> Option<FetchedModel> {
        variants.iter().find_map(|variant| {
            let fits = |fetched: &FetchedModel| {
                revision.is_none_or(|revision| fetched.record.is_called(revision))
            };
            let all = self.all(key, variant).into_iter();
            all.filter(fits).max_by_key(|fetched| {
                let record = fs::metadata(fetched.folder.join(RECORD));
                record.and_then(|found| found.modified()).ok()
            })
        })
    }

    /// Finds the published model that a section of the settings selects.
    ///
    /// # Errors
    /// An unknown variant: a sentence that lists the known ones.
    pub fn wanted(
        &self,
        key: &str,
        variant: Option<&str>,
        revision: Option<&str>,
    ) -> Result<Option<FetchedModel>, String> {
        let Some(release) = Release::find(key) else {
            return Ok(None);
        };
        let names: Vec<&str> = match variant {
            Some(name) => vec![release.variant(Some(name))?.name],
            None => release
                .variants
                .iter()
                .map(|variant| variant.name)
                .collect(),
        };
        Ok(self.find(key, &names, revision))
    }

    /// All published commits of a variant.
    pub fn all(&self, key: &str, variant: &str) -> Vec<FetchedModel> {
        let entries = fs::read_dir(self.model(key).join(variant));
        let folders = entries.into_iter().flatten().flatten();
        folders
            .filter_map(|entry| read(&entry.path()))
            .filter(|fetched| fetched.record.key == key && fetched.record.variant == variant)
            .collect()
    }

    /// Bytes of a model's unfinished fetches.
    pub fn unfinished_bytes(&self, key: &str) -> u64 {
        let variants = fs::read_dir(self.model(key));
        variants
            .into_iter()
            .flatten()
            .flatten()
            .flat_map(|variant| fs::read_dir(variant.path()).into_iter().flatten().flatten())
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(UNFINISHED))
            .map(|entry| bytes_in(&entry.path()))
            .sum()
    }

    /// Publishes an unfinished folder: makes its files read-only, writes them to the disk and renames the folder.
    ///
    /// # Errors
    /// A file or folder that cannot be written.
    pub fn publish(&self, record: &FetchRecord) -> Result<PathBuf, FetchError> {
        let from = self.unfinished(&record.key, &record.variant, &record.commit);
        let to = self.published(&record.key, &record.variant, &record.commit);
        let text = serde_json::to_vec_pretty(record).map_err(io::Error::from);
        let path = from.join(RECORD);
        text.and_then(|text| fs::write(&path, text))
            .map_err(FetchError::at(&path))?;
        let names = record.files.iter().map(|file| file.name.as_str());
        for name in names.chain([RECORD]) {
            let path = from.join(name);
            seal(&path).map_err(FetchError::at(&path))?;
        }
        // A folder whose record is missing or invalid is replaced.
        if to.exists() {
            fs::remove_dir_all(&to).map_err(FetchError::at(&to))?;
        }
        fs::rename(&from, &to).map_err(FetchError::at(&to))?;
        let parent = to.parent().unwrap_or(&self.root);
        File::open(parent)
            .and_then(|folder| folder.sync_all())
            .map_err(FetchError::at(parent))?;
        Ok(to)
    }

    /// Records one more name of a published commit.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn call(&self, fetched: &FetchedModel, revision: &str) -> Result<(), FetchError> {
        if fetched.record.is_called(revision) {
            return Ok(());
        }
        let mut record = fetched.record.clone();
        record.also_called.push(revision.to_owned());
        let (path, part) = (
            fetched.folder.join(RECORD),
            fetched.folder.join("record.part"),
        );
        let text = serde_json::to_vec_pretty(&record).map_err(io::Error::from);
        text.and_then(|text| fs::write(&part, text))
            .and_then(|()| seal(&part))
            .and_then(|()| fs::rename(&part, &path))
            .map_err(FetchError::at(&path))
    }

    /// Removes all files of a model except its lock; returns the number of bytes. If a fetch of it runs, calls
    /// `waiting` and waits for its end.
    ///
    /// # Errors
    /// A folder that cannot be read or removed.
    pub fn remove(&self, key: &str, waiting: impl FnOnce()) -> Result<u64, FetchError> {
        let model = self.model(key);
        if !model.exists() {
            return Ok(0);
        }
        let _lock = ModelLock::take(&model, waiting)?;
        let mut bytes = 0;
        let entries = fs::read_dir(&model).map_err(FetchError::at(&model))?;
        let paths = entries.flatten().map(|entry| entry.path());
        for path in paths.filter(|path| path.is_dir()) {
            bytes += bytes_in(&path);
            fs::remove_dir_all(&path).map_err(FetchError::at(&path))?;
        }
        Ok(bytes)
    }
}

/// Reads a published folder; `None` if a file is missing or has another size than recorded.
fn read(folder: &Path) -> Option<FetchedModel> {
    let commit = folder.file_name()?.to_str()?;
    let text = fs::read(folder.join(RECORD)).ok()?;
    let record: FetchRecord = serde_json::from_slice(&text).ok()?;
    let whole = record.files.iter().all(|file| {
        FileName::new(&file.name).is_ok()
            && fs::metadata(folder.join(&file.name)).is_ok_and(|found| found.len() == file.bytes)
    });
    (whole && record.commit == commit).then(|| FetchedModel {
        folder: folder.to_owned(),
        record,
    })
}

fn seal(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o444))?;
    file.sync_all()
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => bytes_in(&entry.path()),
            Ok(_) => entry.metadata().map_or(0, |found| found.len()),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn record(commit: &str) -> FetchRecord {
        FetchRecord {
            also_called: Vec::new(),
            key: "k".into(),
            variant: "v".into(),
            revision: "main".into(),
            commit: commit.into(),
            files: vec![RecordedFile {
                name: "sub/a".into(),
                repository: "o/n".into(),
                commit: commit.into(),
                bytes: 3,
                sha256: String::new(),
            }],
        }
    }

    fn published(store: &Store, commit: &str) -> PathBuf {
        let folder = store.unfinished("k", "v", commit);
        fs::create_dir_all(folder.join("sub")).expect("ours");
        fs::write(folder.join("sub/a"), "abc").expect("ours");
        store.publish(&record(commit)).expect("a whole folder")
    }

    #[test]
    fn a_model_is_found_once_it_is_published_and_only_while_it_is_whole() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let store = Store::at(base.path().join("models"));
        assert_eq!(store.find("k", &["v"], None), None);
        let folder = published(&store, COMMIT);
        let found = store.find("k", &["w", "v"], None).expect("published");
        assert_eq!(
            (found.folder, found.record),
            (folder.clone(), record(COMMIT))
        );
        assert!(store.find("k", &["v"], Some("main")).is_some());
        assert!(store.find("k", &["v"], Some(COMMIT)).is_some());
        assert!(store.find("k", &["v"], Some("other")).is_none());
        fs::remove_file(folder.join("sub/a")).expect("ours");
        assert_eq!(store.find("k", &["v"], None), None);
    }

    #[test]
    fn a_commit_is_found_by_every_name_it_was_asked_for() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let store = Store::at(base.path().into());
        published(&store, COMMIT);
        let found = || store.find("k", &["v"], Some("v1.0"));
        assert_eq!(found(), None);
        let here = store.find("k", &["v"], Some("main")).expect("published");
        store.call(&here, "v1.0").expect("ours");
        let named = found().expect("it has that name now");
        assert!(named.record.is_called("main") && named.record.is_called(COMMIT));
    }

    #[test]
    fn a_model_is_not_removed_under_a_fetch() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let store = Store::at(base.path().into());
        published(&store, COMMIT);
        let fetch = ModelLock::take(&store.model("k"), || {}).expect("ours");
        let (told, waits) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let removing = scope.spawn(|| store.remove("k", move || told.send(()).expect("heard")));
            waits.recv().expect("it waits for the fetch");
            assert!(store.find("k", &["v"], None).is_some());
            drop(fetch);
            let bytes = removing.join().expect("no panic").expect("ours");
            assert!(bytes > 3);
        });
    }

    #[test]
    fn a_removed_model_leaves_its_lock() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let store = Store::at(base.path().into());
        published(&store, COMMIT);
        fs::write(store.model("k").join("lock"), "").expect("ours");
        let remove = |key| store.remove(key, || panic!("no fetch runs"));
        assert!(remove("k").expect("ours") > 3);
        assert_eq!(remove("k").expect("nothing left"), 0);
        assert_eq!(remove("never fetched").expect("nothing there"), 0);
        assert!(store.model("k").join("lock").exists());
    }
}
