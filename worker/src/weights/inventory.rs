//! A list of a part's tensors without their values: names, shapes, and bytes of packed ones.

use super::matrix::SLAB_ELEMENTS;
use std::collections::BTreeMap;

/// The description of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ListedTensor {
    shape: Vec<usize>,
    /// Bytes of the blocks of a matrix that stays packed.
    packed_bytes: Option<u64>,
}

impl ListedTensor {
    fn elements(&self) -> u64 {
        self.shape.iter().map(|side| *side as u64).product()
    }
}

/// The tensors of one part, by original name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    tensors: BTreeMap<String, ListedTensor>,
}

impl Inventory {
    /// Adds a tensor; `packed_bytes` is set for a matrix that stays packed.
    pub(super) fn add(&mut self, name: String, shape: &[usize], packed_bytes: Option<u64>) {
        let listed = ListedTensor {
            shape: shape.to_vec(),
            packed_bytes,
        };
        self.tensors.insert(name, listed);
    }

    /// Names and shapes.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let tensors = self.tensors.iter();
        tensors.map(|(name, listed)| (name.as_str(), listed.shape.as_slice()))
    }

    /// Removes the tensors whose names start with one of `prefixes`.
    #[must_use]
    pub fn without(mut self, prefixes: &[&str]) -> Inventory {
        let known = |name: &String| prefixes.iter().any(|start| name.starts_with(start));
        self.tensors.retain(|name, _| !known(name));
        self
    }

    /// Bytes in memory of the tensors that `wanted` accepts: `width` for each element; packed matrices as
    /// stored.
    pub fn held_bytes(&self, width: usize, wanted: impl Fn(&str) -> bool) -> u64 {
        let chosen = self.tensors.iter().filter(|(name, _)| wanted(name));
        chosen
            .map(|(name, listed)| match listed.packed_bytes {
                // An embedding is not multiplied but looked up, so it does not stay packed.
                Some(bytes) if !name.contains("shared.") => bytes,
                _ => listed.elements() * width as u64,
            })
            .sum()
    }

    /// The largest number of elements that a product converts to f32 at a time. `halves` tells whether dense
    /// matrices are held in half precision.
    pub fn widened_elements(&self, halves: bool) -> u64 {
        let widened = |listed: &ListedTensor| match listed.packed_bytes {
            Some(_) => listed.elements().min(SLAB_ELEMENTS as u64),
            None if halves => listed.elements(),
            None => 0,
        };
        self.matrices().map(widened).max().unwrap_or(0)
    }

    /// The matrices that are used in products.
    fn matrices(&self) -> impl Iterator<Item = &ListedTensor> {
        let multiplied = |name: &str, listed: &ListedTensor| {
            listed.shape.len() == 2 && !name.contains("shared.") && !name.contains("embed")
        };
        let all = self.tensors.iter();
        all.filter(move |(name, listed)| multiplied(name, listed))
            .map(|(_, listed)| listed)
    }
}
