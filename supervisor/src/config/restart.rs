//! The settings that a running daemon cannot change.

use super::Config;

/// Returns the settings of `new` that apply only after a restart, by their names in the file.
pub fn pending(current: &Config, new: &Config) -> Vec<&'static str> {
    let differs = [
        ("segment", current.backing != new.backing),
        ("socket.mode", current.socket_mode != new.socket_mode),
        ("http.listen", current.http.address != new.http.address),
        ("http.a1111", current.http.a1111 != new.http.a1111),
        (
            "memory.limit_percent",
            current.limit_percent != new.limit_percent,
        ),
        ("memory.host_limit_mb", current.host_limit != new.host_limit),
        (
            "memory.device_limit_mb",
            current.device_limit != new.device_limit,
        ),
        ("gpu.library", current.gpu_library != new.gpu_library),
        ("telemetry.otlp", current.otlp != new.otlp),
        ("telemetry.obituaries", current.obituaries != new.obituaries),
    ];
    let pending = differs.into_iter().filter(|(_, differs)| *differs);
    pending.map(|(name, _)| name).collect()
}

/// Returns the settings that apply to a running daemon: those of `new`, except what applies only after a restart.
pub fn without_pending(current: &Config, new: Config) -> Config {
    let mut config = Config {
        backing: current.backing,
        socket_mode: current.socket_mode,
        limit_percent: current.limit_percent,
        host_limit: current.host_limit,
        device_limit: current.device_limit,
        gpu_library: current.gpu_library.clone(),
        otlp: current.otlp.clone(),
        obituaries: current.obituaries,
        ..new
    };
    config.http.address = current.http.address.clone();
    config.http.a1111 = current.http.a1111;
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn settings_that_need_a_restart_are_named_until_one_happens() {
        let current = parse("").expect("the defaults");
        let new = parse(
            "segment = \"named\"\n[pool]\nidle_seconds = 5\n[memory]\nlimit_percent = 50\n\
             [http]\na1111 = false\naliases = [\"x\"]\n[telemetry]\notlp = \"http://127.0.0.1:1\"",
        )
        .expect("valid");
        let named = [
            "segment",
            "http.a1111",
            "memory.limit_percent",
            "telemetry.otlp",
        ];
        assert_eq!(pending(&current, &new), named);
        let applied = without_pending(&current, new.clone());
        assert_eq!(applied.pool, new.pool, "the others apply");
        assert_eq!(applied.http.aliases, ["x"]);
        assert_eq!(pending(&current, &applied), [""; 0]);
        assert_eq!(pending(&applied, &new), named, "still pending");
    }
}
