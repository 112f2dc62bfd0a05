//! The misbehaviours of the hostile worker, and the settings that select them.

/// The name of a pipe in a model's folder: the hostile worker looks at the folder once the pipe was written to.
pub const GATE: &str = "gate";
/// Milliseconds a step of a misbehaving model takes, by which the hostile worker knows it.
pub const STEP_MS: u32 = 13;
/// The `weights_mb` of models that misbehave in their first life only.
pub const ONCE_MB: u32 = 2;

/// Mebibytes of the worker that says it holds a byte.
pub const HELD_MB: u64 = 400;

/// Every misbehaviour; a model's `load_ms` is an index into this.
pub const MISBEHAVIOURS: [&str; 46] = [
    // In place of a greeting.
    "garbled-hello",
    "other-protocol",
    "other-generation",
    "exit-0-at-once",
    "abort-at-once",
    "closed-socket-alive",
    "half-a-header",
    // While it loads.
    "giving-up",
    "giving-up-with-control-characters",
    "loading-without-end",
    "garbage-while-loading",
    "ready-twice",
    "loading-backwards",
    // With a job.
    "garbage-mid-job",
    "length-of-4-gib",
    "body-cut-short",
    "trailing-bytes",
    "the-other-sides-frame",
    "step-3-first",
    "step-0",
    "step-in-the-wrong-slot",
    "step-of-another-job",
    "step-of-endless-bytes",
    "steps-without-end",
    "done-without-steps",
    "done-of-a-vast-size",
    "done-of-another-job",
    "failed-for-another-job",
    "abort-mid-job",
    "exit-0-mid-job",
    "flood-of-heartbeats",
    "heartbeats-without-end",
    "wrong-steps-without-end",
    "stderr-without-end",
    "flood-of-stderr",
    "silence-with-a-job",
    "child-keeps-the-socket",
    "exit-leaves-a-child",
    "exit-leaves-a-daemon",
    "closed-socket-leaves-a-daemon",
    "freezes",
    "allocation-fails",
    "read-fails",
    "holds-more-than-it-says",
    "sleeps-while-drawing",
    "exit-leaves-a-stranger",
];

/// Milliseconds a step takes of a model whose worker ends in a known way; `load_ms` is an index into [`ENDS`].
pub const END_STEP_MS: u32 = 19;
/// Ends of workers: `exit-CODE` and `signal-NUMBER` while loading or with a job, and those that take longer.
pub const ENDS: [&str; 22] = [
    "exit-66-loading",
    "exit-75-loading",
    "exit-78-loading",
    "exit-83-loading",
    "exit-0-busy",
    "exit-7-busy",
    "exit-80-busy",
    "exit-81-busy",
    "exit-82-busy",
    "exit-84-busy",
    "exit-85-busy",
    "signal-6-busy",
    "signal-7-busy",
    "signal-11-busy",
    "allocation-busy",
    "garbage-busy",
    "silent-busy",
    "beating-busy",
    "no-greeting",
    "leak-busy",
    "work-busy",
    "deaf-busy",
];

/// Settings of a model `ends-NAME` for each of [`ENDS`], each with one worker; `weights_mb` says how often.
pub fn ends(weights_mb: u32) -> String {
    ENDS.iter()
        .enumerate()
        .map(|(index, name)| {
            format!(
                "[models.ends-{name}]\nfamily = \"synthetic\"\nparams = {{ step_ms = {END_STEP_MS}, load_ms = {index}, weights_mb = {weights_mb} }}\n"
            )
        })
        .collect()
}

/// Milliseconds a step takes of a model whose worker says [`OBEYED`]; `load_ms` is an index into [`SPEECHES`].
pub const SPEECH_STEP_MS: u32 = 17;
/// Where a worker's words can go.
pub const SPEECHES: [&str; 5] = ["giving-up", "job-fault", "bad-request", "dtype", "stderr"];
/// Words that clear a terminal, forge a line of the log and turn the direction of text.
pub const OBEYED: &str =
    "words\u{1b}[2J\r\nerror: forged.\u{9b}31m\u{7f}\u{202e}\u{2028}\u{2029}\u{2066}end";

/// Milliseconds a step takes of a model whose worker tries to escape from its sandbox.
pub const ESCAPE_STEP_MS: u32 = 23;

/// Settings of a model `escape`, whose worker does.
pub fn escape() -> String {
    format!(
        "[models.escape]\nfamily = \"synthetic\"\nparams = {{ step_ms = {ESCAPE_STEP_MS}, load_ms = 0, weights_mb = 1 }}\n"
    )
}

/// Settings of a model `says-WHERE` for each of [`SPEECHES`].
pub fn speeches() -> String {
    SPEECHES
        .iter()
        .enumerate()
        .map(|(index, name)| {
            format!(
                "[models.says-{name}]\nfamily = \"synthetic\"\nparams = {{ step_ms = {SPEECH_STEP_MS}, load_ms = {index}, weights_mb = 1 }}\n"
            )
        })
        .collect()
}

/// Settings of a model `bad-N` per misbehaviour, each with one worker; `weights_mb` says how often.
pub fn settings(weights_mb: u32) -> String {
    (0..MISBEHAVIOURS.len())
        .map(|index| {
            format!(
                "[models.bad-{index}]\nfamily = \"synthetic\"\nparams = {{ step_ms = {STEP_MS}, load_ms = {index}, weights_mb = {weights_mb} }}\n"
            )
        })
        .collect()
}

/// The model that misbehaves so.
pub fn model(name: &str) -> String {
    let index = MISBEHAVIOURS.iter().position(|known| *known == name);
    format!("bad-{}", index.expect("a name of the list"))
}
