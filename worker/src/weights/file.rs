//! One weight file: its bytes, and where in them each tensor lies.

use super::entry::{Entries, TensorEntry, corrupt};
use super::{Mark, foreign, gguf, header, map, release};
use crate::fault::WorkerFault;
use memmap2::Mmap;
use nix::fcntl::OFlag;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

enum Bytes {
    Mapped(Mapped),
    Embedded(&'static [u8]),
}

/// A map, and the file under it.
struct Mapped {
    map: Mmap,
    file: File,
}

/// One weight file whose header has been read and checked.
pub struct WeightFile {
    name: String,
    bytes: Bytes,
    entries: Entries,
    mark: Option<Mark>,
}

impl WeightFile {
    /// Maps a file: safetensors, or GGUF, told apart by their first bytes.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsMissing`] when it is not there; [`WorkerFault::WeightsCorrupt`] when it is a pickle, a
    /// git-lfs pointer or a web page, or its header is cut, overlaps, points outside the file or is no
    /// header at all;
    /// [`WorkerFault::Configuration`] for a dtype that nobody knows.
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

    /// Takes a file that is part of this program; `name` is for messages.
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
        if is_pickle(content) {
            let what = "is a pickle, which can run any program when it is opened; only safetensors and \
                        GGUF are read";
            return Err(corrupt(&name, what));
        }
        if let Some(what) = foreign::stand_in(content) {
            return Err(corrupt(&name, what));
        }
        let entries = if content.starts_with(gguf::MAGIC) {
            gguf::entries(&name, content)?
        } else {
            header::entries(&name, content)?
        };
        Ok(WeightFile {
            name,
            bytes,
            entries,
            mark: None,
        })
    }

    /// The file's name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the file's mark when it was opened; `None` for a part of this program.
    pub fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref()
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(mapped) => &mapped.map,
            Bytes::Embedded(bytes) => bytes,
        }
    }

    /// Names of its tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether it holds a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Shape of a tensor as stored, if the file has it.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    pub(super) fn entries(&self) -> &Entries {
        &self.entries
    }

    /// Bytes of a tensor.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsCorrupt`] when the file was changed since it was opened.
    pub(super) fn data(&self, entry: &TensorEntry) -> Result<&[u8], WorkerFault> {
        if let (Bytes::Mapped(mapped), Some(then)) = (&self.bytes, &self.mark) {
            let path = Path::new(&self.name);
            let now = mapped.file.metadata();
            let now = now.map_err(|error| WorkerFault::reading(path, &error))?;
            // Beyond a new end there is a SIGBUS, and other bytes belong to another model.
            if !Mark::new(path, &now).has_content_of(then) {
                return Err(corrupt(&self.name, "was changed while it was in use"));
            }
        }
        Ok(&self.bytes()[entry.range.clone()])
    }

    /// Says that a tensor's bytes are not needed again soon.
    pub(super) fn release(&self, entry: &TensorEntry) {
        if let Bytes::Mapped(mapped) = &self.bytes {
            release(&mapped.map, entry.range.start, entry.range.len());
        }
    }
}

/// Opens a file for reading if it is a plain one: a pipe would wait for a writer, and a device may do anything.
///
/// # Errors
/// [`WorkerFault::WeightsMissing`] when it is not there; [`WorkerFault::WeightsCorrupt`] when it is no plain file.
pub fn open_regular(path: &Path) -> Result<File, WorkerFault> {
    let unread = |error| WorkerFault::reading(path, &error);
    let mut options = File::options();
    // Opening a pipe does not wait then; a plain file does not know the flag.
    let options = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let file = options.open(path).map_err(unread)?;
    let kind = file.metadata().map_err(unread)?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    let name = path.display().to_string();
    Err(corrupt(
        &name,
        "is not a plain file but a folder, a pipe or a device",
    ))
}

/// A zip archive (what torch saves), or the first opcode of a pickle of protocol 2 or later.
fn is_pickle(bytes: &[u8]) -> bool {
    // A safetensors file starts with its header's length and a brace, which looks like neither.
    let safetensors = bytes.get(8) == Some(&b'{');
    !safetensors && (bytes.starts_with(b"PK\x03\x04") || matches!(bytes, [0x80, 2..=5, ..]))
}
