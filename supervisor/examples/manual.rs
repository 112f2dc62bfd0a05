//! Writes the manual pages and the shells' completions of `imagepool`; `scripts/manual` runs it.
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

/// Facts of all commands, for the program's own page.
const COMMON: &[(&str, &[(&str, &str)])] = &[
    (
        "EXIT STATUS",
        &[
            ("0", "success"),
            ("1", "the command or the job failed"),
            ("2", "a usage error, or a refused value"),
            (
                "3",
                "`status`: a named or pinned worker or model is not RUNNING",
            ),
            ("4", "no permission; `status`: no such worker or model"),
            (
                "7",
                "no daemon answers, or it speaks another protocol version",
            ),
            (
                "75",
                "try again later: the queue is full, or the pool drains or is stopped",
            ),
            ("124", "the job took longer than its time limit"),
            ("130", "interrupted"),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            ("IMAGEPOOL_SOCKET", "the daemon's socket, like --socket"),
            ("IMAGEPOOL_CONFIG", "the settings file"),
            ("NO_COLOR", "if it is not empty, the output has no colours"),
        ],
    ),
    (
        "FILES",
        &[
            (
                "$XDG_RUNTIME_DIR/imagepool/pool.sock",
                "the socket of a user's daemon",
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
        ],
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
    for (shell, file) in [
        (Shell::Bash, "bash/imagepool"),
        (Shell::Zsh, "zsh/_imagepool"),
        (Shell::Fish, "fish/imagepool.fish"),
    ] {
        let path = folder.join("completions").join(file);
        fs::create_dir_all(path.parent().ok_or("it has a folder")?)?;
        generate(
            shell,
            &mut args::definition(),
            "imagepool",
            &mut fs::File::create(path)?,
        );
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
