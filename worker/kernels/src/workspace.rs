//! Memory that kernels use again and again.

use crate::instruction_set::InstructionSet;
use std::mem::take;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type FreeList = Arc<Mutex<Vec<Vec<f32>>>>;

/// The instruction set of some kernels, and the memory that they pass on to each other: the operating system would
/// clear every new page.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// The vectors of the kernels.
    pub instructions: InstructionSet,
    free: FreeList,
}

/// Values in the memory of a workspace, to which it returns when they are dropped.
#[derive(Debug)]
pub struct Buffer {
    values: Vec<f32>,
    free: FreeList,
}

impl Workspace {
    /// A workspace without memory.
    pub fn new(instructions: InstructionSet) -> Workspace {
        Workspace {
            instructions,
            free: FreeList::default(),
        }
    }

    /// A buffer of `length` values, which may be anything.
    pub fn buffer(&self, length: usize) -> Buffer {
        let mut free = lock(&self.free);
        // A much larger buffer is left for its own use.
        let fits = |values: &Vec<f32>| (length..=2 * length).contains(&values.capacity());
        let fitting = (0..free.len()).filter(|i| fits(&free[*i]));
        let best = fitting.min_by_key(|i| free[*i].capacity());
        let mut values = match best {
            Some(place) => free.swap_remove(place),
            None => {
                // Buffers of smaller pictures are not needed again.
                free.retain(|values| values.capacity() > length);
                Vec::with_capacity(length)
            }
        };
        drop(free);
        values.resize(length, 0.0);
        let free = Arc::clone(&self.free);
        Buffer { values, free }
    }
}

fn lock(free: &FreeList) -> MutexGuard<'_, Vec<Vec<f32>>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Buffer {
    fn drop(&mut self) {
        lock(&self.free).push(take(&mut self.values));
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}
