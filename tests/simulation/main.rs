//! Runs a real pool in seeded worlds of scripted workers, clients and faults.
//!
//! Without arguments it lives a fixed number of worlds, as part of the test suite. With `--seconds`
//! it goes on from seed to seed; with `--seed` it lives one world again. `tests/README.md` and
//! `scripts/simulate --help` say how to replay.

mod actors;
mod checks;
mod dice;
mod faults;
mod first_requests;
mod operators;
mod oracle;
mod plan;
mod requests;
mod scene;
mod shadow;
mod shrink;
mod trace;
mod waits;
mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::plan::Plan;
use crate::world::{Tally, Violation, World};

/// Worlds of the test suite.
const WORLDS: u64 = 60;
/// Bursts of first requests of the test suite; `--first-requests 10000` checks more.
const BURSTS: u64 = 100;
/// Lines printed before a violation.
const LINES: usize = 40;

/// What the command line said.
#[derive(Debug, Default)]
struct Wanted {
    seconds: Option<u64>,
    seed: Option<u64>,
    first: u64,
    stride: u64,
    fifo: bool,
    shrink: bool,
    lines: usize,
    bursts: Option<u64>,
    overrides: Vec<(String, u64)>,
}

fn main() -> ExitCode {
    let wanted = match parse(std::env::args().skip(1)) {
        Ok(wanted) => wanted,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    if let Some(bursts) = wanted.bursts {
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
    match (wanted.seed, wanted.seconds) {
        (Some(seed), _) => replay(&wanted, seed),
        (None, Some(seconds)) => explore(&wanted, seconds),
        (None, None) => suite(),
    }
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let mut wanted = Wanted {
        first: 1,
        stride: 1,
        shrink: true,
        lines: LINES,
        ..Wanted::default()
    };
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let next = arguments.next().and_then(|text| text.parse::<u64>().ok());
            next.ok_or_else(|| format!("{argument} needs a number"))
        };
        match argument.as_str() {
            "--seconds" => wanted.seconds = Some(number()?),
            "--seed" => wanted.seed = Some(number()?),
            "--first" => wanted.first = number()?,
            "--stride" => wanted.stride = number()?.max(1),
            "--first-requests" => wanted.bursts = Some(number()?),
            "--fifo" => wanted.fifo = true,
            "--lines" => wanted.lines = usize::try_from(number()?).unwrap_or(LINES),
            "--no-shrink" => wanted.shrink = false,
            "--models" | "--clients" | "--users" | "--devices" | "--faults" | "--events" => {
                let value = number()?;
                wanted.overrides.push((argument, value));
            }
            // What the test runner passes to every test program.
            _ => {}
        }
    }
    Ok(wanted)
}

fn suite() -> ExitCode {
    let began = now();
    let mut sum = Tally::default();
    for seed in 1..=WORLDS {
        match World::new(&Plan::draw(seed, false), false).live() {
            Ok(tally) => add(&mut sum, &tally),
            Err(_) => return failed(&Plan::draw(seed, false), true, LINES),
        }
    }
    println!("test every_invariant_holds_in_{WORLDS}_worlds ... ok");
    if let Err(what) = first_requests::check(BURSTS) {
        println!("test first_requests_start_no_more_than_they_may ... FAILED\n{what}");
        return ExitCode::FAILURE;
    }
    println!("test first_requests_start_no_more_than_they_may ... ok");
    println!(
        "\ntest result: ok. 2 passed; 0 failed; {} events, {} deaths, {} pictures in {:.1} s",
        sum.events,
        sum.deaths,
        sum.pictures,
        began.elapsed().as_secs_f64()
    );
    ExitCode::SUCCESS
}

fn explore(wanted: &Wanted, seconds: u64) -> ExitCode {
    let (began, limit) = (now(), Duration::from_secs(seconds));
    let (mut sum, mut worlds, mut seed) = (Tally::default(), 0_u64, wanted.first);
    let (mut models, mut clients) = (Vec::new(), Vec::new());
    while began.elapsed() < limit {
        let plan = Plan::draw(seed, wanted.fifo);
        match World::new(&plan, false).live() {
            Ok(tally) => add(&mut sum, &tally),
            Err(_) => return failed(&plan, wanted.shrink, wanted.lines),
        }
        models.push(plan.models);
        clients.push(plan.clients);
        worlds += 1;
        seed += wanted.stride;
    }
    models.sort_unstable();
    clients.sort_unstable();
    let median = |of: &[usize]| of.get(of.len() / 2).copied().unwrap_or(0);
    println!(
        "worlds {worlds} · events {} · changes {} · deaths {} · answers {} · pictures {} · swaps {} · overtakes_max {} · median models {} clients {} · violations 0 · seeds {}.. step {}",
        sum.events,
        sum.changes,
        sum.deaths,
        sum.answers,
        sum.pictures,
        sum.swaps,
        sum.overtakes,
        median(&models),
        median(&clients),
        wanted.first,
        wanted.stride
    );
    ExitCode::SUCCESS
}

fn replay(wanted: &Wanted, seed: u64) -> ExitCode {
    let mut plan = Plan::draw(seed, wanted.fifo);
    for (name, value) in &wanted.overrides {
        let count = usize::try_from(*value).unwrap_or(1).max(1);
        match name.as_str() {
            "--models" => plan.models = count,
            "--clients" => plan.clients = count,
            "--users" => plan.users = count,
            "--devices" => plan.devices = count,
            "--faults" => plan.swarm.0 = *value,
            "--events" => plan.events = *value,
            _ => {}
        }
    }
    match World::new(&plan, false).live() {
        Ok(tally) => {
            println!("{}\n{tally:?}", plan.replay());
            ExitCode::SUCCESS
        }
        Err(_) => failed(
            &plan,
            wanted.shrink && wanted.overrides.is_empty(),
            wanted.lines,
        ),
    }
}

/// Prints what is needed to see a violation again: first as it came, then as small as it gets.
fn failed(plan: &Plan, shrink: bool, most: usize) -> ExitCode {
    let plan = if shrink {
        shrink::shrunk(plan)
    } else {
        plan.clone()
    };
    let Err(Violation { event, what, lines }) = World::new(&plan, true).live() else {
        println!("the violation did not come again: the world is not deterministic");
        return ExitCode::FAILURE;
    };
    for line in &lines[lines.len().saturating_sub(most)..] {
        println!("{line}");
    }
    println!("\nVIOLATION at event {event}: {what}");
    println!(
        "seed {} commit {} faults: {}",
        plan.seed,
        commit(),
        plan.swarm.words()
    );
    println!("replay: {}", plan.replay());
    ExitCode::FAILURE
}

fn commit() -> String {
    option_env!("IMAGEPOOL_COMMIT")
        .unwrap_or("of this build")
        .to_owned()
}

fn add(sum: &mut Tally, tally: &Tally) {
    sum.events += tally.events;
    sum.changes += tally.changes;
    sum.deaths += tally.deaths;
    sum.answers += tally.answers;
    sum.pictures += tally.pictures;
    sum.swaps += tally.swaps;
    sum.overtakes = sum.overtakes.max(tally.overtakes);
}

/// The simulator's own stopwatch; the worlds have none.
#[expect(
    clippy::disallowed_methods,
    reason = "how long the worlds took is printed"
)]
fn now() -> Instant {
    Instant::now()
}
