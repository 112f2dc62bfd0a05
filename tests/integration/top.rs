//! `top` without a terminal: one table, or a JSON object each second. tests/terminal has the live view.

use tests::daemon::TestDaemon;
use tests::program::PATIENCE;
use tests::wait;

const SLOW: &str = "default_model = \"syn\"\n[models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 200, load_ms = 1, weights_mb = 1 }\n[pool]\nmax_workers_per_model = 1\ncold_start_workers = 1\n";

#[test]
fn a_table_has_workers_with_their_jobs_the_queue_with_reasons_and_memory() {
    let daemon = TestDaemon::start(SLOW);
    let drawing = daemon.imagepool_begun(&["generate", "a", "--steps", "100", "-n", "2", "-q"]);
    let runs = || {
        daemon
            .status()
            .workers
            .iter()
            .any(|worker| worker.job.is_some())
    };
    assert!(wait::until(PATIENCE, runs));
    let output = daemon.imagepool(&["top"]).succeeded();
    let text = String::from_utf8(output.stdout).expect("text");
    let line = |begin: &str| {
        let found = text
            .lines()
            .find(|line| line.trim_start().starts_with(begin));
        found.unwrap_or_else(|| panic!("no line {begin} in {text}"))
    };
    assert!(line("imagepool").contains("serving"), "{text}");
    assert!(line("host").contains("GiB reserved"), "{text}");
    assert!(
        line("syn:0").contains("RUNNING") && line("syn:0").contains("/100"),
        "{text}"
    );
    assert!(
        text.lines()
            .any(|line| line.contains("waiting") && line.contains("syn")),
        "{text}"
    );
    assert!(
        !text.contains('\u{1b}'),
        "no colours without a terminal: {text}"
    );
    daemon.imagepool(&["stop", "all"]).succeeded();
    drawing.output();
}

#[test]
fn json_has_one_report_each_second() {
    let daemon = TestDaemon::start(SLOW);
    let reports = daemon
        .imagepool(&["top", "--json", "-n", "3"])
        .succeeded()
        .json();
    assert_eq!(reports.len(), 3);
    let uptime = |nth: usize| reports[nth]["supervisor"]["uptime_s"].as_f64();
    let apart = uptime(2).zip(uptime(0)).map(|(last, first)| last - first);
    assert!(apart.is_some_and(|apart| apart >= 1.9), "{apart:?}");
    for report in &reports {
        assert_eq!(report["supervisor"]["pid"], daemon.pid());
        assert!(report["memory"].is_array() && report["queue"].is_array());
    }
    daemon.imagepool(&["top", "-n", "0"]).ended_with(2);
}

#[test]
fn without_a_daemon_it_ends_with_7() {
    let sandbox = tests::sandbox::Sandbox::new("");
    sandbox.imagepool(&["top"]).ended_with(7);
    sandbox.imagepool(&["top", "--json"]).ended_with(7);
}
