//! Output of pictures and messages: stdout without a reader, devices, pipes, links, terminals.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::process::Stdio;
use std::thread::{self, JoinHandle};

use nix::pty::openpty;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tests::daemon::TestDaemon;
use tests::imagepool;
use tests::program::{self, Call, ProgramOutput};
use tests::sandbox::Sandbox;

/// A model that draws in no time.
const QUICK: &str = "default_model = \"syn\"\n[models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 1, load_ms = 1, weights_mb = 1 }\n";

/// Runs a command whose stdout is `stdout`.
fn run(daemon: &TestDaemon, arguments: &[&str], stdout: impl Into<Stdio>) -> ProgramOutput {
    let mut command = imagepool::command(&daemon.sandbox, arguments);
    command.stdout(stdout);
    Call::start(command).output()
}

/// A pipe whose reader has left.
fn closed_pipe() -> Stdio {
    let (_, writer) = io::pipe().expect("a pipe");
    writer.into()
}

/// A disk without room.
fn full() -> File {
    File::create("/dev/full").expect("every system has it")
}

fn jobs_done(daemon: &TestDaemon) -> u64 {
    let workers = daemon.status().workers;
    workers.iter().map(|worker| worker.jobs_done).sum()
}

#[test]
fn every_picture_is_finished_when_the_reader_of_stdout_leaves() {
    let daemon = TestDaemon::start(QUICK);
    for json in [&[][..], &["--json"]] {
        let line = [&["generate", "a", "-n", "6", "-f", "-o", "a.png"], json].concat();
        let output = run(&daemon, &line, closed_pipe()).ended_with(1);
        assert_eq!(output.stderr, "");
        for number in 1..=6 {
            let file = daemon.sandbox.pictures().join(format!("a-{number}.png"));
            fs::remove_file(&file).expect("each picture was written");
        }
    }
}

#[test]
fn output_that_a_full_stdout_does_not_take_is_an_error() {
    let daemon = TestDaemon::start(QUICK);
    let commands: [&[&str]; 8] = [
        &["generate", "a", "-f", "-o", "a.png"],
        &["generate", "a", "-f", "-o", "a.png", "--json"],
        &["generate", "a", "-o", "-"],
        &["status"],
        &["status", "--json"],
        &["pid"],
        &["version"],
        &["models"],
    ];
    for arguments in commands {
        let output = run(&daemon, arguments, full()).ended_with(1);
        let told = output.stderr.contains("output: stdout: No space left");
        assert!(told, "{arguments:?}: {}", output.stderr);
        assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
    }
    let output = run(&daemon, &["status"], closed_pipe()).ended_with(1);
    assert_eq!(output.stderr, "");
    daemon.imagepool(&["status"]).succeeded();
    let program = daemon.sandbox.binaries().supervisor();
    for stdout in [closed_pipe(), full().into()] {
        let mut command = program::command(&program, &daemon.sandbox);
        command.arg("--check-config").stdout(stdout);
        let output = Call::start(command).output().ended_with(1);
        assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
    }
}

#[test]
fn settings_may_come_from_windows() {
    let settings = format!("\u{feff}{}", QUICK.replace('\n', "\r\n"));
    let sandbox = Sandbox::new(&settings);
    let models = sandbox.imagepool(&["models", "--json"]).succeeded();
    let models = models.json_list();
    assert!(
        models.iter().any(|model| model["key"] == "syn"),
        "{models:?}"
    );
}

#[test]
fn a_stderr_without_a_reader_changes_no_exit_code() {
    let daemon = TestDaemon::start(QUICK);
    let warned = ["generate", "a", "-f", "-o", "a.jpg", "--format", "png"];
    let refused = ["generate", "a", "--steps", "x"];
    for (arguments, code) in [(&warned[..], 0), (&refused, 2), (&["status", "nobody"], 4)] {
        for stderr in [closed_pipe(), full().into()] {
            let mut command = imagepool::command(&daemon.sandbox, arguments);
            command.stderr(stderr);
            assert_eq!(Call::start(command).output().code, code, "{arguments:?}");
        }
    }
}

#[test]
fn devices_and_pipes_are_written_to_and_not_replaced() {
    let daemon = TestDaemon::start(QUICK);
    let draw = |output: &str, more: &[&str]| {
        let line = ["generate", "a", "--seed", "3", "-o", output];
        daemon.imagepool(&[&line[..], more].concat()).succeeded()
    };
    draw("a.png", &[]);
    let picture = fs::read(daemon.sandbox.pictures().join("a.png")).expect("it was written");
    draw("/dev/null", &[]);
    draw("/dev/null", &["-n", "2"]);
    let null = fs::metadata("/dev/null").expect("still there").file_type();
    assert!(null.is_char_device());
    assert!(draw("/dev/stdout", &[]).stdout == picture);

    let pipe = daemon.sandbox.pictures().join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).expect("our own folder");
    let reader = thread::spawn({
        let pipe = pipe.clone();
        move || fs::read(pipe).expect("a pipe can be read")
    });
    draw("pipe", &[]);
    assert!(reader.join().expect("it only reads") == picture);
    assert!(
        fs::metadata(pipe)
            .expect("still there")
            .file_type()
            .is_fifo()
    );
}

#[test]
fn what_cannot_be_written_is_found_before_a_job_is_sent() {
    let daemon = TestDaemon::start(QUICK);
    let folder = daemon.sandbox.pictures();
    fs::write(folder.join("old.png"), "old").expect("our own folder");
    fs::create_dir(folder.join("folder")).expect("our own folder");
    symlink("nowhere/a.png", folder.join("lost.png")).expect("our own folder");
    symlink("later.png", folder.join("dangling.png")).expect("our own folder");
    symlink("old.png", folder.join("link.png")).expect("our own folder");
    let long = format!("{}.png", "x".repeat(300));
    let unwritable = [
        &long,
        "new/",
        "folder",
        "lost.png",
        "/proc/a.png",
        "old.png/a.png",
    ];
    for output in unwritable {
        let said = daemon
            .imagepool(&["generate", "a", "-f", "-o", output])
            .ended_with(1);
        assert!(
            said.stderr.starts_with("imagepool: output: "),
            "{}",
            said.stderr
        );
    }
    for output in ["old.png", "link.png", "dangling.png", "a.bmp", "a.png.txt"] {
        let said = daemon
            .imagepool(&["generate", "a", "-o", output])
            .ended_with(2);
        assert!(
            said.stderr.starts_with("imagepool: output: "),
            "{}",
            said.stderr
        );
    }
    assert_eq!(jobs_done(&daemon), 0);
    daemon
        .imagepool(&["generate", "a", "-f", "-o", "link.png"])
        .succeeded();
    assert!(folder.join("link.png").is_symlink());
    let drawn = fs::read(folder.join("old.png")).expect("behind the link");
    assert!(drawn.starts_with(b"\x89PNG"));
}

#[test]
fn a_format_that_contradicts_the_name_is_reported_and_holds() {
    let daemon = TestDaemon::start(QUICK);
    let said = daemon
        .imagepool(&["generate", "a", "-o", "a.jpg", "--format", "png"])
        .succeeded();
    assert!(
        said.stderr.contains("a.jpg will be written as PNG"),
        "{}",
        said.stderr
    );
    let file = fs::read(daemon.sandbox.pictures().join("a.jpg")).expect("it was written");
    assert!(file.starts_with(b"\x89PNG"));
    let quiet = [
        "generate", "a", "-q", "-f", "-o", "a.jpg", "--format", "png",
    ];
    assert_eq!(daemon.imagepool(&quiet).succeeded().stderr, "");
}

#[test]
fn a_picture_is_not_written_onto_a_terminal_unless_by_force() {
    let daemon = TestDaemon::start(QUICK);
    let terminal = openpty(None, None).expect("a pseudo-terminal");
    let slave = || terminal.slave.try_clone().expect("a descriptor");
    for output in ["-", "/dev/stdout"] {
        let said = run(&daemon, &["generate", "a", "-o", output], slave()).ended_with(2);
        let told = said
            .stderr
            .starts_with("imagepool: output: stdout is a terminal");
        assert!(told, "{}", said.stderr);
    }
    assert_eq!(jobs_done(&daemon), 0);
    let seen = follow(terminal.master);
    let line = ["generate", "a", "-f", "--size", "64x64", "-o", "-"];
    run(&daemon, &line, slave()).succeeded();
    drop(terminal.slave);
    let seen = seen.join().expect("it only reads");
    assert!(seen.starts_with(b"\x89PNG"), "{} bytes", seen.len());
}

/// Everything that a terminal shows, until no other descriptor of it is open.
fn follow(master: OwnedFd) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // It ends with an error where the other side is closed.
        let _ = File::from(master).read_to_end(&mut bytes);
        bytes
    })
}

#[test]
fn a_prompt_from_stdin_is_bounded_and_may_come_from_windows() {
    let daemon = TestDaemon::start(QUICK);
    let draw = |stdin: File, output: &str| {
        let line = ["generate", "-", "--seed", "1", "-o", output];
        let mut command = imagepool::command(&daemon.sandbox, &line);
        command.stdin(stdin);
        Call::start(command).output()
    };
    let endless = File::open("/dev/zero").expect("every system has it");
    let said = draw(endless, "endless.png").ended_with(2);
    assert!(
        said.stderr.starts_with("imagepool: prompt: "),
        "{}",
        said.stderr
    );
    let folder = daemon.sandbox.pictures();
    let drawn = |text: &[u8], output: &str| {
        fs::write(folder.join("prompt.txt"), text).expect("our own folder");
        let file = File::open(folder.join("prompt.txt")).expect("just written");
        draw(file, output).succeeded();
        fs::read(folder.join(output)).expect("it was written")
    };
    let plain = drawn(b"a red circle", "plain.png");
    let windows = drawn(b"\xef\xbb\xbfa red circle\r\n", "windows.png");
    assert!(plain == windows, "the receipts name the same prompt");
}

#[test]
fn the_bar_of_a_terminal_has_a_rate_and_says_decoding_instead_of_no_time_left() {
    let daemon = TestDaemon::start("[pool]\ncold_start_workers = 1");
    let terminal = openpty(None, None).expect("a pseudo-terminal");
    let mut command = imagepool::command(
        &daemon.sandbox,
        &[
            "generate",
            "a red circle",
            "-n",
            "2",
            "--steps",
            "8",
            "-o",
            "a.png",
        ],
    );
    command.env("TERM", "xterm").stderr(terminal.slave);
    let seen = follow(terminal.master);
    Call::start(command).output().succeeded();
    let seen = String::from_utf8_lossy(&seen.join().expect("it only reads")).into_owned();
    for part in ["/16", " steps/s", " left", "  decoding"] {
        assert!(seen.contains(part), "{part:?} is missing in {seen:?}");
    }
    for part in ["0s left", " 0.0 s left"] {
        assert!(!seen.contains(part), "{part:?} is in {seen:?}");
    }
}
