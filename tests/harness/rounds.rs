//! How often a test strikes: few times by default, as often as asked for a long run.

/// Rounds of a test: `IMAGEPOOL_CHAOS_ROUNDS` where it is set, else `default`. Printed, so that a log
/// says what was done.
pub fn rounds(what: &str, default: u32) -> u32 {
    let rounds = std::env::var("IMAGEPOOL_CHAOS_ROUNDS").map_or(default, |text| {
        text.parse().expect("IMAGEPOOL_CHAOS_ROUNDS is a number")
    });
    println!("{what}: {rounds} rounds");
    rounds
}

/// Seconds of a test that strikes for a time: `IMAGEPOOL_CHAOS_SECONDS` where it is set, else `default`.
pub fn seconds(what: &str, default: u64) -> u64 {
    let seconds = std::env::var("IMAGEPOOL_CHAOS_SECONDS").map_or(default, |text| {
        text.parse().expect("IMAGEPOOL_CHAOS_SECONDS is a number")
    });
    println!("{what}: {seconds} s");
    seconds
}
