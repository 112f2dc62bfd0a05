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
    shell(&sandbox, &[], "nonsense\nexit 3\nversion\n").ended_with(3);
    shell(&sandbox, &[], "nonsense\nquit 0\n").succeeded();
    let output = shell(&sandbox, &[], "exit now\nversion\n").ended_with(2);
    assert!(
        output.stderr.contains("exit takes an exit code"),
        "{output:?}"
    );
    assert!(stdout(&output).contains("imagepool 0"), "{output:?}");
    shell(&sandbox, &[], "").succeeded();
}

#[test]
fn a_line_that_is_not_text_is_an_error_and_the_next_one_runs() {
    let sandbox = Sandbox::new("");
    for (options, is_json) in [(&[][..], false), (&["--json"], true)] {
        let command = imagepool::command(&sandbox, options);
        let command = program::with_stdin(command, b"status \xff\nversion\n");
        let output = Call::start(command).output().ended_with(2);
        assert!(
            output.stderr.contains("stdin: a line is not UTF-8 text"),
            "{output:?}"
        );
        match is_json {
            false => assert!(stdout(&output).contains("imagepool 0"), "{output:?}"),
            true => {
                let json = output.json();
                assert_eq!(json[0]["error"]["kind"], "usage");
                assert!(json[1]["imagepool"].is_string(), "{json:?}");
            }
        }
    }
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
    let output = shell(&daemon.sandbox, &[], "generate -\nversion\n").ended_with(2);
    assert!(stdout(&output).contains("supervisor "), "{output:?}");
    assert!(
        output
            .stderr
            .starts_with("imagepool: prompt: `generate -` reads stdin, which is the shell's"),
        "{output:?}"
    );
    assert!(daemon.status().queue.is_empty());
    let pictures = std::fs::read_dir(daemon.sandbox.pictures()).expect("ours");
    assert_eq!(pictures.count(), 0);
}
