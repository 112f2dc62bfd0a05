//! The position of each tensor in its file, and the check that the tensors cover the whole file.

use super::kind::ElementKind;
use crate::fault::WorkerFault;
use std::collections::BTreeMap;
use std::ops::Range;

/// A tensor as described by the header of its file. The range was checked against the length of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TensorEntry {
    pub(super) kind: ElementKind,
    pub(super) shape: Vec<usize>,
    pub(super) range: Range<usize>,
}

/// The tensors of a file by name.
pub(super) type Entries = BTreeMap<String, TensorEntry>;

/// Checks that every name occurs once and that every byte from `start` to the end of the file belongs to one
/// tensor: they follow each other, each at the next multiple of `alignment`. Returns them by name.
///
/// # Errors
/// [`WorkerFault::WeightsCorrupt`] with the tensor.
pub(super) fn checked(
    file: &str,
    listed: Vec<(String, TensorEntry)>,
    start: usize,
    alignment: usize,
    length: usize,
) -> Result<Entries, WorkerFault> {
    let mut entries = Entries::new();
    for (name, entry) in listed {
        if entries.contains_key(&name) {
            return Err(corrupt(file, format!("its header lists {name} twice")));
        }
        entries.insert(name, entry);
    }
    let mut order: Vec<(&String, &TensorEntry)> = entries.iter().collect();
    order.sort_by_key(|(_, entry)| (entry.range.start, entry.range.end));
    let mut reached = start;
    for (name, entry) in order {
        if entry.range.start != reached {
            let word = if entry.range.start < reached {
                "overlaps"
            } else {
                "leaves a gap after"
            };
            return Err(corrupt(file, format!("{name} {word} the tensor before it")));
        }
        reached = entry.range.end.next_multiple_of(alignment);
    }
    // The last tensor may lack its padding.
    if length > reached {
        let what = format!("{} bytes at its end belong to no tensor", length - reached);
        return Err(corrupt(file, what));
    }
    Ok(entries)
}

/// Makes the fault for a file that violates its format.
pub(super) fn corrupt(file: &str, what: impl Into<String>) -> WorkerFault {
    WorkerFault::WeightsCorrupt {
        file: file.to_owned(),
        what: what.into(),
    }
}
