//! Reads the header of a GGUF file, with limits on every count and length.
//!
//! Format: `docs/gguf.md` in ggml-org/ggml, versions 2 and 3, little endian. Metadata is skipped; only the
//! tensors and the alignment are kept.

use super::entry::{self, Entries, TensorEntry, corrupt};
use super::kind::ElementKind;
use super::kind::READ;
use crate::fault::WorkerFault;

/// The first bytes of a GGUF file.
pub(super) const MAGIC: &[u8] = b"GGUF";

/// Largest number of tensors, and of key-value pairs.
const COUNT_MAX: u64 = 1 << 16;
/// Longest name of a tensor or key, in bytes.
const NAME_MAX: usize = 1 << 10;
/// Largest number of dimensions of the format.
const DIMENSIONS_MAX: u32 = 4;
const ALIGNMENT: usize = 32;
const ALIGNMENT_MAX: u32 = 1 << 16;

/// Numbers of value types in the format.
const UINT32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// A position in the file; every read is checked against its end.
struct Cursor<'a> {
    file: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn fail(&self, what: impl std::fmt::Display) -> WorkerFault {
        corrupt(
            self.file,
            format!("its header is damaged at byte {}: {what}", self.at),
        )
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], WorkerFault> {
        let rest = &self.bytes[self.at..];
        if count > rest.len() {
            return Err(self.fail(format!(
                "{count} more bytes are needed, {} are left",
                rest.len()
            )));
        }
        self.at += count;
        Ok(&rest[..count])
    }

    fn word(&mut self) -> Result<u32, WorkerFault> {
        let bytes = self.take(4)?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |word, byte| word << 8 | u32::from(*byte)))
    }

    fn long(&mut self) -> Result<u64, WorkerFault> {
        let low = u64::from(self.word()?);
        Ok(low | u64::from(self.word()?) << 32)
    }

    fn length(&mut self) -> Result<usize, WorkerFault> {
        let long = self.long()?;
        usize::try_from(long).map_err(|_| self.fail(format!("a length of {long}")))
    }

    fn count(&mut self, of: &str) -> Result<u64, WorkerFault> {
        let count = self.long()?;
        if count > COUNT_MAX {
            return Err(self.fail(format!("{count} {of}; {COUNT_MAX} are the most")));
        }
        Ok(count)
    }

    fn name(&mut self) -> Result<&'a str, WorkerFault> {
        let length = self.length()?;
        if length > NAME_MAX {
            return Err(self.fail(format!("a name of {length} bytes")));
        }
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| self.fail("a name that is not text"))
    }

    /// Skips a value. Arrays of arrays are refused, because no writer makes them.
    fn skip(&mut self, kind: u32) -> Result<(), WorkerFault> {
        if kind != ARRAY {
            return self.skip_many(kind, 1);
        }
        let (kind, count) = (self.word()?, self.length()?);
        self.skip_many(kind, count)
    }

    fn skip_many(&mut self, kind: u32, count: usize) -> Result<(), WorkerFault> {
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            STRING => {
                // Each string takes at least the bytes of its length, so a large count ends with the file.
                for _ in 0..count {
                    let length = self.length()?;
                    self.take(length)?;
                }
                return Ok(());
            }
            _ => return Err(self.fail(format!("the unknown value type {kind}"))),
        };
        let all = count.checked_mul(width);
        let all = all.ok_or_else(|| self.fail(format!("an array of {count}")))?;
        self.take(all).map(|_| ())
    }
}

/// Reads the position of each tensor in the file.
///
/// # Errors
/// [`WorkerFault::WeightsCorrupt`] for a header that is cut or exceeds a limit, or whose tensors overlap or lie outside
/// the file; [`WorkerFault::Configuration`] for an unknown type.
pub(super) fn entries(file: &str, bytes: &[u8]) -> Result<Entries, WorkerFault> {
    let mut cursor = Cursor {
        file,
        bytes,
        at: MAGIC.len(),
    };
    let version = cursor.word()?;
    if !(2..=3).contains(&version) {
        return Err(cursor.fail(format!("GGUF version {version}; 2 and 3 are read")));
    }
    let tensors = cursor.count("tensors")?;
    let alignment = alignment(&mut cursor)?;
    let mut listed = Vec::new();
    for _ in 0..tensors {
        listed.push(tensor(&mut cursor)?);
    }
    let start = cursor.at.next_multiple_of(alignment);
    for (name, entry) in &mut listed {
        let place = |offset: usize| offset.checked_add(start);
        let (Some(from), Some(to)) = (place(entry.range.start), place(entry.range.end)) else {
            return Err(corrupt(
                file,
                format!("{name} has an offset outside any file"),
            ));
        };
        if to > bytes.len() || !entry.range.start.is_multiple_of(alignment) {
            let what = format!("{name} lies at {from}..{to} of {} bytes", bytes.len());
            return Err(corrupt(file, what));
        }
        entry.range = from..to;
    }
    entry::checked(file, listed, start, alignment, bytes.len())
}

/// Skips the key-value pairs and returns the alignment.
fn alignment(cursor: &mut Cursor) -> Result<usize, WorkerFault> {
    let mut alignment = ALIGNMENT;
    for _ in 0..cursor.count("key-value pairs")? {
        let (key, kind) = (cursor.name()?, cursor.word()?);
        if key != "general.alignment" || kind != UINT32 {
            cursor.skip(kind)?;
            continue;
        }
        let value = cursor.word()?;
        if !value.is_power_of_two() || value > ALIGNMENT_MAX {
            return Err(cursor.fail(format!("an alignment of {value}")));
        }
        alignment = value as usize;
    }
    Ok(alignment)
}

/// Reads one tensor; its range is relative to the start of the data.
fn tensor(cursor: &mut Cursor) -> Result<(String, TensorEntry), WorkerFault> {
    let name = cursor.name()?.to_owned();
    let dimensions = cursor.word()?;
    if dimensions > DIMENSIONS_MAX {
        return Err(cursor.fail(format!("{name} has {dimensions} dimensions")));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(cursor.length()?);
    }
    shape.reverse(); // the file lists the innermost dimension first
    let number = cursor.word()?;
    let kind = ElementKind::of_ggml(number).ok_or_else(|| {
        let what = format!("has the unknown type {number}; {READ}");
        WorkerFault::configuration(cursor.file, &name, what)
    })?;
    let offset = cursor.length()?;
    let end = kind
        .bytes(&shape)
        .and_then(|bytes| offset.checked_add(bytes));
    let end = end.ok_or_else(|| cursor.fail(format!("{name} cannot be {kind} {shape:?}")))?;
    let entry = TensorEntry {
        kind,
        shape,
        range: offset..end,
    };
    Ok((name, entry))
}
