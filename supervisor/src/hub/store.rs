//! Models on this machine: `KEY/VARIANT/COMMIT/`, published whole in one rename.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ipc_protocol::folders;
use serde::{Deserialize, Serialize};

use super::digest;
use super::lock::Lock;
use super::name::FileName;
use super::source::Release;
use super::trouble::FetchError;

/// The record's name in a published folder.
pub const RECORD: &str = "fetched.json";
/// What follows a commit while its files are still coming.
const UNFINISHED: &str = ".part";

/// The folder of all fetched models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    root: PathBuf,
}

/// What is known of a published folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The model.
    pub key: String,
    /// The choice of files.
    pub variant: String,
    /// What was asked for, `main` or a commit.
    pub revision: String,
    /// Other names of the same commit that were asked for later.
    #[serde(default)]
    pub also_called: Vec<String>,
    /// What that was.
    pub commit: String,
    /// Every file.
    pub files: Vec<RecordedFile>,
}

/// A file of a published folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedFile {
    /// Its name in the folder.
    pub name: String,
    /// Where it came from.
    pub repository: String,
    /// At which commit.
    pub commit: String,
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: String,
}

/// A published model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its folder.
    pub folder: PathBuf,
    /// What it holds.
    pub record: Record,
}

impl Record {
    /// Whether a name of a revision means this commit.
    pub fn is_called(&self, revision: &str) -> bool {
        let names = [&self.commit, &self.revision].into_iter();
        names.chain(&self.also_called).any(|name| name == revision)
    }

    /// The digest of the model: every weight file was checked when it came, so none needs to be read.
    pub fn digest(&self) -> String {
        let weights = self.files.iter().filter(|file| {
            [".safetensors", ".gguf"]
                .iter()
                .any(|end| file.name.ends_with(end))
        });
        digest::of_model(weights.map(|file| file.sha256.as_str()))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

impl Store {
    /// The store in a folder, which need not exist.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where a user's models are when no setting says so: `$XDG_DATA_HOME/imagepool/models`, else the same
    /// in `~/.local/share`.
    pub fn default_root() -> PathBuf {
        folders::of_user("XDG_DATA_HOME", ".local/share")
            .unwrap_or_else(|| "/var/lib".into())
            .join("imagepool/models")
    }

    /// The folder of one model, for its lock and its variants.
    pub fn model(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// Where a commit is published.
    pub fn published(&self, key: &str, variant: &str, commit: &str) -> PathBuf {
        self.model(key).join(variant).join(commit)
    }

    /// Where its files are until it is.
    pub fn unfinished(&self, key: &str, variant: &str, commit: &str) -> PathBuf {
        self.model(key)
            .join(variant)
            .join(format!("{commit}{UNFINISHED}"))
    }

    /// The published model to use: of the variant and revision where they are named, else the newest one,
    /// variants in the order of `variants`.
    pub fn find(&self, key: &str, variants: &[&str], revision: Option<&str>) -> Option<Fetched> {
        variants.iter().find_map(|variant| {
            let fits = |fetched: &Fetched| {
                revision.is_none_or(|revision| fetched.record.is_called(revision))
            };
            let all = self.all(key, variant).into_iter();
            all.filter(fits).max_by_key(|fetched| {
                let record = fs::metadata(fetched.folder.join(RECORD));
                record.and_then(|found| found.modified()).ok()
            })
        })
    }

    /// The published model that a section of the settings means.
    ///
    /// # Errors
    /// A sentence with the variants there are, when it names another.
    pub fn wanted(
        &self,
        key: &str,
        variant: Option<&str>,
        revision: Option<&str>,
    ) -> Result<Option<Fetched>, String> {
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

    /// Every published commit of a variant.
    pub fn all(&self, key: &str, variant: &str) -> Vec<Fetched> {
        let entries = fs::read_dir(self.model(key).join(variant));
        let folders = entries.into_iter().flatten().flatten();
        folders
            .filter_map(|entry| read(&entry.path()))
            .filter(|fetched| fetched.record.key == key && fetched.record.variant == variant)
            .collect()
    }

    /// Bytes of fetches of a model that have not ended.
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

    /// Makes the unfinished folder a published one: read-only files, on the disk, in one rename.
    ///
    /// # Errors
    /// The folder that cannot be written.
    pub fn publish(&self, record: &Record) -> Result<PathBuf, FetchError> {
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
        // A folder without a record, or with one that cannot be read, is none of ours to keep.
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

    /// Notes that a published commit has one more name, so that it is found by it.
    ///
    /// # Errors
    /// The record that cannot be written.
    pub fn call(&self, fetched: &Fetched, revision: &str) -> Result<(), FetchError> {
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

    /// Removes everything of a model but its lock; returns the bytes that were there. Where a fetch of it
    /// runs, calls `waiting` and waits for its end.
    ///
    /// # Errors
    /// The folder that cannot be read or removed.
    pub fn remove(&self, key: &str, waiting: impl FnOnce()) -> Result<u64, FetchError> {
        let model = self.model(key);
        if !model.exists() {
            return Ok(0);
        }
        let _lock = Lock::take(&model, waiting)?;
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

/// A published folder's record; none where the folder is not whole.
fn read(folder: &Path) -> Option<Fetched> {
    let commit = folder.file_name()?.to_str()?;
    let text = fs::read(folder.join(RECORD)).ok()?;
    let record: Record = serde_json::from_slice(&text).ok()?;
    let whole = record.files.iter().all(|file| {
        FileName::new(&file.name).is_ok()
            && fs::metadata(folder.join(&file.name)).is_ok_and(|found| found.len() == file.bytes)
    });
    (whole && record.commit == commit).then(|| Fetched {
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

    fn record(commit: &str) -> Record {
        Record {
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
        let fetch = Lock::take(&store.model("k"), || {}).expect("ours");
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
        let remove = |key| store.remove(key, || panic!("nobody fetches"));
        assert!(remove("k").expect("ours") > 3);
        assert_eq!(remove("k").expect("nothing left"), 0);
        assert_eq!(remove("never fetched").expect("nothing there"), 0);
        assert!(store.model("k").join("lock").exists());
    }
}
