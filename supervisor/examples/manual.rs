//! Writes the manual pages and the shells' completions, for `scripts/manual`.
//!
//! An example and no part of the program: what it needs is in no program that is installed.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;

use clap_complete::aot::{Shell, generate};
use clap_mangen::Man;
use supervisor::cli::args;
use supervisor::cli::examples::{self, Example};
use supervisor::cli::exit_codes::EXIT_CODES;
use supervisor::daemon::arguments;

/// A section of a page: its heading, and its terms with a sentence each.
type Section<'a> = (&'a str, &'a [(&'a str, &'a str)]);

/// Facts of all commands, for the program's own page.
const COMMON: &[Section<'_>] = &[
    ("EXIT STATUS", EXIT_CODES),
    (
        "ENVIRONMENT",
        &[
            ("IMAGEPOOL_SOCKET", "the daemon's socket, like --socket"),
            ("IMAGEPOOL_CONFIG", "the settings file"),
            ("NO_COLOR", "if it is not empty, the output has no colours"),
        ],
    ),
    ("FILES", FILES),
    ("SEE ALSO", &[("supervisor(8)", "the daemon")]),
];

const FILES: &[(&str, &str)] = &[
    (
        "$XDG_RUNTIME_DIR/imagepool/pool.sock",
        "the socket of a user's daemon; http.sock beside it is its HTTP door",
    ),
    ("/run/imagepool/pool.sock", "the socket of the service"),
    (
        "$XDG_CONFIG_HOME/imagepool/imagepool.toml",
        "a user's settings",
    ),
    (
        "/etc/imagepool/imagepool.toml",
        "the settings of the service",
    ),
    (
        "$XDG_STATE_HOME/imagepool, /var/lib/imagepool",
        "the state of a user's daemon and of the service: the obituaries of crashed workers",
    ),
];

/// Facts of the daemon, for its page.
const OF_DAEMON: &[Section<'_>] = &[
    (
        "EXAMPLES",
        &[
            ("supervisor", "serves the models of the default settings"),
            (
                "supervisor --config pool.toml --check-config",
                "checks a settings file and the models in it",
            ),
        ],
    ),
    (
        "SIGNALS",
        &[
            (
                "SIGTERM, SIGINT",
                "finishes the accepted jobs within pool.drain_seconds, then exits; a second one cancels them",
            ),
            (
                "SIGHUP",
                "applies the settings file, as `imagepool reload` does",
            ),
        ],
    ),
    (
        "EXIT STATUS",
        &[
            ("0", "it was shut down, or the settings are valid"),
            ("1", "it cannot serve: the last line on stderr says why"),
            ("2", "wrong usage"),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            (
                "IMAGEPOOL_CONFIG",
                "the settings file, if --config names none",
            ),
            ("IMAGEPOOL_LOG", "the filter of log lines, like --log-level"),
            (
                "RUNTIME_DIRECTORY, STATE_DIRECTORY, CACHE_DIRECTORY",
                "the folders that systemd(1) made for the service",
            ),
            (
                "NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS",
                "the protocols of systemd(1) for readiness, watchdog and sockets",
            ),
        ],
    ),
    ("FILES", FILES),
    (
        "SEE ALSO",
        &[("imagepool(1)", "draws pictures and operates the daemon")],
    ),
];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("usage: manual OUT_DIR")?;
    let folder = Path::new(&folder);
    let pages = folder.join("man/man1");
    fs::create_dir_all(&pages)?;
    let mut program = args::definition().disable_help_subcommand(true);
    program.build();
    write_pages(&program, &[], &pages)?;
    write_page_of_daemon(&folder.join("man/man8"))?;
    for (shell, file) in [
        (Shell::Bash, "bash/imagepool"),
        (Shell::Zsh, "zsh/_imagepool"),
        (Shell::Fish, "fish/imagepool.fish"),
    ] {
        let path = folder.join("completions").join(file);
        fs::create_dir_all(path.parent().ok_or("it has a folder")?)?;
        let mut script = Vec::new();
        generate(shell, &mut args::definition(), "imagepool", &mut script);
        fs::write(path, with_names(shell, String::from_utf8(script)?))?;
    }
    Ok(())
}

/// Completes the names of models, workers and jobs in bash: `imagepool complete-names` lists those that may follow. Bash
/// breaks words at colons.
const NAMES_IN_BASH: &str = r#"
_imagepool_with_names() {
    _imagepool "$@"
    local word=${COMP_LINE:0:COMP_POINT} before= name
    word=${word##* }
    case $word in
        -*) return 0 ;;
        *:*) before=${word%:*}: ;;
    esac
    local -a names=()
    while IFS= read -r name; do
        names+=("${name#"$before"}")
    done < <("$1" complete-names -- "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
    [[ ${#names[@]} -eq 0 ]] || COMPREPLY=("${names[@]}")
}
complete -F _imagepool_with_names -o bashdefault -o default imagepool
"#;

/// The same in fish, beside its own completions.
const NAMES_IN_FISH: &str = r#"
complete -c imagepool -n 'not string match -q -- "-*" (commandline -ct)' -a '(imagepool complete-names -- (commandline -cp) 2>/dev/null)'
"#;

/// The same in zsh, as an action of arguments.
const NAMES_IN_ZSH: &str = r#"
_imagepool_names() {
    local -a names
    names=("${(@f)$(imagepool complete-names -- "$LBUFFER" 2>/dev/null)}")
    compadd -- $names
}
"#;
/// The arguments in the generated script that are names.
const NAMES: [&str; 7] = [
    ":MODEL:",
    ":model -- ",
    "::model -- ",
    ":name -- ",
    "::name -- ",
    ":job -- ",
    "::names -- ",
];

/// Adds the completion of names to a generated script.
fn with_names(shell: Shell, script: String) -> String {
    match shell {
        Shell::Bash => script + NAMES_IN_BASH,
        Shell::Fish => script + NAMES_IN_FISH,
        Shell::Zsh => {
            let is_named = |line: &&str| NAMES.iter().any(|name| line.contains(name));
            let lines = script.lines().enumerate().map(|(nth, line)| match nth {
                0 => format!("{line}\n{NAMES_IN_ZSH}"),
                _ if is_named(&line) => line.replace(":_default'", ":_imagepool_names'"),
                _ => line.to_owned(),
            });
            lines.collect::<Vec<_>>().join("\n") + "\n"
        }
        _ => script,
    }
}

/// Writes the page of the daemon.
fn write_page_of_daemon(folder: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let mut program = arguments::definition();
    program.build();
    let page = Man::new(program.clone()).section("8");
    let mut file = fs::File::create(folder.join("supervisor.8"))?;
    page.render_title(&mut file)?;
    page.render_name_section(&mut file)?;
    writeln!(file, ".SH SYNOPSIS\n{}", escaped(&synopsis(&program)))?;
    page.render_description_section(&mut file)?;
    page.render_options_section(&mut file)?;
    for (heading, entries) in OF_DAEMON {
        write_section(&mut file, heading, entries)?;
    }
    Ok(())
}

/// Writes the page of a command, and those of the commands below it.
fn write_pages(
    command: &clap::Command,
    above: &[&str],
    folder: &Path,
) -> Result<(), Box<dyn Error>> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let page = Man::new(command.clone().after_help(None::<&str>));
    let mut file = fs::File::create(folder.join(format!("{name}.1")))?;
    page.render_title(&mut file)?;
    page.render_name_section(&mut file)?;
    writeln!(file, ".SH SYNOPSIS\n{}", escaped(&synopsis(command)))?;
    page.render_description_section(&mut file)?;
    page.render_options_section(&mut file)?;
    let below: Vec<_> = command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
        .collect();
    if !below.is_empty() {
        page.render_subcommands_section(&mut file)?;
    }
    let examples = match above {
        [] if command.get_name() == "imagepool" => examples::OF_PROGRAM,
        _ => examples::of(&above.join(" ")),
    };
    let lines: Vec<_> = examples
        .iter()
        .map(|Example { line, effect }| (*line, *effect))
        .collect();
    write_section(&mut file, "EXAMPLES", &lines)?;
    if above.is_empty() {
        for (heading, entries) in COMMON {
            write_section(&mut file, heading, entries)?;
        }
    } else {
        writeln!(file, ".SH \"SEE ALSO\"\n\\fBimagepool\\fR(1)")?;
    }
    for sub in below {
        let path: Vec<&str> = above.iter().copied().chain([sub.get_name()]).collect();
        write_pages(sub, &path, folder)?;
    }
    Ok(())
}

/// The usage line of a command.
fn synopsis(command: &clap::Command) -> String {
    let usage = command.clone().render_usage().to_string();
    usage.trim_start_matches("Usage:").trim().to_owned()
}

/// Writes a section of terms, each with a sentence.
fn write_section(
    file: &mut fs::File,
    heading: &str,
    entries: &[(&str, &str)],
) -> std::io::Result<()> {
    writeln!(file, ".SH \"{heading}\"")?;
    for (term, sentence) in entries {
        writeln!(
            file,
            ".TP\n\\fB{}\\fR\n{}",
            escaped(term),
            escaped(sentence)
        )?;
    }
    Ok(())
}

/// Escapes what is special to troff: backslashes, hyphens, and quotes or dots at the beginning of a line.
fn escaped(text: &str) -> String {
    let text = text
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq");
    match text.starts_with('.') {
        true => format!("\\&{text}"),
        false => text,
    }
}
