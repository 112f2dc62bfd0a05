//! Gives one input to one decoder, and judges what happens.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};

use peak_alloc::PeakAlloc;

use crate::ByteDecoder;

/// How a decoder took an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reception {
    /// It accepted the input.
    Accepted,
    /// It refused the input with an error.
    Refused,
    /// It panicked.
    Panicked,
    /// It allocated this many bytes, more than it may.
    Allocated(usize),
}

thread_local! {
    static IS_JUDGING: Cell<bool> = const { Cell::new(false) };
}

/// Keeps panics of decoders from printing: a printed stack takes 160 MB of memory.
pub fn silence() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !IS_JUDGING.get() {
            print(panic);
        }
    }));
}

/// Reads an input and measures the memory. `memory` must be the program's allocator, no other thread
/// may run, and [`silence`] must have been called.
pub fn judge(decoder: &ByteDecoder, input: &[u8], memory: &PeakAlloc) -> (Reception, usize) {
    memory.reset_peak_usage();
    let before = memory.current_usage();
    IS_JUDGING.set(true);
    let read = catch_unwind(AssertUnwindSafe(|| (decoder.read)(input)));
    IS_JUDGING.set(false);
    let allocated = memory.peak_usage().saturating_sub(before);
    let outcome = match read {
        Err(_) => Reception::Panicked,
        Ok(_) if allocated > (decoder.memory_max)(input.len()) => Reception::Allocated(allocated),
        Ok(true) => Reception::Accepted,
        Ok(false) => Reception::Refused,
    };
    (outcome, allocated)
}
