//! A list of a part's tensors without their values: names, shapes, and bytes where they are held.

use super::recipe::Holding;
use super::stored::STORED_SLAB_ELEMENTS;
use std::collections::BTreeMap;

/// The description of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ListedTensor {
    shape: Vec<usize>,
    /// Bytes of a matrix in its files, where products on a CPU read it.
    on_host: Option<u64>,
    /// Bytes of the blocks of a matrix that stays packed on another device.
    in_blocks: Option<u64>,
}

impl ListedTensor {
    fn elements(&self) -> u64 {
        self.shape.iter().map(|side| *side as u64).product()
    }
}

/// Names of matrices that are looked up and not multiplied; they are loaded whole.
const LOOKED_UP: [&str; 3] = ["shared.", "_embedding.", "relative_attention_bias"];

fn is_multiplied(name: &str, shape: &[usize]) -> bool {
    shape.len() == 2 && !LOOKED_UP.iter().any(|part| name.contains(part))
}

/// The tensors of one part, by original name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    tensors: BTreeMap<String, ListedTensor>,
}

impl Inventory {
    /// Adds a tensor; `stored` are its bytes in its files, and how it is held if it is a matrix.
    pub(super) fn add(&mut self, name: String, shape: &[usize], stored: Option<(u64, Holding)>) {
        let stored = stored.filter(|_| is_multiplied(&name, shape));
        let held = |stays: fn(&Holding) -> bool| {
            stored.and_then(|(bytes, holding)| stays(&holding).then_some(bytes))
        };
        let listed = ListedTensor {
            shape: shape.to_vec(),
            on_host: held(|holding| holding.stays_on_host),
            in_blocks: held(|holding| holding.stays_in_blocks),
        };
        self.tensors.insert(name, listed);
    }

    /// The same tensors in files that store matrices in half precision.
    #[must_use]
    pub fn stored_in_halves(mut self) -> Inventory {
        for (name, listed) in &mut self.tensors {
            if is_multiplied(name, &listed.shape) {
                listed.on_host = Some(2 * listed.elements());
            }
        }
        self
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

    /// Bytes on the host of the tensors that `wanted` accepts: `width` for each element, but of matrices that stay in
    /// their files those of the files.
    pub fn host_bytes(&self, width: usize, wanted: impl Fn(&str) -> bool) -> u64 {
        self.bytes(wanted, |listed| {
            listed.on_host.unwrap_or(listed.elements() * width as u64)
        })
    }

    /// Bytes on another device of the tensors that `wanted` accepts: `width` for each element, but of packed matrices
    /// those of the blocks.
    pub fn device_bytes(&self, width: usize, wanted: impl Fn(&str) -> bool) -> u64 {
        self.bytes(wanted, |listed| {
            listed.in_blocks.unwrap_or(listed.elements() * width as u64)
        })
    }

    fn bytes(&self, wanted: impl Fn(&str) -> bool, of: impl Fn(&ListedTensor) -> u64) -> u64 {
        let chosen = self.tensors.iter().filter(|(name, _)| wanted(name));
        chosen.map(|(_, listed)| of(listed)).sum()
    }

    /// The largest number of elements that a product on the host converts to f32 at a time. `halves` tells whether dense
    /// matrices are held in half precision.
    pub fn widened_elements(&self, halves: bool) -> u64 {
        let widened = |listed: &ListedTensor| match listed.on_host {
            Some(_) => listed.elements().min(STORED_SLAB_ELEMENTS as u64),
            None if halves => listed.elements(),
            None => 0,
        };
        let multiplied = self
            .tensors
            .iter()
            .filter(|(name, listed)| is_multiplied(name, &listed.shape));
        let all = multiplied.map(|(_, listed)| widened(listed));
        all.max().unwrap_or(0)
    }
}
