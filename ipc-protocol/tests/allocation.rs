//! Reading arbitrary bytes neither panics nor allocates more memory than a frame can hold.
//!
//! This is a separate program with a single test, because the allocator counts the memory of all threads.

use std::io::Read;

use ipc_protocol::connection;
use ipc_protocol::frame::{self, BODY_BYTES_MAX, HEADER_BYTES, Message};
use peak_alloc::PeakAlloc;

#[path = "protocol/samples.rs"]
mod samples;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Number of frames read for each side of each connection.
const FRAMES: u64 = 100_000;
/// The body as bytes, and the decoded value of at most the same size; the rest is for error messages.
const ALLOWED_BYTES: usize = 2 * BODY_BYTES_MAX + 4096;

/// SplitMix64: random enough for a test, and the same on every machine.
struct RandomBytes(u64);

impl RandomBytes {
    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.throw() % bound as u64) as usize
    }

    /// Returns mostly bytes that break parsers: limits of integers and of the codec's length prefixes.
    fn byte(&mut self) -> u8 {
        const BORDERS: [u8; 8] = [0, 1, 0x7f, 0x80, 0xfa, 0xfb, 0xfc, 0xff];
        match self.below(2) {
            0 => BORDERS[self.below(BORDERS.len())],
            _ => self.throw() as u8,
        }
    }
}

/// A frame with a valid header and a random body.
fn random<M: Message>(dice: &mut RandomBytes) -> Vec<u8> {
    let kinds: Vec<u16> = (0..32).filter(|kind| M::cap(*kind).is_some()).collect();
    let kind = kinds[dice.below(kinds.len())];
    let cap = M::cap(kind).expect("it was asked before");
    // Short bodies reach deeper into the decoder than long ones, so most are short.
    let length = match dice.below(20) {
        0 => dice.below(cap + 1),
        _ => dice.below(cap.min(64) + 1),
    };
    let mut bytes = b"IMGP".to_vec();
    bytes.extend(kind.to_le_bytes());
    bytes.extend([0, 0]);
    bytes.extend((length as u32).to_le_bytes());
    bytes.extend((0..length).map(|_| dice.byte()));
    bytes
}

/// A valid frame with some bytes changed, removed or inserted; half of them with a matching length in the
/// header.
fn mutated(frame: &[u8], dice: &mut RandomBytes) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    for _ in 0..=dice.below(2) {
        let place = dice.below(bytes.len());
        match dice.below(8) {
            0 if bytes.len() > 1 => drop(bytes.remove(place)),
            1 => bytes.insert(place, dice.byte()),
            _ => bytes[place] = dice.byte(),
        }
    }
    if bytes.len() >= HEADER_BYTES && dice.below(2) == 0 {
        let length = (bytes.len() - HEADER_BYTES) as u32;
        bytes[8..HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
    }
    bytes
}

/// The frames of one side, counted by their result.
#[derive(Debug, Default)]
struct AllocationTally {
    understood: u64,
    refused: u64,
    peak_bytes: usize,
}

fn read_all<M: Message + PartialEq>(samples: &[(&str, M)], seed: u64) -> AllocationTally {
    let frames: Vec<Vec<u8>> = samples
        .iter()
        .map(|(_, message)| frame::encode(message).expect("a sample fits its frame"))
        .collect();
    let mut dice = RandomBytes(seed);
    let mut tally = AllocationTally::default();
    for turn in 0..FRAMES {
        let bytes = match turn % 2 {
            0 => random::<M>(&mut dice),
            _ => mutated(&frames[dice.below(frames.len())], &mut dice),
        };
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let read = connection::read::<M>(&mut bytes.as_slice().take(u64::MAX));
        let peak = MEMORY.peak_usage().saturating_sub(before);
        assert!(peak <= ALLOWED_BYTES, "{peak} bytes for {bytes:02x?}");
        tally.peak_bytes = tally.peak_bytes.max(peak);
        match read {
            Ok(message) => {
                tally.understood += 1;
                // A decoded message encodes again to the same value. NaN is never equal to itself.
                let again = frame::encode(&message).expect("it came in a frame");
                let back = connection::read::<M>(&mut again.as_slice()).expect("our own frame");
                let again_from_back = frame::encode(&back).expect("it came in a frame");
                assert!(back == message || again_from_back == again);
            }
            Err(_) => tally.refused += 1,
        }
    }
    tally
}

#[test]
fn random_bytes_neither_panic_nor_allocate_more_than_two_bodies() {
    for seed in [1, 2] {
        for (side, tally) in [
            ("ToPool", read_all(&samples::to_pool(), seed)),
            ("FromPool", read_all(&samples::from_pool(), seed)),
            ("ToWorker", read_all(&samples::to_worker(), seed)),
            ("FromWorker", read_all(&samples::from_worker(), seed)),
        ] {
            println!("{side}, seed {seed}: {tally:?}");
            assert!(tally.understood > FRAMES / 100, "{side}: {tally:?}");
            assert!(tally.refused > FRAMES / 4, "{side}: {tally:?}");
        }
    }
}
