//! Each metric moves with its cause and with nothing else, and the gauges agree with the status.

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_protocol::request::ImageRequest;
use nix::sys::signal::Signal;
use supervisor::telemetry::metrics::description::PREFIX;
use supervisor::telemetry::metrics::{CONTENT_TYPE, names};
use tests::daemon::TestDaemon;
use tests::gpus::{self, PretendedGpus};
use tests::job::{self, request};
use tests::program::PATIENCE;
use tests::sandbox::Sandbox;
use tests::{misbehaviours, processes, turn, wait};

const SETTINGS: &str = "default_model = \"syn\"\n\
    [pool]\ncold_start_workers = 1\nmax_workers_per_model = 2\ngrow_after_seconds = 0.1\nidle_seconds = 600\n\
    [models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 30, load_ms = 20, weights_mb = 1 }\n\
    [models.slow]\nfamily = \"synthetic\"\nparams = { step_ms = 100, load_ms = 20, weights_mb = 1 }\n";

/// Values by series, names without their prefix.
type Series = BTreeMap<String, f64>;

/// The text of `/metrics`, and its series of the kinds that `is_wanted` names.
fn scrape(daemon: &TestDaemon, is_wanted: fn(&str) -> bool) -> Series {
    let reply = daemon.http().get("/metrics");
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some(CONTENT_TYPE));
    let text = reply.text();
    let mut kind = "";
    let mut series = Series::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            kind = rest.rsplit(' ').next().expect("a kind");
        } else if !line.starts_with('#') && is_wanted(kind) {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            let name = name.strip_prefix(PREFIX).expect("our prefix");
            let value = value.parse().expect("a number");
            assert!(
                series.insert(name.to_owned(), value).is_none(),
                "{name} twice"
            );
        }
    }
    series
}

/// Everything that only rises, without the sizes of what was observed.
fn counts(daemon: &TestDaemon) -> Series {
    let mut series = scrape(daemon, |kind| kind != "gauge");
    series.retain(|name, _| !name.contains("_bucket") && !name.contains("_sum"));
    series
}

fn gauges(daemon: &TestDaemon) -> Series {
    scrape(daemon, |kind| kind == "gauge")
}

/// A series that a cause moves, and by how much; 0 means by any number.
type Moved<'a> = (&'a str, u32);

/// Checks that `cause` moves exactly these series.
#[track_caller]
fn check(daemon: &TestDaemon, what: &str, moved: &[Moved<'_>], cause: impl FnOnce(&TestDaemon)) {
    let before = counts(daemon);
    cause(daemon);
    let risen = || -> Series {
        let now = counts(daemon).into_iter();
        let risen = now.map(|(name, value)| {
            let old = before.get(&name).copied().unwrap_or_default();
            (name, value - old)
        });
        risen.filter(|(_, more)| *more != 0.0).collect()
    };
    let holds = |risen: &Series| {
        risen.len() == moved.len()
            && moved.iter().all(|(name, by)| match (risen.get(*name), by) {
                (Some(more), 0) => *more > 0.0,
                (Some(more), by) => *more == f64::from(*by),
                (None, _) => false,
            })
    };
    let found = wait::until(PATIENCE, || holds(&risen()));
    assert!(found, "{what} moved {:#?}", risen());
}

/// The series of a finished job with this many steps.
fn finished(model: &'static str, steps: u32, jobs: u32) -> Vec<(String, u32)> {
    let phases = ["queue", "load", "encode", "denoise", "decode"].map(|phase| {
        let name = format!("job_duration_seconds_count{{model=\"{model}\",phase=\"{phase}\"}}");
        (name, jobs)
    });
    let mut all = vec![
        (
            format!("jobs_total{{model=\"{model}\",outcome=\"finished\",reason=\"none\"}}"),
            jobs,
        ),
        (
            format!("step_duration_seconds_count{{model=\"{model}\"}}"),
            steps,
        ),
    ];
    all.extend(phases);
    all
}

/// The series of a worker that starts and loads its model.
fn loaded(model: &'static str, reason: &str) -> Vec<(String, u32)> {
    vec![
        (
            format!("worker_starts_total{{model=\"{model}\",reason=\"{reason}\"}}"),
            1,
        ),
        (
            format!("model_loads_total{{model=\"{model}\",result=\"loaded\"}}"),
            1,
        ),
        (
            format!("model_load_duration_seconds_count{{model=\"{model}\"}}"),
            1,
        ),
    ]
}

fn all<'a>(parts: &'a [Vec<(String, u32)>], more: &[Moved<'a>]) -> Vec<Moved<'a>> {
    let parts = parts
        .iter()
        .flatten()
        .map(|(name, by)| (name.as_str(), *by));
    parts.chain(more.iter().copied()).collect()
}

fn draw(daemon: &TestDaemon, wanted: &ImageRequest) {
    daemon.draw(wanted).expect("a picture");
}

#[test]
fn each_metric_moves_with_its_cause_alone() {
    let _turn = turn::take();
    let daemon = TestDaemon::start(SETTINGS);
    draw_and_refuse(&daemon);
    lose_and_grow(&daemon);
    check(
        &daemon,
        "a stop",
        &[("worker_exits_total{model=\"syn\",reason=\"operator\"}", 2)],
        |daemon| drop(daemon.imagepool(&["stop", "syn"]).succeeded()),
    );
    check(
        &daemon,
        "a request for a stopped model",
        &[("admission_rejects_total{reason=\"stopped\"}", 1)],
        |daemon| drop(daemon.draw(&request("syn", 2, 1)).expect_err("stopped")),
    );
    let load = [loaded("slow", "cold_start")];
    let late = [
        (
            "jobs_total{model=\"slow\",outcome=\"failed\",reason=\"deadline_exceeded\"}",
            1,
        ),
        ("step_duration_seconds_count{model=\"slow\"}", 0),
    ];
    check(&daemon, "a deadline", &all(&load, &late), |daemon| {
        let wanted = ImageRequest {
            timeout_ms: Some(600),
            ..request("slow", 50, 1)
        };
        daemon.draw(&wanted).expect_err("too late");
    });
}

fn draw_and_refuse(daemon: &TestDaemon) {
    let parts = [loaded("syn", "cold_start"), finished("syn", 2, 1)];
    check(daemon, "a first picture", &all(&parts, &[]), |daemon| {
        draw(daemon, &request("syn", 2, 1));
    });
    let parts = [finished("syn", 3, 1)];
    check(daemon, "a further picture", &all(&parts, &[]), |daemon| {
        draw(daemon, &request("syn", 3, 1));
    });
    check(
        daemon,
        "a refused value",
        &[("admission_rejects_total{reason=\"bad_value\"}", 1)],
        |daemon| {
            drop(
                daemon
                    .draw(&request("syn", 100_000, 1))
                    .expect_err("too many"),
            )
        },
    );
    check(
        daemon,
        "an unknown model",
        &[("admission_rejects_total{reason=\"unknown_model\"}", 1)],
        |daemon| {
            drop(
                daemon
                    .draw(&request("none", 2, 1))
                    .expect_err("there is none"),
            )
        },
    );
    let moved = [
        (
            "jobs_total{model=\"syn\",outcome=\"cancelled\",reason=\"cancelled\"}",
            1,
        ),
        ("step_duration_seconds_count{model=\"syn\"}", 0),
    ];
    check(daemon, "a cancelled job", &moved, |daemon| {
        let drawn = job::draw(&mut daemon.client(), &request("syn", 500, 1), |id, step| {
            if step == 2 {
                daemon.imagepool(&["cancel", &id.0.to_string()]).succeeded();
            }
        });
        drawn.expect_err("cancelled");
    });
}

fn lose_and_grow(daemon: &TestDaemon) {
    let parts = [loaded("syn", "cold_start"), finished("syn", 8, 1)];
    let lost = [
        ("worker_exits_total{model=\"syn\",reason=\"killed\"}", 1),
        ("worker_restarts_total{model=\"syn\"}", 1),
        ("resumed_steps_total{model=\"syn\"}", 0),
    ];
    check(daemon, "a killed worker", &all(&parts, &lost), |daemon| {
        let mut killed = None;
        let drawn = job::draw(&mut daemon.client(), &request("syn", 8, 9), |id, step| {
            if step == 3 && killed.is_none() {
                killed = daemon.worker_of(id).and_then(|worker| worker.pid);
                processes::signal(killed.expect("it runs"), Signal::SIGKILL);
            }
        });
        drawn.expect("another worker continues it");
    });
    let parts = [loaded("syn", "growth"), finished("syn", 40, 2)];
    check(daemon, "growth", &all(&parts, &[]), |daemon| {
        std::thread::scope(|scope| {
            for seed in 0..2 {
                scope.spawn(move || draw(daemon, &request("syn", 20, seed)));
            }
        });
    });
}

#[test]
fn an_eviction_is_counted_for_the_model_that_lost_its_worker() {
    let model = "family = \"synthetic\"\nparams = { step_ms = 1, load_ms = 1, weights_mb = 64 }\n";
    let settings = |limit_mb: u64| {
        format!(
            "[memory]\nhost_limit_mb = {limit_mb}\n[pool]\ncold_start_workers = 1\n\
             [models.left]\n{model}[models.right]\n{model}"
        )
    };
    let models = TestDaemon::start(&settings(100_000)).status().models;
    let left = models.iter().find(|model| model.key.as_str() == "left");
    let need_mb = left.expect("it is in the settings").need_mb;
    let daemon = TestDaemon::start(&settings(need_mb + need_mb / 2));
    draw(&daemon, &request("left", 1, 1));
    let parts = [loaded("right", "cold_start"), finished("right", 1, 1)];
    let moved = [
        ("evictions_total{model=\"left\",why=\"another_model\"}", 1),
        ("worker_exits_total{model=\"left\",reason=\"evicted\"}", 1),
    ];
    check(&daemon, "an eviction", &all(&parts, &moved), |daemon| {
        draw(daemon, &request("right", 1, 1));
    });
}

#[test]
fn a_load_that_fails_is_counted_with_its_exit_code() {
    let sandbox = Sandbox::with_hostile_worker(&misbehaviours::settings(1));
    let daemon = TestDaemon::start_in(sandbox);
    let model = misbehaviours::model("giving-up");
    let moved = [
        (
            format!("worker_starts_total{{model=\"{model}\",reason=\"cold_start\"}}"),
            0,
        ),
        (
            format!("worker_exits_total{{model=\"{model}\",reason=\"unusable_weights\"}}"),
            0,
        ),
        (
            format!("model_loads_total{{model=\"{model}\",result=\"failed\"}}"),
            0,
        ),
        (
            format!("jobs_total{{model=\"{model}\",outcome=\"failed\",reason=\"model_unusable\"}}"),
            1,
        ),
    ];
    check(
        &daemon,
        "a failed load",
        &all(&[moved.into()], &[]),
        |daemon| {
            drop(
                daemon
                    .draw(&request(&model, 2, 1))
                    .expect_err("it gives up"),
            );
        },
    );
}

#[test]
fn gauges_agree_with_the_status() {
    let daemon =
        TestDaemon::start(&SETTINGS.replace("workers_per_model = 2", "workers_per_model = 1"));
    let calls: Vec<_> = (0..3)
        .map(|seed| {
            let (seed, file) = (seed.to_string(), format!("{seed}.png"));
            let arguments = [
                "generate", "x", "--steps", "60", "--seed", &seed, "-o", &file,
            ];
            daemon.imagepool_begun(&arguments)
        })
        .collect();
    let busy = || {
        daemon
            .status()
            .queue
            .iter()
            .filter(|job| job.state == "waiting")
            .count()
            == 2
    };
    assert!(wait::until(PATIENCE, busy), "{:?}", daemon.status());
    let (gauges, status) = (gauges(&daemon), daemon.status());
    let host = status
        .memory
        .iter()
        .find(|book| book.device == "host")
        .expect("a host");
    let bytes = |mb: u64| (mb << 20) as f64;
    let version = &status.supervisor.version;
    for (name, value) in [
        ("queue_depth{model=\"syn\"}", 2.0),
        ("queue_depth{model=\"slow\"}", 0.0),
        ("workers{model=\"syn\",state=\"RUNNING\"}", 1.0),
        ("workers{model=\"syn\",state=\"STARTING\"}", 0.0),
        ("workers_busy{model=\"syn\"}", 1.0),
        ("workers{model=\"slow\",state=\"RUNNING\"}", 0.0),
        (
            "memory_bytes{device=\"host\",kind=\"limit\"}",
            bytes(host.limit_mb),
        ),
        (
            "memory_bytes{device=\"host\",kind=\"reserved\"}",
            bytes(host.reserved_mb),
        ),
        (&format!("build_info{{version=\"{version}\"}}"), 1.0),
    ] {
        assert_eq!(gauges.get(name), Some(&value), "{name} in {gauges:#?}");
    }
    assert!(gauges["queue_oldest_age_seconds"] > 0.0 && gauges["uptime_seconds"] > 0.0);
    calls
        .into_iter()
        .for_each(|call| drop(call.output().succeeded()));
    assert_eq!(self::gauges(&daemon)["queue_oldest_age_seconds"], 0.0);
}

#[test]
fn a_gpu_is_in_the_metrics_with_the_energy_of_its_pictures() {
    let settings = format!(
        "{}[pool]\ncold_start_workers = 1\n[models.syn]\nfamily = \"synthetic\"\n\
         params = {{ step_ms = 50, load_ms = 20, weights_mb = 1, device_mb = 300 }}\n",
        gpus::settings()
    );
    let sandbox = Sandbox::with_hostile_worker(&settings);
    let _gpus = PretendedGpus::of(&sandbox, &[1000]);
    let daemon = TestDaemon::start_in(sandbox);
    draw(&daemon, &request("syn", 20, 1));
    let energy = || scrape(&daemon, |kind| kind == "histogram");
    let count = "job_energy_joules_count{model=\"syn\"}";
    assert!(
        wait::until(PATIENCE, || energy().get(count) == Some(&1.0)),
        "{:#?}",
        energy()
    );
    // A second at 123 W, a little more on a busy machine.
    let joules = energy()["job_energy_joules_sum{model=\"syn\"}"];
    assert!((100.0..1000.0).contains(&joules), "{joules}");
    let gauges = gauges(&daemon);
    for (name, value) in [
        ("device_power_watts{device=\"cuda:0\"}", 123.0),
        ("device_temperature_celsius{device=\"cuda:0\"}", 41.0),
        ("device_state{device=\"cuda:0\",state=\"READY\"}", 1.0),
        ("device_state{device=\"cuda:0\",state=\"LOST\"}", 0.0),
    ] {
        assert_eq!(gauges.get(name), Some(&value), "{name} in {gauges:#?}");
    }
    assert!(
        gauges
            .keys()
            .any(|name| name.starts_with("device_info{device=\"cuda:0\""))
    );
}

#[test]
fn a_loop_that_stood_still_is_counted() {
    let daemon = TestDaemon::start(SETTINGS);
    draw(&daemon, &request("syn", 1, 1));
    check(&daemon, "a pause", &[("loop_stalls_total", 1)], |daemon| {
        processes::signal(daemon.pid(), Signal::SIGSTOP);
        wait::moments_of_chance(Duration::from_secs(2));
        processes::signal(daemon.pid(), Signal::SIGCONT);
    });
}

#[test]
fn every_metric_has_its_kind_and_help_and_no_text_of_a_request() {
    let daemon = TestDaemon::start(SETTINGS);
    let prompt = "a most private prompt";
    let wanted = ImageRequest {
        prompt: prompt.into(),
        ..request("syn", 1, 1)
    };
    draw(&daemon, &wanted);
    let _ = daemon.draw(&request(prompt, 1, 1)); // There is no such model.
    let text = daemon.http().get("/metrics").text();
    for metric in names::ALL {
        let metric = metric.describe();
        let name = format!("{}{}", PREFIX, metric.name);
        for line in [
            format!("# HELP {name} {}\n", metric.help),
            format!("# TYPE {name} "),
        ] {
            assert_eq!(text.matches(&line).count(), 1, "{line:?} in {text}");
        }
    }
    assert!(!text.contains("private"), "{text}");
}
