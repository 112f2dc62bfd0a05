//! Weight files: safetensors, mapped from disk or inside this program.
//!
//! A [`Weights`] is one file with its header checked; a [`Section`] is the part of it below a prefix,
//! together with the device and dtype that its tensors are wanted in. Every tensor is asked for by name
//! **and shape**, so that a file that does not fit its configuration is found while loading, by name.
//!
//! Format: <https://github.com/huggingface/safetensors#format>.

mod section;

pub use section::{Meter, Section};

use crate::fault::Fault;
use candle_core::{DType, Device, Tensor};
use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype as Stored, Metadata, TensorInfo};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

/// Bytes of a file's length prefix.
const PREFIX: usize = 8;

enum Bytes {
    Mapped(Mmap),
    Embedded(&'static [u8]),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Embedded(bytes) => bytes,
        }
    }
}

/// One weight file whose header has been read and checked.
pub struct Weights {
    file: String,
    bytes: Bytes,
    header: Metadata,
    data: usize, // offset of the first tensor's bytes
    read: RefCell<BTreeSet<String>>,
}

impl Weights {
    /// Maps a file.
    ///
    /// # Errors
    /// [`Fault::WeightsMissing`] when it is not there, [`Fault::WeightsCorrupt`] when its header
    /// is cut, overlaps, points outside the file or is no safetensors header at all.
    pub fn open(path: &Path) -> Result<Weights, Fault> {
        let file = File::open(path).map_err(|error| Fault::reading(path, &error))?;
        let map = map(&file).map_err(|error| Fault::reading(path, &error))?;
        Weights::new(path.display().to_string(), Bytes::Mapped(map))
    }

    /// Takes a file that is part of this program; `file` names it in messages.
    ///
    /// # Errors
    /// [`Fault::WeightsCorrupt`], as [`Weights::open`].
    pub fn embedded(file: &str, bytes: &'static [u8]) -> Result<Weights, Fault> {
        Weights::new(file.to_owned(), Bytes::Embedded(bytes))
    }

    fn new(file: String, bytes: Bytes) -> Result<Weights, Fault> {
        let (length, header) = SafeTensors::read_metadata(bytes.as_slice()).map_err(|error| {
            Fault::WeightsCorrupt {
                file: file.clone(),
                what: error.to_string(),
            }
        })?;
        Ok(Weights {
            file,
            bytes,
            header,
            data: PREFIX + length,
            read: RefCell::default(),
        })
    }

    /// The file's name in messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// Shape of a tensor, if the file has it.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.header.info(name).map(|info| info.shape.as_slice())
    }

    /// Elements of all tensors whose name `wanted` accepts.
    pub fn elements(&self, wanted: impl Fn(&str) -> bool) -> u64 {
        let tensors = self.header.tensors();
        let chosen = tensors.iter().filter(|(name, _)| wanted(name));
        chosen
            .map(|(_, info)| info.shape.iter().product::<usize>() as u64)
            .sum()
    }

    /// Refuses tensors that nobody asked for: they mean another model than the configuration says.
    ///
    /// # Errors
    /// [`Fault::Configuration`] naming the first tensor that is neither read nor below one of the
    /// `ignored` prefixes.
    pub fn refuse_unread(&self, ignored: &[&str]) -> Result<(), Fault> {
        let read = self.read.borrow();
        let mut names = self.header.offset_keys();
        names.retain(|name| !read.contains(name) && !ignored.iter().any(|i| name.starts_with(i)));
        match names.first() {
            None => Ok(()),
            Some(name) => {
                let what = "is in the file, but the configuration has no place for it";
                Err(Fault::configuration(&self.file, name, what))
            }
        }
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, Fault> {
        let info = self.header.info(name);
        info.ok_or_else(|| Fault::configuration(&self.file, name, "is not in the file"))
    }

    fn stored(&self, info: &TensorInfo, name: &str, device: &Device) -> Result<Tensor, Fault> {
        let dtype = match info.dtype {
            Stored::F32 => DType::F32,
            Stored::F16 => DType::F16,
            Stored::BF16 => DType::BF16,
            other => {
                let what = format!("is stored as {other:?}; F32, F16 and BF16 are read");
                return Err(Fault::configuration(&self.file, name, what));
            }
        };
        let (start, end) = info.data_offsets;
        let bytes = &self.bytes()[self.data + start..self.data + end];
        Ok(Tensor::from_raw_buffer(bytes, dtype, &info.shape, device)?)
    }
}

/// Maps a weight file read-only.
#[allow(unsafe_code)]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: JUSTIFICATION: the bytes are only ever read, each once, while the model loads. Somebody who
    // truncates the file meanwhile gets this process a SIGBUS and nothing else: a worker holds one model,
    // the supervisor reports its death, and every offset used was checked against the mapped length.
    unsafe { Mmap::map(file) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;

    fn file(folder: &Path, cut: usize) -> std::path::PathBuf {
        let data: Vec<u8> = [1f32, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = TensorView::new(Stored::F32, vec![2], &data).expect("two floats");
        let mut bytes = safetensors::serialize([("part.scale", view)], None).expect("one tensor");
        bytes.truncate(bytes.len() - cut);
        let path = folder.join(format!("w{cut}.safetensors"));
        std::fs::write(&path, bytes).expect("a writable temporary folder");
        path
    }

    #[test]
    fn a_truncated_file_is_corrupt_and_an_absent_one_missing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for cut in [1, 8, 12, 60] {
            let found = Weights::open(&file(folder.path(), cut))
                .err()
                .and_then(|f| f.exit_code());
            assert_eq!(found, Some(66), "cut by {cut}");
        }
        let missing = Weights::open(&folder.path().join("none.safetensors"));
        assert!(matches!(missing.err(), Some(Fault::WeightsMissing { .. })));
    }

    #[test]
    fn a_wrong_shape_and_a_tensor_left_over_are_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let weights = Weights::open(&file(folder.path(), 0)).expect("a good file");
        let mut last = 0.0;
        let mut tell = |fraction| last = fraction;
        let meter = Meter::new(&[&weights], &mut tell);
        let section = Section::new(&weights, &meter, DType::F32, &Device::Cpu).at("part");
        let wrong = section
            .tensor("scale", &[3])
            .expect_err("the shape differs")
            .to_string();
        assert!(
            wrong.contains("part.scale") && wrong.contains("[2]"),
            "{wrong}"
        );
        let left = weights
            .refuse_unread(&[])
            .expect_err("nothing was read")
            .to_string();
        assert!(left.contains("part.scale"), "{left}");
        section.tensor("scale", &[2]).expect("the right shape");
        weights.refuse_unread(&[]).expect("all was read");
    }
}
