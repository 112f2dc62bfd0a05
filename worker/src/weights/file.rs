//! One weight file: its bytes, and the position of each tensor.

use super::entry::{Entries, TensorEntry, corrupt};
use super::{Mark, gguf, header, map, release, stand_in};
use crate::fault::WorkerFault;
use memmap2::{Advice, Mmap};
use nix::fcntl::OFlag;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

enum Bytes {
    Mapped(Mapped),
    Embedded(&'static [u8]),
}

/// A mapped file.
struct Mapped {
    map: Mmap,
    file: File,
}

/// One weight file with a checked header.
pub struct WeightFile {
    name: String,
    bytes: Bytes,
    entries: Entries,
    mark: Option<Mark>,
}

impl WeightFile {
    /// Maps a safetensors or GGUF file; the first bytes tell which.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsMissing`]; [`WorkerFault::WeightsCorrupt`] for a pickle, a git-lfs pointer or a web page, and for
    /// a header that is cut or invalid, or whose tensors overlap or lie outside the file;
    /// [`WorkerFault::Configuration`] for an unknown dtype.
    pub fn open(path: &Path) -> Result<WeightFile, WorkerFault> {
        let unread = |error| WorkerFault::reading(path, &error);
        let file = open_regular(path)?;
        let found = file.metadata().map_err(unread)?;
        let map = map(&file).map_err(unread)?;
        let mapped = Bytes::Mapped(Mapped { map, file });
        Ok(WeightFile {
            mark: Some(Mark::new(path, &found)),
            ..WeightFile::new(path.display().to_string(), mapped)?
        })
    }

    /// Reads a file that is embedded in this program; `name` is for messages.
    ///
    /// # Errors
    /// As [`WeightFile::open`].
    pub fn embedded(name: &str, bytes: &'static [u8]) -> Result<WeightFile, WorkerFault> {
        WeightFile::new(name.to_owned(), Bytes::Embedded(bytes))
    }

    fn new(name: String, bytes: Bytes) -> Result<WeightFile, WorkerFault> {
        let content: &[u8] = match &bytes {
            Bytes::Mapped(mapped) => &mapped.map,
            Bytes::Embedded(bytes) => bytes,
        };
        let entries = entries(&name, content)?;
        Ok(WeightFile {
            name,
            bytes,
            entries,
            mark: None,
        })
    }

    /// Name of the file, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The mark of the file when it was opened; `None` for an embedded file.
    pub fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref()
    }

    /// All bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(mapped) => &mapped.map,
            Bytes::Embedded(bytes) => bytes,
        }
    }

    /// Names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Tells whether the file contains a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Shape of a tensor as stored, if the file contains it.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    pub(super) fn entries(&self) -> &Entries {
        &self.entries
    }

    /// Bytes of a tensor.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsCorrupt`] if the file was changed after it was opened.
    pub(super) fn data(&self, entry: &TensorEntry) -> Result<&[u8], WorkerFault> {
        self.check_unchanged()?;
        Ok(&self.bytes()[entry.range.clone()])
    }

    /// Checks that the file was not changed after it was opened.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsCorrupt`] if it was.
    pub(super) fn check_unchanged(&self) -> Result<(), WorkerFault> {
        if let (Bytes::Mapped(mapped), Some(then)) = (&self.bytes, &self.mark) {
            let path = Path::new(&self.name);
            let now = mapped.file.metadata();
            let now = now.map_err(|error| WorkerFault::reading(path, &error))?;
            // Reading beyond a new end is a SIGBUS, and other bytes may be of another model.
            if !Mark::new(path, &now).has_content_of(then) {
                return Err(corrupt(&self.name, "was changed while it was in use"));
            }
        }
        Ok(())
    }

    /// Tells whether the bytes are those of a file, and not embedded in this program.
    pub(super) fn is_mapped(&self) -> bool {
        matches!(self.bytes, Bytes::Mapped(_))
    }

    /// Reads the bytes of a tensor into memory.
    pub(super) fn read_ahead(&self, entry: &TensorEntry) {
        if let Bytes::Mapped(mapped) = &self.bytes {
            let (start, length) = (entry.range.start, entry.range.len());
            let read = mapped.map.advise_range(Advice::PopulateRead, start, length);
            // Kernels before 5.14 refuse it, and a file that was cut; then the first use reads it or notices.
            drop(read);
        }
    }

    /// Releases the memory of a tensor's bytes; they can be read again.
    pub(super) fn release(&self, entry: &TensorEntry) {
        if let Bytes::Mapped(mapped) = &self.bytes {
            release(&mapped.map, entry.range.start, entry.range.len());
        }
    }
}

/// Reads the header of a weight file from its bytes; returns the number of tensors. `name` is for messages.
///
/// # Errors
/// As [`WeightFile::open`].
pub fn count_tensors(name: &str, content: &[u8]) -> Result<usize, WorkerFault> {
    entries(name, content).map(|entries| entries.len())
}

fn entries(name: &str, content: &[u8]) -> Result<Entries, WorkerFault> {
    if is_pickle(content) {
        let what = "is a pickle, which can run any program when it is opened; use safetensors or GGUF \
                    files";
        return Err(corrupt(name, what));
    }
    if let Some(what) = stand_in::stand_in(content) {
        return Err(corrupt(name, what));
    }
    if content.starts_with(gguf::MAGIC) {
        gguf::entries(name, content)
    } else {
        header::entries(name, content)
    }
}

/// Opens a regular file for reading. Others are refused: a pipe would wait for a writer, and a device can do
/// anything.
///
/// # Errors
/// [`WorkerFault::WeightsMissing`]; [`WorkerFault::WeightsCorrupt`] if it is not a regular file.
pub fn open_regular(path: &Path) -> Result<File, WorkerFault> {
    let unread = |error| WorkerFault::reading(path, &error);
    let mut options = File::options();
    // The flag makes opening a pipe return at once, and has no effect on a regular file.
    let options = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let file = options.open(path).map_err(unread)?;
    let kind = file.metadata().map_err(unread)?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    let name = path.display().to_string();
    Err(corrupt(
        &name,
        "is not a regular file but a folder, a pipe or a device",
    ))
}

/// Tells whether a file is a zip archive, as torch saves it, or begins like a pickle of protocol 2 or later.
fn is_pickle(bytes: &[u8]) -> bool {
    // A safetensors file starts with the length of its header and a brace, unlike both.
    let safetensors = bytes.get(8) == Some(&b'{');
    !safetensors && (bytes.starts_with(b"PK\x03\x04") || matches!(bytes, [0x80, 2..=5, ..]))
}
