//! Reads the header of a safetensors file.
//!
//! Format: <https://github.com/huggingface/safetensors#format>. It is not read with the `safetensors` crate,
//! so that every fault names its tensor, duplicate names are faults, and the number of tensors is bounded while
//! they are read.

use super::entry::{self, Entries, TensorEntry, corrupt};
use super::kind::ElementKind;
use super::kind::READ;
use crate::fault::WorkerFault;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, de};
use std::fmt;

/// Bytes of the length before the header.
const PREFIX: usize = 8;
/// Longest header of the format.
const HEADER_MAX: usize = 100_000_000;
/// Largest number of tensors in a file; the largest published model has about 2000.
const TENSORS_MAX: usize = 1 << 16;
/// Largest number of dimensions of a tensor.
const DIMENSIONS_MAX: usize = 8;

#[derive(Deserialize)]
struct TensorHeader {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// The tensors in the order of the header, including duplicate names.
struct ListedHeaders(Vec<(String, TensorHeader)>);

impl<'de> Deserialize<'de> for ListedHeaders {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ListedHeaders, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = ListedHeaders;

            fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
                out.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ListedHeaders, A::Error> {
                let mut all = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else if all.len() == TENSORS_MAX {
                        return Err(de::Error::custom(format!(
                            "more than {TENSORS_MAX} tensors"
                        )));
                    } else {
                        let described = map.next_value();
                        let named = |error| de::Error::custom(format!("{name}: {error}"));
                        all.push((name.clone(), described.map_err(named)?));
                    }
                }
                Ok(ListedHeaders(all))
            }
        }
        from.deserialize_map(Names)
    }
}

/// Reads the position of each tensor in the file.
///
/// # Errors
/// [`WorkerFault::WeightsCorrupt`] for a header that is cut or does not cover every byte of the file exactly once;
/// [`WorkerFault::Configuration`] for an unknown dtype.
pub(super) fn entries(file: &str, bytes: &[u8]) -> Result<Entries, WorkerFault> {
    let start = data_start(file, bytes)?;
    let listed: ListedHeaders = serde_json::from_slice(&bytes[PREFIX..start])
        .map_err(|error| corrupt(file, format!("its header is damaged: {error}")))?;
    let listed = listed.0.into_iter().map(|(name, described)| {
        let entry = tensor(file, &name, described, start, bytes.len())?;
        Ok((name, entry))
    });
    let listed = listed.collect::<Result<Vec<_>, WorkerFault>>()?;
    entry::checked(file, listed, start, 1, bytes.len())
}

/// Finds the start of the tensors' bytes.
fn data_start(file: &str, bytes: &[u8]) -> Result<usize, WorkerFault> {
    let Some(prefix) = bytes.first_chunk::<PREFIX>() else {
        return Err(corrupt(file, format!("has only {} bytes", bytes.len())));
    };
    let length = u64::from_le_bytes(*prefix);
    let start = usize::try_from(length)
        .ok()
        .filter(|length| *length <= HEADER_MAX)
        .map(|length| length + PREFIX);
    match start {
        Some(start) if start <= bytes.len() => Ok(start),
        Some(_) => Err(corrupt(
            file,
            format!(
                "is cut: its header has {length} bytes, the file {}",
                bytes.len()
            ),
        )),
        None => Err(corrupt(
            file,
            format!("is neither safetensors nor GGUF: a header of {length} bytes"),
        )),
    }
}

/// Reads one tensor and checks its range and length.
fn tensor(
    file: &str,
    name: &str,
    described: TensorHeader,
    start: usize,
    length: usize,
) -> Result<TensorEntry, WorkerFault> {
    let kind = ElementKind::of_safetensors(&described.dtype).ok_or_else(|| {
        let what = format!("has the unknown dtype {:?}; {READ}", described.dtype);
        WorkerFault::configuration(file, name, what)
    })?;
    let shape = described.shape;
    if shape.len() > DIMENSIONS_MAX {
        let what = format!("{name} has {} dimensions", shape.len());
        return Err(corrupt(file, what));
    }
    let (from, to) = described.data_offsets;
    if from > to || to > length - start {
        let data = length - start;
        let what = format!("{name} lies at {from}..{to} of {data} bytes of data");
        return Err(corrupt(file, what));
    }
    if kind.bytes(&shape) != Some(to - from) {
        let what = format!(
            "{name} has {} bytes, not those of {kind} {shape:?}",
            to - from
        );
        return Err(corrupt(file, what));
    }
    Ok(TensorEntry {
        kind,
        shape,
        range: start + from..start + to,
    })
}
