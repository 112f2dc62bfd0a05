//! Examples of every command, for its help and its manual page.

use super::exit_codes;

/// An example: a line for a shell of the system, and what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example {
    /// The line, with `imagepool` as its first word.
    pub line: &'static str,
    /// The effect, as a phrase that begins in lower case.
    pub effect: &'static str,
}

const fn example(line: &'static str, effect: &'static str) -> Example {
    Example { line, effect }
}

/// The examples of `imagepool` itself.
pub const OF_PROGRAM: &[Example] = &[
    example(
        "imagepool generate 'a red fox in snow' -o fox.png",
        "draws a picture",
    ),
    example("imagepool status", "lists workers and models"),
    example("imagepool", "opens the shell"),
    example("imagepool help generate", "prints the help of a command"),
];

/// The examples of each command; a subcommand's name follows that of its command.
const OF_COMMANDS: &[(&str, &[Example])] = &[
    (
        "generate",
        &[
            example(
                "imagepool generate 'a red fox in snow' -o fox.png",
                "draws one picture",
            ),
            example(
                "imagepool generate 'a lighthouse' -n 4 --seed 7 --size 256x192",
                "draws four pictures, with the seeds 7 to 10",
            ),
            example(
                "imagepool generate - -o - < prompt.txt > picture.png",
                "reads the prompt from stdin and writes the picture to stdout",
            ),
            example(
                "imagepool generate 'a harbour' -m pocket-flux --detach",
                "prints the job's id and does not wait",
            ),
        ],
    ),
    (
        "status",
        &[
            example("imagepool status", "lists workers, models and GPUs"),
            example(
                "imagepool status pocket-flux",
                "exits with 3 unless the model is RUNNING",
            ),
            example(
                "imagepool status -v",
                "adds the reason why a model is not here",
            ),
            example(
                "imagepool status --json",
                "prints everything as one JSON object",
            ),
        ],
    ),
    (
        "stop",
        &[
            example("imagepool stop pocket-flux:1", "stops one worker"),
            example("imagepool stop all", "stops everything until `start`"),
        ],
    ),
    (
        "start",
        &[
            example("imagepool start pocket-flux", "starts a model's workers"),
            example("imagepool start all", "starts everything that is stopped"),
        ],
    ),
    (
        "restart",
        &[
            example("imagepool restart pocket-flux:0", "replaces one worker"),
            example("imagepool restart all", "replaces every worker"),
        ],
    ),
    (
        "signal",
        &[example(
            "imagepool signal USR1 pocket-flux:0",
            "sends SIGUSR1 to one worker",
        )],
    ),
    (
        "tail",
        &[
            example(
                "imagepool tail pocket-flux:0",
                "prints the last 1600 bytes that a worker has written",
            ),
            example(
                "imagepool tail -100 pocket-flux:0",
                "prints the last 100 bytes",
            ),
            example(
                "imagepool tail -f pocket-flux",
                "follows slot 0 of the model until Ctrl-C, beyond the end of its worker",
            ),
        ],
    ),
    (
        "maintail",
        &[
            example(
                "imagepool maintail",
                "prints the last 1600 bytes of the daemon's log",
            ),
            example("imagepool maintail -f", "follows the log until Ctrl-C"),
        ],
    ),
    (
        "clear",
        &[
            example(
                "imagepool clear pocket-flux:0",
                "forgets what the workers of one slot have written",
            ),
            example("imagepool clear all", "forgets what all have written"),
        ],
    ),
    (
        "avail",
        &[example(
            "imagepool avail",
            "lists the models of the settings file",
        )],
    ),
    (
        "reread",
        &[example(
            "imagepool reread",
            "checks the settings file and names the models that differ",
        )],
    ),
    (
        "update",
        &[
            example(
                "imagepool update",
                "applies the changes of all models; jobs are finished first",
            ),
            example(
                "imagepool update pocket-flux",
                "applies the changes of one model",
            ),
        ],
    ),
    (
        "reload",
        &[example(
            "imagepool reload",
            "applies the whole settings file, as SIGHUP does",
        )],
    ),
    (
        "events",
        &[
            example("imagepool events", "prints the newest events"),
            example(
                "imagepool events -f --json",
                "follows the events, one JSON object per line, until Ctrl-C",
            ),
        ],
    ),
    (
        "pid",
        &[
            example("imagepool pid", "prints the daemon's process id"),
            example(
                "imagepool pid pocket-flux:0",
                "prints a worker's process id",
            ),
        ],
    ),
    (
        "shutdown",
        &[example(
            "imagepool shutdown",
            "finishes the accepted jobs, then stops the daemon",
        )],
    ),
    (
        "drain",
        &[
            example("imagepool drain", "rejects new requests from now on"),
            example("imagepool drain --undo", "accepts requests again"),
        ],
    ),
    (
        "jobs",
        &[
            example("imagepool jobs", "lists jobs with their progress"),
            example("imagepool jobs --json", "prints them as one JSON array"),
        ],
    ),
    (
        "wait",
        &[
            example(
                "imagepool wait 17",
                "writes imagepool-17.png once job 17 has finished",
            ),
            example("imagepool wait 17 -o fox.webp", "writes it as WebP"),
        ],
    ),
    (
        "cancel",
        &[example("imagepool cancel 17", "cancels job 17")],
    ),
    (
        "why",
        &[example("imagepool why 17", "explains why job 17 waits")],
    ),
    (
        "plan",
        &[
            example(
                "imagepool plan pocket-flux",
                "computes the memory of a picture of the default size",
            ),
            example(
                "imagepool plan pocket-flux --size 256x256",
                "computes that of a larger one",
            ),
        ],
    ),
    (
        "pin",
        &[example(
            "imagepool pin pocket-flux",
            "keeps the model in memory",
        )],
    ),
    (
        "unpin",
        &[example(
            "imagepool unpin pocket-flux",
            "lets it be stopped when it is idle",
        )],
    ),
    (
        "evict",
        &[example(
            "imagepool evict pocket-flux",
            "frees the memory of its idle workers",
        )],
    ),
    (
        "yield",
        &[
            example(
                "imagepool yield 600",
                "leaves the memory of idle workers to other programs for ten minutes",
            ),
            example("imagepool yield 0", "takes it back"),
        ],
    ),
    (
        "scale",
        &[
            example("imagepool scale pocket-flux 2", "keeps two workers"),
            example("imagepool scale pocket-flux 0", "keeps none"),
        ],
    ),
    (
        "last-crash",
        &[
            example(
                "imagepool last-crash",
                "prints the newest crash of a worker",
            ),
            example(
                "imagepool last-crash pocket-flux:0 -n 3",
                "prints the last three crashes of a worker",
            ),
            example(
                "imagepool last-crash --all --json",
                "prints all crashes that are kept, as JSON",
            ),
        ],
    ),
    (
        "quarantine",
        &[example(
            "imagepool quarantine",
            "lists the blocked requests",
        )],
    ),
    (
        "quarantine list",
        &[example(
            "imagepool quarantine list",
            "lists the blocked requests",
        )],
    ),
    (
        "quarantine release",
        &[example(
            "imagepool quarantine release 3f9a01c2",
            "allows one of them again",
        )],
    ),
    (
        "quarantine drop",
        &[example(
            "imagepool quarantine drop",
            "allows all of them again",
        )],
    ),
    (
        "models",
        &[example(
            "imagepool models",
            "lists the models and their files",
        )],
    ),
    (
        "models list",
        &[example(
            "imagepool models list",
            "lists the models and their files",
        )],
    ),
    (
        "models show",
        &[example(
            "imagepool models show pocket-flux",
            "prints files, licence and memory of a model",
        )],
    ),
    (
        "models fetch",
        &[
            example(
                "imagepool models fetch sd3.5-turbo",
                "downloads the model, or resumes that",
            ),
            example(
                "imagepool models fetch sd3.5-turbo --revision main",
                "takes the newest revision",
            ),
        ],
    ),
    (
        "models verify",
        &[
            example(
                "imagepool models verify",
                "compares the files of all fetched models with their digests",
            ),
            example(
                "imagepool models verify pocket-flux",
                "compares those of one model",
            ),
        ],
    ),
    (
        "models rm",
        &[example(
            "imagepool models rm sd3.5-turbo",
            "deletes the downloaded files",
        )],
    ),
    (
        "replay",
        &[example(
            "imagepool replay fox.png",
            "draws the picture again and compares every pixel",
        )],
    ),
    (
        "top",
        &[
            example("imagepool top", "shows the pool until `q` is pressed"),
            example(
                "imagepool top --json -n 10 > pool.jsonl",
                "writes ten reports, one a second",
            ),
        ],
    ),
    (
        "doctor",
        &[
            example(
                "imagepool doctor",
                "checks memory, limits, folders, GPUs and more",
            ),
            example(
                "imagepool doctor -q",
                "prints only what is not as it should be",
            ),
            example(
                "imagepool doctor --chaos",
                "kills and stops workers of a private pool, and measures the recovery",
            ),
        ],
    ),
    (
        "version",
        &[example("imagepool version", "prints both versions")],
    ),
];

/// The examples of a command, such as `models fetch`.
pub fn of(path: &str) -> &'static [Example] {
    let found = OF_COMMANDS.iter().find(|(name, _)| *name == path);
    found.map_or(&[], |(_, examples)| examples)
}

/// Adds the examples to the help of the program and of every command.
pub fn attach(program: clap::Command) -> clap::Command {
    let examples = block(OF_PROGRAM);
    let codes = exit_codes::block();
    let program = program
        .after_long_help(format!("{examples}\n\n{codes}"))
        .after_help(examples);
    attach_below(program, "")
}

fn attach_below(command: clap::Command, above: &str) -> clap::Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    names.into_iter().fold(command, |command, name| {
        let path = format!("{above}{name}");
        command.mut_subcommand(name, |sub| {
            let sub = match of(&path) {
                [] => sub,
                examples => sub.after_help(block(examples)),
            };
            attach_below(sub, &format!("{path} "))
        })
    })
}

/// The examples as text; each effect is a comment of the shell, so that a copied line works.
fn block(examples: &[Example]) -> String {
    let lines = examples
        .iter()
        .map(|Example { line, effect }| format!("  {line}\n      # {effect}"));
    format!("Examples:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::args;

    /// The commands below a command that can be typed.
    fn paths(command: &clap::Command, above: &str) -> Vec<String> {
        let mut all = Vec::new();
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let path = format!("{above}{}", sub.get_name());
            all.extend(paths(sub, &format!("{path} ")));
            all.push(path);
        }
        all
    }

    /// The words of an example for `imagepool`; redirections are for the shell.
    fn words(line: &str) -> Vec<String> {
        let words = shlex::split(line).expect("its quotes are closed");
        let ours = words
            .into_iter()
            .take_while(|word| word != "<" && word != ">");
        ours.collect()
    }

    fn subcommands(matches: &clap::ArgMatches) -> Vec<String> {
        match matches.subcommand() {
            None => Vec::new(),
            Some((name, below)) => {
                let mut all = vec![name.to_owned()];
                all.extend(subcommands(below));
                all
            }
        }
    }

    #[test]
    fn every_command_has_examples_of_itself_that_parse() {
        for path in paths(&args::definition(), "") {
            assert!(!of(&path).is_empty(), "{path} has no example");
            for Example { line, effect } in of(&path) {
                let words = words(line);
                args::read(words.iter().map(OsString::from))
                    .unwrap_or_else(|error| panic!("{line}: {error}"));
                let matches = args::definition().get_matches_from(&words);
                assert_eq!(subcommands(&matches).join(" "), path, "{line}");
                assert!(!effect.is_empty() && !effect.ends_with('.'), "{effect}");
            }
        }
        for Example { line, .. } in OF_PROGRAM {
            if !line.contains("help") {
                args::read(words(line).into_iter().map(OsString::from))
                    .unwrap_or_else(|error| panic!("{line}: {error}"));
            }
        }
    }

    #[test]
    fn every_example_belongs_to_a_command() {
        let paths = paths(&args::definition(), "");
        for (path, _) in OF_COMMANDS {
            assert!(paths.iter().any(|known| known == path), "{path}");
        }
    }

    #[test]
    fn the_help_of_a_command_has_its_synopsis_a_sentence_and_its_examples() {
        for path in paths(&args::definition(), "") {
            let words = ["imagepool", "help"].into_iter().chain(path.split(' '));
            let help = args::read(words.map(OsString::from)).expect_err("help is printed");
            let help = help.to_string();
            assert!(help.contains("Usage: imagepool"), "{help}");
            assert!(help.contains("\nExamples:\n  imagepool"), "{help}");
            let sentence = help.lines().next().unwrap_or_default();
            assert!(sentence.len() > 10, "{path}: {sentence}");
        }
    }
}
