//! The rights of another user's client, and those of operators.

use std::os::unix::fs::chown;

use ipc_protocol::client::Update;
use nix::unistd::geteuid;
use tests::daemon::TestDaemon;
use tests::job::request;
use tests::sandbox::Sandbox;

/// A user that owns nothing here, in the daemon's group.
const NOBODY: u32 = 65534;
const SETTINGS: &str = "default_model = \"syn\"\n[pool]\ncold_start_workers = 1\n\
    [models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 100, load_ms = 1, weights_mb = 1 }\n";
/// Verbs that change the pool for all users.
const OPERATE: [&[&str]; 14] = [
    &["stop", "all"],
    &["start", "syn"],
    &["restart", "syn"],
    &["scale", "syn", "2"],
    &["pin", "syn"],
    &["unpin", "syn"],
    &["quarantine", "drop"],
    &["drain"],
    &["drain", "--undo"],
    &["clear", "all"],
    &["reread"],
    &["update"],
    &["reload"],
    &["tail", "syn"],
];

/// A daemon whose group may come in, with more of the `[socket]` section.
fn daemon(more: &str) -> TestDaemon {
    let sandbox = Sandbox::new(&format!("{SETTINGS}[socket]\nmode = \"0660\"\n{more}\n"));
    sandbox.open();
    TestDaemon::start_in(sandbox)
}

#[test]
fn another_user_may_draw_and_cancel_its_own_jobs_and_nothing_else() {
    let daemon = daemon("");
    let sandbox = &daemon.sandbox;
    let group = nix::unistd::getegid().as_raw();
    if !geteuid().is_root() {
        // Only root can be another user; the daemon's own user is an operator.
        for verb in OPERATE {
            daemon.imagepool(verb).succeeded();
        }
        return;
    }
    chown(sandbox.home(), Some(NOBODY), None).expect("root may");
    let socket = sandbox.socket().display().to_string();
    let other = |arguments: &[&str]| {
        sandbox.imagepool_as(NOBODY, group, &[&["--socket", &socket], arguments].concat())
    };
    for verb in OPERATE.into_iter().chain([&["shutdown"][..]]) {
        let output = other(verb).ended_with(4);
        // Verbs that take names answer each of them on stdout.
        let refused = String::from_utf8_lossy(&output.stdout) + output.stderr.as_str();
        assert!(refused.contains("user 65534 may not"), "{refused}");
        assert!(refused.contains("socket.operators"), "{refused}");
    }
    let mut client = daemon.client();
    let drawing = client.generate(&request("syn", 20, 1)).expect("accepted");
    let job = drawing.accepted.first.0.to_string();
    let refused = other(&["cancel", &job]).ended_with(4).stderr;
    assert!(refused.contains("another user's"), "{refused}");
    let mut finished = false;
    for update in drawing {
        match update.expect("the daemon stays") {
            Update::Picture(_) => finished = true,
            Update::Failed { failure, .. } => panic!("{failure}"),
            _ => {}
        }
    }
    assert!(finished, "the job went on");
    for question in [
        &["status"][..],
        &["jobs"],
        &["plan", "syn"],
        &["quarantine"],
    ] {
        other(question).succeeded();
    }
    other(&["generate", "a star", "--steps", "2", "-o", "other.png"]).succeeded();
    for name in ["uid:0", "no such user"] {
        other(&["generate", "a star", "-o", "b.png", "--as", name]).ended_with(4);
    }
    assert_eq!(daemon.status().supervisor.state, "serving");
}

#[test]
fn a_request_for_another_user_counts_for_a_user_that_exists() {
    // No user of this machine, but one of the settings.
    let unlisted = "4000000000";
    let quotas = format!("[users.\"*\"]\njobs_per_hour = 3\n[users.\"{unlisted}\"]\n");
    let daemon = TestDaemon::start(&format!("{SETTINGS}{quotas}"));
    let own = geteuid().to_string();
    let draw = |name: &str| {
        let line = ["generate", "a", "--steps", "1", "-f", "-o", "a.png", "--as"];
        daemon.imagepool(&[&line[..], &[name]].concat())
    };
    for name in ["alcie", "uid:4000000001", "token:none", "", "/bot"] {
        let refused = draw(name).ended_with(2).stderr;
        assert!(refused.starts_with("imagepool: user: "), "{refused}");
        assert!(
            refused.contains("neither a user of this machine"),
            "{refused}"
        );
    }
    // All these names are the same user, who has one quota.
    for name in [&own, &format!("uid:{own}"), &format!("{own}/bot")] {
        draw(name).succeeded();
    }
    let full = draw(&format!("{own}/another")).ended_with(75).stderr;
    assert!(full.contains("had 3 of 3 jobs"), "{full}");
    draw(unlisted).succeeded();
}

#[test]
fn an_operator_of_the_settings_may_operate() {
    operates(&format!("operators = [\"root\", {NOBODY}]"));
}

#[test]
fn a_user_in_a_group_of_the_settings_may_operate() {
    let group = nix::unistd::getegid().as_raw();
    operates(&format!("operators = [\"@{group}\"]"));
}

/// With these settings, another user in the daemon's group is an operator.
fn operates(operators: &str) {
    let daemon = daemon(operators);
    let socket = daemon.sandbox.socket().display().to_string();
    for verb in OPERATE {
        if geteuid().is_root() {
            let group = nix::unistd::getegid().as_raw();
            let arguments = [&["--socket", &socket], verb].concat();
            daemon
                .sandbox
                .imagepool_as(NOBODY, group, &arguments)
                .succeeded();
        } else {
            daemon.imagepool(verb).succeeded();
        }
    }
    assert_eq!(daemon.status().supervisor.state, "serving");
}
