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
