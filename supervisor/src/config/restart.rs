//! The settings that a running daemon cannot change.

use super::Config;
use super::http::HttpConfig;

/// Returns the settings of `new` that apply only after a restart, by their names in the file. Every setting is named here,
/// so that a new one needs a decision.
pub fn pending(current: &Config, new: &Config) -> Vec<&'static str> {
    let Config {
        backing,
        sandbox,
        socket_mode,
        http:
            HttpConfig {
                address,
                a1111,
                hosts: _,
                origins: _,
                anonymous: _,
                aliases: _,
                tokens: _,
            },
        limit_percent,
        host_limit,
        device_limit,
        control_groups,
        gpu_library,
        otlp,
        obituaries,
        pool: _,
        operators: _,
        result_keep: _,
        result_mb: _,
        text: _,
        metadata: _,
        hub: _,
        truce: _,
        models: _,
    } = new;
    let differs = [
        ("segment", current.backing != *backing),
        ("sandbox", current.sandbox != *sandbox),
        ("socket.mode", current.socket_mode != *socket_mode),
        ("http.listen", current.http.address != *address),
        ("http.a1111", current.http.a1111 != *a1111),
        (
            "memory.limit_percent",
            current.limit_percent != *limit_percent,
        ),
        ("memory.host_limit_mb", current.host_limit != *host_limit),
        (
            "memory.device_limit_mb",
            current.device_limit != *device_limit,
        ),
        (
            "memory.control_groups",
            current.control_groups != *control_groups,
        ),
        ("gpu.library", current.gpu_library != *gpu_library),
        ("telemetry.otlp", current.otlp != *otlp),
        ("telemetry.obituaries", current.obituaries != *obituaries),
    ];
    let pending = differs.into_iter().filter(|(_, differs)| *differs);
    pending.map(|(name, _)| name).collect()
}

/// Returns the settings that apply to a running daemon: those of `new`, except what applies only after a restart.
pub fn without_pending(current: &Config, new: Config) -> Config {
    let mut config = Config {
        backing: current.backing,
        sandbox: current.sandbox,
        socket_mode: current.socket_mode,
        limit_percent: current.limit_percent,
        host_limit: current.host_limit,
        device_limit: current.device_limit,
        control_groups: current.control_groups,
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
            "segment = \"named\"\n[pool]\nidle_seconds = 5\n[memory]\nlimit_percent = 50\ncontrol_groups = \"off\"\n\
             [http]\na1111 = false\naliases = [\"x\"]\n[telemetry]\notlp = \"http://127.0.0.1:1\"",
        )
        .expect("valid");
        let named = [
            "segment",
            "http.a1111",
            "memory.limit_percent",
            "memory.control_groups",
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
