//! Runs a real pool in seeded worlds of scripted workers, clients and faults.
//!
//! Without arguments it lives a fixed number of worlds, as part of the test suite. With `--seconds`
//! it continues from seed to seed; with `--seed` it lives one world again. `tests/README.md` and
//! `scripts/simulate --help` say how to replay.

mod checks;
mod faults;
mod files;
mod first_requests;
mod observed;
mod operators;
mod oracle;
mod plan;
mod poison;
mod random;
mod requests;
mod restarts;
mod scripted;
mod shrink;
mod trace;
mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::plan::WorldPlan;
use crate::world::{Violation, World, WorldCounts};

/// Worlds of the test suite.
const WORLDS: u64 = 60;
/// Bursts of first requests of the test suite; `--first-requests 10000` checks more.
const BURSTS: u64 = 100;
/// Worlds of daemons that come back, of the test suite; `--restarts 10000` checks more.
const RESTARTED: u64 = 150;
/// Lines printed before a violation.
const LINES: usize = 40;

/// The command line's arguments.
#[derive(Debug, Default)]
struct SimulationArguments {
    seconds: Option<u64>,
    seed: Option<u64>,
    first: u64,
    stride: u64,
    fifo: bool,
    shrink: bool,
    lines: usize,
    bursts: Option<u64>,
    restarts: Option<u64>,
    overrides: Vec<(String, u64)>,
}

fn main() -> ExitCode {
    let line = match parse(std::env::args().skip(1)) {
        Ok(line) => line,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    if let Some(bursts) = line.bursts {
        return match first_requests::check(bursts) {
            Ok(()) => {
                println!("{bursts} bursts of first requests, none started more than it may");
                ExitCode::SUCCESS
            }
            Err(what) => {
                println!("VIOLATION {what}");
                ExitCode::FAILURE
            }
        };
    }
    if let Some(worlds) = line.restarts {
        return match restarts::check(worlds) {
            Ok(counts) => {
                println!("{worlds} worlds of daemons that come back: {counts:?}");
                ExitCode::SUCCESS
            }
            Err(what) => {
                println!("VIOLATION {what}");
                ExitCode::FAILURE
            }
        };
    }
    match (line.seed, line.seconds) {
        (Some(seed), _) => replay(&line, seed),
        (None, Some(seconds)) => explore(&line, seconds),
        (None, None) => suite(),
    }
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<SimulationArguments, String> {
    let mut line = SimulationArguments {
        first: 1,
        stride: 1,
        shrink: true,
        lines: LINES,
        ..SimulationArguments::default()
    };
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let next = arguments.next().and_then(|text| text.parse::<u64>().ok());
            next.ok_or_else(|| format!("{argument} needs a number"))
        };
        match argument.as_str() {
            "--seconds" => line.seconds = Some(number()?),
            "--seed" => line.seed = Some(number()?),
            "--first" => line.first = number()?,
            "--stride" => line.stride = number()?.max(1),
            "--first-requests" => line.bursts = Some(number()?),
            "--restarts" => line.restarts = Some(number()?),
            "--fifo" => line.fifo = true,
            "--lines" => line.lines = usize::try_from(number()?).unwrap_or(LINES),
            "--no-shrink" => line.shrink = false,
            "--models" | "--clients" | "--users" | "--devices" | "--faults" | "--events" => {
                let value = number()?;
                line.overrides.push((argument, value));
            }
            // What the test runner passes to every test program.
            _ => {}
        }
    }
    Ok(line)
}

fn suite() -> ExitCode {
    let began = now();
    let mut sum = WorldCounts::default();
    for seed in 1..=WORLDS {
        match World::new(&WorldPlan::draw(seed, false), false).live() {
            Ok(counts) => add(&mut sum, &counts),
            Err(_) => return failed(&WorldPlan::draw(seed, false), true, LINES),
        }
    }
    println!("test every_invariant_holds_in_{WORLDS}_worlds ... ok");
    if let Err(what) = first_requests::check(BURSTS) {
        println!("test first_requests_start_no_more_than_they_may ... FAILED\n{what}");
        return ExitCode::FAILURE;
    }
    println!("test first_requests_start_no_more_than_they_may ... ok");
    if let Err(what) = poison::check() {
        println!("test poison_costs_no_other_request_its_picture ... FAILED\n{what}");
        return ExitCode::FAILURE;
    }
    println!("test poison_costs_no_other_request_its_picture ... ok");
    match restarts::check(RESTARTED) {
        Ok(counts) => println!(
            "test no_restored_job_is_lost_or_answered_twice ... ok: {} restarts, {} jobs restored, {} answered, {} requests in quarantine",
            counts.restarts, counts.restored, counts.answered, counts.quarantined
        ),
        Err(what) => {
            println!("test no_restored_job_is_lost_or_answered_twice ... FAILED\n{what}");
            return ExitCode::FAILURE;
        }
    }
    println!(
        "\ntest result: ok. 4 passed; 0 failed; {} events, {} deaths, {} pictures in {:.1} s",
        sum.events,
        sum.deaths,
        sum.pictures,
        began.elapsed().as_secs_f64()
    );
    ExitCode::SUCCESS
}

fn explore(line: &SimulationArguments, seconds: u64) -> ExitCode {
    let (began, limit) = (now(), Duration::from_secs(seconds));
    let (mut sum, mut worlds, mut seed) = (WorldCounts::default(), 0_u64, line.first);
    let (mut models, mut clients) = (Vec::new(), Vec::new());
    while began.elapsed() < limit {
        let plan = WorldPlan::draw(seed, line.fifo);
        match World::new(&plan, false).live() {
            Ok(counts) => add(&mut sum, &counts),
            Err(_) => return failed(&plan, line.shrink, line.lines),
        }
        models.push(plan.models);
        clients.push(plan.clients);
        worlds += 1;
        seed += line.stride;
    }
    models.sort_unstable();
    clients.sort_unstable();
    let median = |of: &[usize]| of.get(of.len() / 2).copied().unwrap_or(0);
    println!(
        "worlds {worlds} · events {} · changes {} · deaths {} · answers {} · pictures {} · awaited files {} · entered {} · swaps {} · overtakes_max {} · median models {} clients {} · violations 0 · seeds {}.. step {}",
        sum.events,
        sum.changes,
        sum.deaths,
        sum.answers,
        sum.pictures,
        sum.awaited,
        sum.entered,
        sum.swaps,
        sum.overtakes,
        median(&models),
        median(&clients),
        line.first,
        line.stride
    );
    ExitCode::SUCCESS
}

fn replay(line: &SimulationArguments, seed: u64) -> ExitCode {
    let mut plan = WorldPlan::draw(seed, line.fifo);
    for (name, value) in &line.overrides {
        let count = usize::try_from(*value).unwrap_or(1).max(1);
        match name.as_str() {
            "--models" => plan.models = count,
            "--clients" => plan.clients = count,
            "--users" => plan.users = count,
            "--devices" => plan.devices = count,
            "--faults" => plan.faults.0 = *value,
            "--events" => plan.events = *value,
            _ => {}
        }
    }
    match World::new(&plan, false).live() {
        Ok(counts) => {
            println!("{}\n{counts:?}", plan.replay());
            ExitCode::SUCCESS
        }
        Err(_) => failed(&plan, line.shrink && line.overrides.is_empty(), line.lines),
    }
}

/// Prints what is needed to see a violation again: first as it came, then as small as it gets.
fn failed(plan: &WorldPlan, shrink: bool, most: usize) -> ExitCode {
    let plan = if shrink {
        shrink::shrunk(plan)
    } else {
        plan.clone()
    };
    let Err(Violation { event, what, lines }) = World::new(&plan, true).live() else {
        println!("the violation did not come again: the world is not deterministic");
        return ExitCode::FAILURE;
    };
    for text in &lines[lines.len().saturating_sub(most)..] {
        println!("{text}");
    }
    println!("\nVIOLATION at event {event}: {what}");
    println!(
        "seed {} commit {} faults: {}",
        plan.seed,
        commit(),
        plan.faults.words()
    );
    println!("replay: {}", plan.replay());
    ExitCode::FAILURE
}

fn commit() -> String {
    option_env!("IMAGEPOOL_COMMIT")
        .unwrap_or("of this build")
        .to_owned()
}

fn add(sum: &mut WorldCounts, counts: &WorldCounts) {
    sum.events += counts.events;
    sum.changes += counts.changes;
    sum.deaths += counts.deaths;
    sum.answers += counts.answers;
    sum.pictures += counts.pictures;
    sum.swaps += counts.swaps;
    sum.overtakes = sum.overtakes.max(counts.overtakes);
    sum.awaited += counts.awaited;
    sum.entered += counts.entered;
}

/// The simulator's own stopwatch; the worlds have none.
#[expect(
    clippy::disallowed_methods,
    reason = "how long the worlds took is printed"
)]
fn now() -> Instant {
    Instant::now()
}
