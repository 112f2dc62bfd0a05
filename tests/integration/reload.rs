//! `reread`, `update`, `reload`, `avail` and SIGHUP: new settings under running jobs.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use tests::daemon::TestDaemon;
use tests::http::from_base64;
use tests::job::{draw, request};
use tests::program::{Call, PATIENCE, ProgramOutput, command};
use tests::sandbox::Sandbox;
use tests::wait::{self, Stopwatch};

/// A refusal at once takes less than this: reading a settings file may take 30 s.
const AT_ONCE: Duration = Duration::from_secs(10);

/// The section of a synthetic model.
fn model(key: &str, rest: &str) -> String {
    format!(
        "[models.{key}]\nfamily = \"synthetic\"\nparams = {{ step_ms = 20, load_ms = 1, weights_mb = 1 }}\n{rest}\n"
    )
}

/// Settings with these models, and with lines of the section `[pool]`.
fn settings(pool: &str, models: &[String]) -> String {
    format!(
        "[pool]\ncold_start_workers = 1\n{pool}\n{}",
        models.concat()
    )
}

fn write(daemon: &TestDaemon, text: &str) {
    fs::write(daemon.sandbox.settings(), text).expect("our own folder");
}

fn text(output: &ProgramOutput) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn said(daemon: &TestDaemon, arguments: &[&str]) -> String {
    text(&daemon.imagepool(arguments).succeeded())
}

#[test]
fn reread_names_the_differences_and_changes_nothing() {
    let daemon = TestDaemon::start(&settings("", &[model("a", ""), model("b", "")]));
    assert_eq!(
        said(&daemon, &["reread"]),
        "No config updates to processes\n"
    );
    write(
        &daemon,
        &settings(
            "",
            &[model("b", "max_workers = 2"), model("c", "pinned = true")],
        ),
    );
    let differences = "a: disappeared\nb: changed\nc: available\n";
    for _ in 0..2 {
        assert_eq!(said(&daemon, &["reread"]), differences);
    }
    let json = daemon.imagepool(&["reread", "--json"]).succeeded().json();
    assert_eq!(json[1]["name"], "b");
    assert_eq!(json[1]["message"], "changed");
    let available = said(&daemon, &["avail"]);
    for line in [
        "a                                in use    manual    999:999",
        "b                                in use    manual    999:999",
        "c                                avail     auto      999:999",
    ] {
        assert!(
            available.lines().any(|other| other == line),
            "{line}: {available}"
        );
    }
    let json = daemon.imagepool(&["avail", "--json"]).succeeded();
    let json = json.json_list();
    let c = json
        .iter()
        .find(|model| model["name"] == "c")
        .expect("it is listed");
    assert_eq!(
        (c["in_use"].as_bool(), c["auto"].as_bool()),
        (Some(false), Some(true))
    );
    daemon
        .draw(&request("a", 1, 1))
        .expect("it is still offered");
    daemon
        .draw(&request("c", 1, 1))
        .expect_err("not before an update");
}

#[test]
fn update_adds_replaces_and_removes_by_difference_and_jobs_go_on() {
    let daemon = TestDaemon::start(&settings(
        "",
        &[model("a", ""), model("b", ""), model("z", "")],
    ));
    for key in ["a", "b", "z"] {
        daemon.imagepool(&["start", key]).succeeded();
    }
    let pids = daemon.worker_pids();
    let jobs = ["a", "b", "z"].map(|key| {
        let mut client = daemon.client();
        thread::spawn(move || draw(&mut client, &request(key, 60, 1), |_, _| {}))
    });
    assert!(wait::until(PATIENCE, || {
        let workers = daemon.status().workers;
        workers.iter().filter(|worker| worker.job.is_some()).count() == 3
    }));
    write(
        &daemon,
        &settings(
            "",
            &[
                model("b", "threads = 3"),
                model("c", ""),
                model("z", "max_workers = 2"),
            ],
        ),
    );
    assert_eq!(said(&daemon, &["update", "c"]), "c: added process group\n");
    let unknown = daemon.imagepool(&["update", "nobody"]).ended_with(1);
    assert_eq!(text(&unknown), "ERROR: no such group: nobody\n");
    let lines = "a: stopped\na: removed process group\nb: stopped\nb: updated process group\n\
        z: updated process group\n";
    assert_eq!(said(&daemon, &["update"]), lines);
    // It answers once the workers have left that finished their jobs.
    let left = daemon.worker_pids();
    assert!(
        left.contains(&pids[2]) || left.iter().any(|pid| pids.contains(pid)),
        "z's stays"
    );
    for job in jobs {
        job.join()
            .expect("no panic")
            .expect("its worker finished it");
    }
    assert_eq!(said(&daemon, &["update"]), "");
    daemon.draw(&request("a", 1, 1)).expect_err("it is gone");
    for key in ["b", "c", "z"] {
        daemon.draw(&request(key, 1, 1)).expect("it is offered");
    }
    assert_eq!(
        said(&daemon, &["reread"]),
        "No config updates to processes\n"
    );
}

#[test]
fn a_reload_under_load_loses_no_job_and_lifts_stops() {
    let daemon = TestDaemon::start(&settings(
        "queue_per_model = 40",
        &[model("a", ""), model("b", "")],
    ));
    daemon.imagepool(&["stop", "b"]).succeeded();
    daemon
        .imagepool(&["generate", "x", "-m", "b", "-o", "b.png"])
        .ended_with(75);
    let jobs: Vec<_> = (0..12)
        .map(|seed| {
            let mut client = daemon.client();
            thread::spawn(move || draw(&mut client, &request("a", 20, seed), |_, _| {}))
        })
        .collect();
    for round in 0..6 {
        let idle = format!("queue_per_model = 40\nidle_seconds = {}", 30 + round);
        let threads = format!("threads = {}", 1 + round % 3);
        write(
            &daemon,
            &settings(&idle, &[model("a", &threads), model("b", "")]),
        );
        let lines = said(&daemon, &["reload"]);
        let last = format!("Reloaded {}", daemon.sandbox.settings().display());
        assert_eq!(lines.lines().last(), Some(last.as_str()), "{lines}");
        assert!(
            round == 0 || lines.starts_with("a: updated process group\n"),
            "{lines}"
        );
    }
    for job in jobs {
        job.join().expect("no panic").expect("no job is lost");
    }
    daemon
        .draw(&request("b", 1, 1))
        .expect("the stop is lifted");
    daemon.stderr.wait_for("Settings reloaded", 6, PATIENCE);
}

#[test]
fn a_bad_settings_file_is_refused_whole_and_named_with_its_fault() {
    let good = settings("", &[model("a", "")]);
    let mut daemon = TestDaemon::start(&good);
    let file = daemon.sandbox.settings().display().to_string();
    for (bad, fault) in [
        (
            "[pool]\nidle_secnds = 1\n",
            "line 2: unknown setting `idle_secnds`",
        ),
        ("[pool]\nidle_seconds = -1\n", "pool.idle_seconds = -1"),
        (
            "[models.c]\nfamily = \"synthetic\"\n[models.a]\nfamily = \"nothing\"\n",
            "family = \"nothing\"",
        ),
    ] {
        write(&daemon, bad);
        for verb in ["reread", "update", "reload", "avail"] {
            let output = daemon.imagepool(&[verb]).ended_with(1);
            let line = text(&output);
            assert!(
                line.starts_with(&format!("ERROR: CANT_REREAD: {file}: ")),
                "{verb}: {line}"
            );
            assert!(line.contains(fault), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
        for verb in ["reload", "avail"] {
            let json = daemon.imagepool(&[verb, "--json"]).ended_with(1).json();
            let error = &json[0]["error"];
            assert_eq!(error["kind"], "bad_settings");
            let message = error["message"].as_str().expect("it has an error");
            assert!(message.starts_with("CANT_REREAD: "), "{message}");
            assert_eq!(json[0]["verb"], verb);
        }
    }
    daemon.signal(Signal::SIGHUP);
    daemon.stderr.wait_for("Settings not reloaded", 7, PATIENCE);
    fs::remove_file(daemon.sandbox.settings()).expect("ours");
    for verb in ["reread", "update", "reload", "avail"] {
        let missing = text(&daemon.imagepool(&[verb]).ended_with(1));
        assert!(
            missing.contains(&file) && missing.contains("cannot read"),
            "{missing}"
        );
    }
    daemon
        .draw(&request("a", 1, 1))
        .expect("nothing has changed");
    write(&daemon, &good);
    assert_eq!(
        said(&daemon, &["reread"]),
        "No config updates to processes\n"
    );
}

#[test]
fn a_pipe_or_a_device_in_place_of_the_settings_file_is_refused_at_once() {
    let good = settings("", &[model("a", "")]);
    let daemon = TestDaemon::start(&good);
    let file = daemon.sandbox.settings();
    let replaced_by: [(&str, &dyn Fn()); 2] = [
        ("a pipe", &|| {
            nix::unistd::mkfifo(&file, Mode::S_IRUSR | Mode::S_IWUSR).expect("our own folder");
        }),
        ("a device", &|| {
            std::os::unix::fs::symlink("/dev/zero", &file).expect("our own folder");
        }),
    ];
    for (what, replace) in replaced_by {
        fs::remove_file(&file).expect("ours");
        replace();
        for verb in ["reread", "update", "reload", "avail"] {
            let begun = Stopwatch::start();
            let line = text(&daemon.imagepool(&[verb]).ended_with(1));
            assert!(line.starts_with("ERROR: CANT_REREAD: "), "{what}: {line}");
            assert!(line.contains("not a regular file"), "{what}: {line}");
            assert!(begun.passed() < AT_ONCE, "{what}: {verb}");
        }
        // A daemon does not start with it either.
        let begun = Stopwatch::start();
        let program = &daemon.sandbox.binaries().supervisor();
        let mut start = command(program, &daemon.sandbox);
        start.arg("--config").arg(&file).arg("--check-config");
        let refused = Call::start(start).output().ended_with(1);
        assert!(
            refused.stderr.contains("not a regular file"),
            "{}",
            refused.stderr
        );
        assert!(begun.passed() < AT_ONCE, "{what}");
    }
    fs::remove_file(&file).expect("ours");
    write(&daemon, &good);
    assert_eq!(
        said(&daemon, &["reload"]),
        format!("Reloaded {}\n", file.display())
    );
}

/// The job of every worker, by pid.
fn busy(daemon: &TestDaemon) -> Vec<(u32, u64)> {
    let workers = daemon.status().workers.into_iter();
    let with_job = workers.filter_map(|worker| Some((worker.pid?, worker.job?.id.0)));
    with_job.collect()
}

#[test]
fn a_new_step_time_of_a_synthetic_model_replaces_its_workers() {
    let paced = |step_ms: u32| {
        format!(
            "[models.a]\nfamily = \"synthetic\"\nparams = {{ step_ms = {step_ms}, load_ms = 1, weights_mb = 1 }}\n"
        )
    };
    let daemon = TestDaemon::start(&settings("", &[paced(20)]));
    daemon.imagepool(&["start", "a"]).succeeded();
    let before = daemon.worker_pids();
    for (verb, step_ms) in [("update", 21), ("reload", 22)] {
        let before = daemon.worker_pids();
        write(&daemon, &settings("", &[paced(step_ms)]));
        let line = "a: updated process group";
        assert!(
            said(&daemon, &[verb]).lines().any(|said| said == line),
            "{verb}"
        );
        let replaced = || {
            let now = daemon.worker_pids();
            !now.is_empty() && now.iter().all(|pid| !before.contains(pid))
        };
        assert!(wait::until(PATIENCE, replaced), "{verb}: {before:?}");
    }
    // The new value counts: 40 steps of 200 ms.
    write(&daemon, &settings("", &[paced(200)]));
    said(&daemon, &["update"]);
    let begun = Stopwatch::start();
    daemon.draw(&request("a", 10, 1)).expect("it is offered");
    assert!(begun.passed() >= Duration::from_secs(2), "{before:?}");
}

#[test]
fn update_waits_for_every_accepted_job_of_a_removed_model_and_so_does_a_second_one() {
    let daemon = TestDaemon::start(&settings(
        "max_workers_per_model = 1",
        &[model("a", ""), model("b", "")],
    ));
    let jobs: Vec<_> = (0..4)
        .map(|seed| {
            let mut client = daemon.client();
            thread::spawn(move || draw(&mut client, &request("a", 40, seed), |_, _| {}))
        })
        .collect();
    assert!(wait::until(PATIENCE, || daemon.status().queue.len() == 4));
    assert!(wait::until(PATIENCE, || !busy(&daemon).is_empty()));
    let worker = busy(&daemon)[0].0;
    write(
        &daemon,
        &settings("max_workers_per_model = 1", &[model("b", "")]),
    );
    let begun = Stopwatch::start();
    thread::scope(|scope| {
        let update = || scope.spawn(|| (said(&daemon, &["update"]), begun.passed()));
        let first = update();
        let leaving = || {
            let status = said(&daemon, &["status"]);
            status.contains("no longer offered") && status.contains("a:0 ")
        };
        assert!(wait::until(PATIENCE, leaving));
        let second = update();
        let refused = daemon.draw(&request("a", 1, 9)).expect_err("nothing new");
        assert!(refused.to_string().contains("no model called"), "{refused}");
        assert!(
            busy(&daemon).iter().any(|(pid, _)| *pid == worker),
            "it stays"
        );
        for job in jobs {
            job.join().expect("no panic").expect("it was accepted");
        }
        let drawn = begun.passed();
        let lines = "a: stopped\na: removed process group\n";
        for update in [first, second] {
            let (said, ended) = update.join().expect("no panic");
            assert_eq!(said, lines);
            assert!(
                ended + Duration::from_millis(300) > drawn,
                "it waits for the jobs"
            );
        }
    });
    let status = said(&daemon, &["status"]);
    assert!(!status.contains("a:0 "), "{status}");
    assert_eq!(said(&daemon, &["update"]), "");
}

#[test]
fn a_removed_model_that_comes_back_keeps_its_worker_and_the_first_update_says_so() {
    let both = settings("", &[model("a", ""), model("b", "")]);
    let daemon = TestDaemon::start(&both);
    let mut client = daemon.client();
    let job = thread::spawn(move || draw(&mut client, &request("a", 60, 1), |_, _| {}));
    assert!(wait::until(PATIENCE, || !busy(&daemon).is_empty()));
    let worker = busy(&daemon)[0].0;
    write(&daemon, &settings("", &[model("b", "")]));
    thread::scope(|scope| {
        let first = scope.spawn(|| daemon.imagepool(&["update"]));
        let leaving = || said(&daemon, &["status"]).contains("no longer offered");
        assert!(wait::until(PATIENCE, leaving));
        write(&daemon, &both);
        assert_eq!(said(&daemon, &["update"]), "a: added process group\n");
        let first = first.join().expect("no panic").ended_with(1);
        assert_eq!(text(&first), "a: ERROR (another update undid the change)\n");
    });
    job.join().expect("no panic").expect("it was accepted");
    daemon.draw(&request("a", 1, 2)).expect("it is offered");
    assert!(daemon.worker_pids().contains(&worker), "its worker stays");
}

#[test]
fn a_reload_that_removes_a_model_lets_its_jobs_end_and_says_so() {
    let daemon = TestDaemon::start(&settings("", &[model("a", ""), model("b", "")]));
    let mut client = daemon.client();
    let job = thread::spawn(move || draw(&mut client, &request("a", 60, 1), |_, _| {}));
    assert!(wait::until(PATIENCE, || !busy(&daemon).is_empty()));
    write(&daemon, &settings("", &[model("b", "")]));
    let lines = said(&daemon, &["reload"]);
    let expected = "a: removed process group\na: finishes its jobs first\nReloaded ";
    assert!(lines.starts_with(expected), "{lines}");
    // An update has nothing to change, and waits for what the reload began.
    let waited = said(&daemon, &["update"]);
    assert_eq!(waited, "a: stopped\na: removed process group\n");
    job.join().expect("no panic").expect("it was accepted");
}

#[test]
fn the_http_door_follows_the_size_limit_and_the_metadata_of_a_reload() {
    let with = |most: u64, metadata: bool| {
        let general = format!("[limits]\nmax_pixels = {most}\n[pictures]\nmetadata = {metadata}\n");
        format!("{general}{}", settings("", &[model("a", "")]))
    };
    let daemon = TestDaemon::start(&with(1 << 20, true));
    let drawn = |side: u32| {
        let size = format!("{side}x{side}");
        let body = serde_json::json!({
            "model": "a", "prompt": "a fox", "size": size, "response_format": "b64_json",
        });
        daemon.http().post("/v1/images/generations", &body)
    };
    let has_mark = |side: u32| {
        let answer = drawn(side);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let file = from_base64(&answer.json()["data"][0]["b64_json"]);
        file.windows(9).any(|part| part == b"imagepool")
    };
    assert!(has_mark(128));
    write(&daemon, &with(64 * 64, false));
    daemon.imagepool(&["reload"]).succeeded();
    let refused = drawn(128);
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(
        refused.text().contains("limits.max_pixels = 4096"),
        "{}",
        refused.text()
    );
    assert!(!has_mark(64));
    write(&daemon, &with(256 * 256, true));
    daemon.imagepool(&["reload"]).succeeded();
    assert!(has_mark(256));
}

#[test]
fn settings_that_need_a_restart_are_named_and_the_others_apply() {
    let daemon = TestDaemon::start(&settings("", &[model("a", "")]));
    write(
        &daemon,
        &format!(
            "segment = \"named\"\n{}[memory]\nlimit_percent = 50\n[limits]\nprompt_bytes = 20\n",
            settings("", &[model("a", "")])
        ),
    );
    let lines = said(&daemon, &["reload"]);
    let expected = format!(
        "segment: needs a restart\nmemory.limit_percent: needs a restart\nReloaded {}\n",
        daemon.sandbox.settings().display()
    );
    assert_eq!(lines, expected);
    let json = daemon.imagepool(&["reload", "--json"]).succeeded().json();
    assert_eq!(json[0]["name"], "segment");
    assert_eq!(json[0]["message"], "needs a restart");
    let refused = daemon.imagepool(&[
        "generate",
        "a prompt of more than 20 bytes",
        "-m",
        "a",
        "-o",
        "a.png",
    ]);
    assert!(refused.ended_with(2).stderr.contains("prompt"));
}

#[test]
fn sighup_reloads_and_the_record_can_be_replayed() {
    let sandbox = Sandbox::new(&settings("", &[model("a", "")]));
    let mut daemon = TestDaemon::start_recorded_in(sandbox);
    daemon.draw(&request("a", 1, 1)).expect("a good request");
    write(
        &daemon,
        &settings("min_workers = 1", &[model("a", ""), model("n", "")]),
    );
    daemon.signal(Signal::SIGHUP);
    daemon.stderr.wait_for("Settings reloaded", 1, PATIENCE);
    // Every model keeps a worker now.
    assert!(wait::until(PATIENCE, || {
        let workers = daemon.status().workers;
        workers.iter().any(|worker| worker.model.as_str() == "n")
    }));
    daemon.draw(&request("n", 1, 1)).expect("it was added");
    let record = daemon.recorded();
    let changed = |event: &pool::Event| matches!(event, pool::Event::SettingsChanged { .. });
    assert_eq!(
        record
            .events
            .iter()
            .filter(|line| changed(&line.event))
            .count(),
        1
    );
}

#[test]
fn a_token_of_the_http_door_is_replaced_by_a_reload() {
    let sandbox = Sandbox::new("");
    let token = |name: &str, secret: &str| {
        let file = sandbox.home().join(name);
        fs::write(&file, secret).expect("our own folder");
        format!("[http.tokens.{name}]\nfile = {file:?}\nrights = [\"generate\"]\n")
    };
    let (old, new) = ("0123456789abcdef-old", "0123456789abcdef-new");
    let (old_section, new_section) = (token("old", old), token("new", new));
    let listen = "[http]\nlisten = \"127.0.0.1:0\"\n";
    let with = |section: &str| format!("{listen}{section}{}", model("a", ""));
    fs::write(sandbox.settings(), with(&old_section)).expect("our own folder");
    let daemon = TestDaemon::start_in(sandbox);
    let status = |secret: &str| {
        let client = daemon.http_tcp().with_token(secret);
        client.get("/v1/models").status
    };
    assert_eq!((status(old), status(new)), (200, 401));
    write(&daemon, &with(&new_section));
    daemon.imagepool(&["reload"]).succeeded();
    assert_eq!((status(old), status(new)), (401, 200));
    // A token that can be guessed refuses the whole file.
    fs::write(daemon.sandbox.home().join("new"), "short").expect("ours");
    let refused = text(&daemon.imagepool(&["reload"]).ended_with(1));
    assert!(refused.starts_with("ERROR: CANT_REREAD: "), "{refused}");
    assert_eq!(status(new), 200, "it stays valid");
}
