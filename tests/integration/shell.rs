//! The shell: commands from a pipe, with the exit code of the last that failed.

use tests::daemon::TestDaemon;
use tests::imagepool;
use tests::program::{self, Call, ProgramOutput};
use tests::sandbox::Sandbox;

const QUICK: &str = "default_model = \"syn\"\n[models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 1, load_ms = 1, weights_mb = 1 }\n";

/// Runs the shell with these lines.
fn shell(sandbox: &Sandbox, options: &[&str], lines: &str) -> ProgramOutput {
    let command = imagepool::command(sandbox, options);
    Call::start(program::with_stdin(command, lines)).output()
}

fn stdout(output: &ProgramOutput) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn lines_run_as_commands_and_the_last_failure_is_the_exit_code() {
    let daemon = TestDaemon::start(QUICK);
    let lines = "generate 'a red fox' -o \"my fox.png\"\n\n# a comment\nstatus syn\n";
    let output = shell(&daemon.sandbox, &["-q"], lines).succeeded();
    assert!(daemon.sandbox.pictures().join("my fox.png").is_file());
    assert!(stdout(&output).contains("syn:0 "), "{output:?}");
    // 4 of `status nobody`; the success afterwards does not hide it.
    let lines = "nonsense\nstatus nobody\nversion\n";
    let output = shell(&daemon.sandbox, &[], lines).ended_with(4);
    assert!(stdout(&output).contains("nobody: ERROR"), "{output:?}");
    assert!(
        output.stderr.contains("unknown command \"nonsense\""),
        "{output:?}"
    );
}

#[test]
fn no_command_ends_the_shell_and_quit_does() {
    let sandbox = Sandbox::new("");
    let lines = "status\ngenerate\nhelp status\ngenerate 'a\nversion\nquit\nversion\n";
    let output = shell(&sandbox, &[], lines).ended_with(2);
    let text = stdout(&output);
    assert_eq!(text.matches("\nimagepool 0").count(), 1, "{text}");
    assert!(text.contains("Examples:\n  imagepool status\n"), "{text}");
    assert!(output.stderr.contains("no daemon answers"), "{output:?}");
    assert!(
        output.stderr.contains("a quote is not closed"),
        "{output:?}"
    );
    shell(&sandbox, &[], "exit\nnonsense\n").succeeded();
    shell(&sandbox, &[], "").succeeded();
}

#[test]
fn the_shells_options_are_those_of_each_command() {
    let daemon = TestDaemon::start(QUICK);
    let socket = daemon.sandbox.socket();
    let socket = socket.to_str().expect("a plain path");
    let output = shell(
        &daemon.sandbox,
        &["--socket", socket, "--json"],
        "status\nversion\n",
    );
    let objects = output.succeeded().json();
    assert_eq!(objects[0]["supervisor"]["pid"], daemon.pid());
    assert_eq!(objects[1]["supervisor"]["pid"], daemon.pid());
    let output = shell(
        &daemon.sandbox,
        &["--socket", "/nowhere/pool.sock"],
        "status\n",
    );
    output.ended_with(7);
}

#[test]
fn a_command_does_not_read_the_lines_that_follow() {
    let daemon = TestDaemon::start(QUICK);
    let output = shell(&daemon.sandbox, &[], "generate -\nversion\n").succeeded();
    assert!(stdout(&output).contains("supervisor "), "{output:?}");
}
