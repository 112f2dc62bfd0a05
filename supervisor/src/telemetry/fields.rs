//! The fields of log lines: the same thing has the same name in every line.

/// All fields, with their meaning.
pub const FIELDS: &[(&str, &str)] = &[
    ("job", "the job's id"),
    ("user", "the user that a request counts for"),
    ("model", "the model's key"),
    ("worker", "the worker's name, MODEL:SLOT"),
    (
        "name",
        "the worker's name in the line of a start, whose form is a contract",
    ),
    ("generation", "the worker's generation, never used twice"),
    ("pid", "the id of a process"),
    ("address", "the address that a door listens on"),
    ("token_file", "the file of a token that the daemon made"),
    ("request", "the id of a request at the HTTP door"),
    (
        "device",
        "the device that a worker runs on, or that something happened to",
    ),
    ("attempt", "number of the attempt at a job, from 1"),
    ("seed", "the seed of one picture"),
    ("size", "pixels, WxH"),
    ("steps", "number of denoising steps"),
    ("step", "the finished step, from 1"),
    ("step_ms", "one step, as the worker measured it"),
    ("spans", "number of spans of traces"),
    ("joules", "energy of a GPU for one job"),
    ("replaces", "the worker takes the place of one that died"),
    (
        "resume_step",
        "the finished step that an attempt continues from",
    ),
    (
        "queue_ms",
        "from acceptance to the first placement, without loading",
    ),
    ("load_ms", "loading a model"),
    ("encode_ms", "encoding the prompt"),
    ("denoise_ms", "all steps of the last attempt"),
    ("decode_ms", "from latents to pixels"),
    (
        "reason",
        "the reason of a decision, or the kind of a failure",
    ),
    ("error", "the error message"),
    ("place", "the settings file"),
    ("path", "the file of the journal"),
    ("sandbox", "how far workers confine themselves"),
    ("aside", "the new name of a damaged journal"),
    ("kind", "the kind of a record in the journal"),
    ("key", "the key of a record in the journal"),
    ("unanswered", "jobs of the last daemon without an answer"),
    ("pictures", "pictures of the last daemon that are kept"),
    ("took_ms", "time that it took"),
    ("count", "how many"),
    ("restart", "the settings that take effect at the next start"),
    ("hook", "the program or address of a hook of the settings"),
    (
        "reserved_mb",
        "memory reserved for a worker, over all devices",
    ),
    ("measured_mb", "memory that a worker uses, over all devices"),
    ("freed_mb", "memory that an eviction gives back"),
    ("amount_mb", "memory of a dead worker that is still in use"),
    ("exit", "exit code or signal of a process"),
    ("doing", "the worker's activity when it died"),
    (
        "in_a_row",
        "deaths of a model's workers since its last success",
    ),
    ("failures", "failures of a model since its last success"),
    ("backoff_ms", "time until another worker may start"),
    ("for_ms", "longest duration of a state"),
    ("since_ms", "how long a state has lasted"),
    ("lasted_ms", "how long the loop did not run"),
    ("activity", "the loop's activity in which it hangs"),
    ("thread", "where the kernel holds the loop's thread"),
    ("for_model", "the model that an eviction makes room for"),
    ("digest", "the digest of a quarantined request"),
    (
        "evidence",
        "the deaths of the workers that ran a quarantined job",
    ),
    ("jobs", "number of jobs without an answer"),
    ("dtype", "the data type that a worker computes in"),
    ("wished", "the dtype in the settings"),
    ("models", "number of models"),
    ("licence", "the licence of a model's files"),
    ("file", "a file"),
    ("folder", "a folder"),
    ("mode", "the permissions of a folder, in octal"),
    ("socket", "the socket of a door"),
    ("segments", "number of removed shared-memory segments"),
    ("folders", "number of removed folders"),
    ("at", "the pool's clock"),
    ("uuid", "the id of a GPU"),
    ("driver", "the version of the GPU driver"),
    ("total_mb", "the memory of a device"),
    ("limit_mb", "most memory that workers may reserve"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every file with log lines.
    const SOURCES: [&str; 8] = [
        include_str!("daemon.rs"),
        include_str!("doors.rs"),
        include_str!("events.rs"),
        include_str!("files.rs"),
        include_str!("hooks.rs"),
        include_str!("job_journal.rs"),
        include_str!("jobs.rs"),
        include_str!("workers.rs"),
    ];

    /// The text of `rest` up to the parenthesis that closes the one before it.
    fn arguments(rest: &str) -> &str {
        let (mut depth, mut quoted, mut escaped) = (1, false, false);
        for (at, c) in rest.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                '(' if !quoted => depth += 1,
                ')' if !quoted => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return &rest[..at];
            }
        }
        rest
    }

    /// The fields of a log call: the arguments before its message, separated by commas.
    fn fields(arguments: &str) -> Vec<String> {
        let (mut parts, mut depth) = (vec![String::new()], 0);
        for c in arguments.chars() {
            match c {
                '"' if depth == 0 => break,
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            match c {
                ',' if depth == 0 => parts.push(String::new()),
                c => parts.last_mut().expect("there is a first").push(c),
            }
        }
        let name = |part: String| {
            let name = part.split('=').next().unwrap_or_default().trim();
            name.trim_start_matches(['%', '?']).to_owned()
        };
        let names = parts.into_iter().map(name);
        names
            .filter(|name| !name.is_empty() && !name.starts_with("target:"))
            .collect()
    }

    fn used(source: &str) -> BTreeSet<String> {
        ["debug!(", "info!(", "warn!(", "error!("]
            .iter()
            .flat_map(|open| source.split(open).skip(1))
            .flat_map(|rest| fields(arguments(rest)))
            .collect()
    }

    #[test]
    fn every_field_of_a_log_line_is_listed_and_every_listed_field_is_used() {
        let listed: BTreeSet<String> = FIELDS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let used: BTreeSet<String> = SOURCES.iter().flat_map(|source| used(source)).collect();
        assert_eq!(listed.len(), FIELDS.len(), "a name is listed twice");
        assert_eq!(used, listed);
    }

    #[test]
    fn fields_are_found_in_every_form() {
        let source = r#"warn!(
            job = job.0, %model, steps, text = f(a, "b, c"), target: "x",
            "A sentence, with {a} (and more)"
        ); info!("Nothing");"#;
        let found: Vec<String> = used(source).into_iter().collect();
        assert_eq!(found, ["job", "model", "steps", "text"]);
    }
}
