//! Gives the decoders the inputs of `corpus/`, their valid inputs, and some thousand damaged ones.
//!
//! This is a separate program with a single test, because the allocator counts the memory of all threads.

use decoders::measure::{Reception, judge, silence};
use decoders::{ALL, ByteDecoder, corpus, damage};
use peak_alloc::PeakAlloc;
use tests::chance::Chance;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Damaged inputs for each decoder.
const DAMAGED: usize = 3000;

fn assert_harmless(decoder: &ByteDecoder, input: &[u8]) -> Reception {
    let (outcome, allocated) = judge(decoder, input, &MEMORY);
    let is_harmless = matches!(outcome, Reception::Accepted | Reception::Refused);
    let shown = input[..input.len().min(200)].escape_ascii();
    assert!(
        is_harmless,
        "{}: {outcome:?} ({allocated} bytes) for {shown}",
        decoder.name
    );
    outcome
}

#[test]
fn no_input_makes_a_decoder_panic_or_take_too_much_memory() {
    silence();
    let mut chance = Chance::new(17);
    for decoder in &ALL {
        let seeds = (decoder.seeds)();
        assert!(!seeds.is_empty(), "{} has no valid input", decoder.name);
        for seed in &seeds {
            let outcome = assert_harmless(decoder, seed);
            let shown = seed[..seed.len().min(200)].escape_ascii();
            assert_eq!(outcome, Reception::Accepted, "{}: {shown}", decoder.name);
        }
        for input in corpus::inputs(decoder) {
            assert_harmless(decoder, &input);
        }
        for _ in 0..DAMAGED {
            let input = damage::input(&seeds, &mut chance);
            assert_harmless(decoder, &input);
        }
    }
}
