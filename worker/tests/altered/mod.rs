//! A copy of a model's folder with changes in one file.

use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A copy of a model's folder, to be changed.
pub(crate) struct Altered {
    folder: TempDir,
}

impl Altered {
    /// Copies a folder and its subfolders.
    pub(crate) fn copy_of(model: &Path) -> Altered {
        let folder = tempfile::tempdir().expect("a temporary folder");
        copy(model, folder.path());
        Altered { folder }
    }

    /// Path of the copy.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Path of a file in the copy.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Replaces text in a text file.
    #[allow(dead_code, reason = "not every test program alters text")]
    pub(crate) fn replace(&self, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.file(name)).expect("a text file");
        assert!(text.contains(from), "{name} does not say {from}");
        std::fs::write(self.file(name), text.replacen(from, to, 1)).expect("a writable copy");
    }

    /// Calls `change` with the stored bytes of one tensor.
    #[allow(dead_code, reason = "not every test program alters tensors")]
    pub(crate) fn tensor(&self, name: &str, tensor: &str, change: impl Fn(&mut [u8])) {
        let path = self.file(name);
        let mut bytes = std::fs::read(&path).expect("a weight file");
        let (header, metadata) =
            safetensors::SafeTensors::read_metadata(&bytes).expect("a good header");
        let info = metadata.info(tensor).expect("a tensor of the file");
        let (start, end) = (
            info.data_offsets.0 + 8 + header,
            info.data_offsets.1 + 8 + header,
        );
        change(&mut bytes[start..end]);
        std::fs::write(&path, bytes).expect("a writable copy");
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a readable folder") {
        let entry = entry.expect("a readable entry").path();
        let target = to.join(entry.file_name().expect("an entry has a name"));
        if entry.is_dir() {
            std::fs::create_dir(&target).expect("a writable copy");
            copy(&entry, &target);
        } else {
            std::fs::copy(&entry, &target).expect("a writable copy");
        }
    }
}
