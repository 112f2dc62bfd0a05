//! Manual pages and completions: each command has a page, which has its examples.

use std::fs;

use tests::binaries::Binaries;
use tests::program::{self, Call};
use tests::sandbox::Sandbox;

/// Bash completes a model's name although no daemon runs.
fn completes_names(sandbox: &Sandbox, script: &str) {
    let imagepool = sandbox.binaries().imagepool();
    let folder = imagepool.parent().expect("it is in a folder").display();
    for (line, expected) in [
        ("imagepool start pock", "pocket-flux"),
        ("imagepool generate a -m flux", "flux-schnell"),
        ("imagepool stop s", "sd3.5-turbo"),
        ("imagepool vers", "version"),
    ] {
        let ask = format!(
            "PATH={folder}:$PATH\n{script}\nCOMP_LINE='{line}' COMP_POINT=${{#COMP_LINE}} COMP_WORDS=($COMP_LINE) \
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _imagepool_with_names imagepool \"${{COMP_WORDS[COMP_CWORD]}}\" x 2>/dev/null\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
        );
        let bash = program::command(std::path::Path::new("/bin/bash"), sandbox);
        let output = Call::start(program::with_stdin(bash, ask)).output();
        let text = output.succeeded().text();
        assert_eq!(text.trim(), expected, "{line}");
    }
}

#[test]
fn every_command_has_a_manual_page_with_examples_and_every_shell_its_completions() {
    let sandbox = Sandbox::new("");
    let folder = sandbox.home().join("manual");
    let mut command = program::command(&Binaries::manual(), &sandbox);
    command.arg(&folder);
    Call::start(command).output().succeeded();
    let help = sandbox.imagepool(&["-h"]).succeeded();
    let help = String::from_utf8(help.stdout).expect("text");
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    let names: Vec<&str> = commands
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(names.len() > 20, "{help}");
    let bash = folder.join("completions/bash/imagepool");
    let bash = fs::read_to_string(bash).expect("it was written");
    for name in names {
        let page = folder.join(format!("man/man1/imagepool-{name}.1"));
        let page = fs::read_to_string(page).unwrap_or_else(|error| panic!("{name}: {error}"));
        for section in ["NAME", "SYNOPSIS", "\"EXAMPLES\"", "\"SEE ALSO\""] {
            assert!(
                page.contains(&format!(".SH {section}\n")),
                "{section} in {name}: {page}"
            );
        }
        assert!(
            page.contains(&format!("\\fBimagepool {}", name.replace('-', "\\-"))),
            "{page}"
        );
        assert!(
            bash.contains(&format!("imagepool,{name})")),
            "{name} has no completion"
        );
    }
    let page = fs::read_to_string(folder.join("man/man1/imagepool.1")).expect("it was written");
    for section in ["EXIT STATUS", "ENVIRONMENT", "FILES"] {
        assert!(page.contains(&format!(".SH \"{section}\"\n")), "{page}");
    }
    let page = fs::read_to_string(folder.join("man/man8/supervisor.8")).expect("it was written");
    for section in ["NAME", "SYNOPSIS", "OPTIONS", "\"SIGNALS\"", "\"FILES\""] {
        assert!(page.contains(&format!(".SH {section}\n")), "{page}");
    }
    for option in ["config", "runtime\\-dir", "state\\-dir", "check\\-config"] {
        assert!(
            page.contains(&format!("\\-\\-{option}\\fR")),
            "{option}: {page}"
        );
    }
    completes_names(&sandbox, &bash);
    for file in ["zsh/_imagepool", "fish/imagepool.fish"] {
        let text =
            fs::read_to_string(folder.join("completions").join(file)).expect("it was written");
        assert!(
            text.contains("generate")
                && text.contains("doctor")
                && text.contains("imagepool complete-names"),
            "{file}"
        );
    }
}
