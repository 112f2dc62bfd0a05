//! The program of `scripts/fuzz --random`: gives damaged inputs to the decoders.
//!
//! It fails if one panics or takes too much memory.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use decoders::measure::{Reception, judge, silence};
use decoders::{ALL, ByteDecoder, corpus, damage};
use peak_alloc::PeakAlloc;
use tests::chance::Chance;
use tests::wait::Stopwatch;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Inputs between two looks at the clock.
const BATCH: u64 = 256;

/// The inputs of one decoder, counted.
#[derive(Default)]
struct Tally {
    inputs: u64,
    accepted: u64,
    most_allocated: usize,
    harmful: u64,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().unwrap_or_default();
    let second = arguments.next().unwrap_or_default();
    if first == "seeds" {
        return match write_seeds(Path::new(&second)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("damage-inputs: {second}: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let Ok(seconds) = first.parse() else {
        eprintln!(
            "usage: damage-inputs SECONDS [NAME-PART]   strikes each decoder so long\n       \
             damage-inputs seeds FOLDER           writes the valid inputs of each into its folder"
        );
        return ExitCode::from(2);
    };
    strike_all(Duration::from_secs(seconds), &second)
}

fn strike_all(time: Duration, part: &str) -> ExitCode {
    silence();
    let mut chance = Chance::new(17);
    let (mut all, mut harmful) = (0, 0);
    for decoder in ALL.iter().filter(|decoder| decoder.name.contains(part)) {
        let tally = strike(decoder, time, &mut chance);
        println!(
            "{:<20} {:>11} inputs, {:>10} accepted, at most {:>9} bytes of memory",
            decoder.name, tally.inputs, tally.accepted, tally.most_allocated,
        );
        (all, harmful) = (all + tally.inputs, harmful + tally.harmful);
    }
    println!("{all} inputs, {harmful} of them did harm");
    match (all, harmful) {
        (1.., 0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn strike(decoder: &ByteDecoder, time: Duration, chance: &mut Chance) -> Tally {
    let (seeds, start) = ((decoder.seeds)(), Stopwatch::start());
    let mut tally = Tally::default();
    while start.passed() < time {
        for _ in 0..BATCH {
            let input = damage::input(&seeds, chance);
            let (outcome, allocated) = judge(decoder, &input, &MEMORY);
            tally.inputs += 1;
            tally.most_allocated = tally.most_allocated.max(allocated);
            match outcome {
                Reception::Accepted => tally.accepted += 1,
                Reception::Refused => {}
                Reception::Panicked | Reception::Allocated(_) => {
                    tally.harmful += 1;
                    keep(decoder, &input, outcome);
                }
            }
        }
    }
    tally
}

/// Writes the valid inputs of each decoder, and those of `corpus/`, into a folder of its name.
fn write_seeds(folder: &Path) -> io::Result<()> {
    for decoder in &ALL {
        let folder = folder.join(decoder.name);
        fs::create_dir_all(&folder)?;
        let kept = corpus::inputs(decoder);
        for (number, seed) in (decoder.seeds)().iter().chain(&kept).enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}

/// Keeps an input that did harm for `corpus/`.
fn keep(decoder: &ByteDecoder, input: &[u8], outcome: Reception) {
    let name = format!("harmful-{}-{}", decoder.name, input.len());
    let path = std::env::temp_dir().join(name);
    match fs::write(&path, input) {
        Ok(()) => println!("{}: {outcome:?}, see {}", decoder.name, path.display()),
        Err(error) => println!("{}: {outcome:?} ({error}) {input:?}", decoder.name),
    }
}
