//! Durations as people read them.

/// Formats seconds as `H:MM:SS`, after the days if it is a day or longer, as supervisorctl does.
pub fn uptime(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let clock = format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    match days {
        0 => clock,
        1 => format!("1 day, {clock}"),
        _ => format!("{days} days, {clock}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_has_supervisorctls_format() {
        assert_eq!(uptime(192.4), "0:03:12");
        assert_eq!(uptime(86_400.0 * 2.0 + 3661.0), "2 days, 1:01:01");
    }
}
