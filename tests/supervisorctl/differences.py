"""The rows in which imagepool answers otherwise than supervisorctl, each with its text, its code and the reason."""

RUNS = r"cat:0 +RUNNING   pid PID, uptime TIME, cpu, MEMORY"
USAGE = r"error: .*Usage: imagepool .*"
NO_DAEMON = r"imagepool: no daemon answers at DIR/run/pool\.sock: .*"
MODELS = (
    r"bad +in use    manual    999:999\ncat +in use    auto      999:999\n{}flux-schnell +in use    manual    999:999\n{}"
    r"pocket-flux +in use    manual    999:999\nsd3.5-turbo +in use    manual    999:999\ntalk +in use    auto      999:999"
)

COLUMNS = "the line goes on with the device and the memory"
SEVEN = "exit code 7 says that no daemon answers, and nothing else"
USAGE_TWO = "wrong arguments exit with 2 and the usage, whatever the verb"
LINES = (
    "a model has one line, whatever the number of its workers, and built-in models are listed; 999:999, the default "
    "priority, is all that there is: models start when they are needed, in no fixed order"
)
CANNOT = "the fault with its line and what is valid; theirs quotes Python"

# By "VERB: SITUATION": a pattern of our whole text, our exit code, the reason.
DIFFERENCES = {
    "status: a process runs": (RUNS, 0, COLUMNS),
    "status: a group": (RUNS, 0, COLUMNS),
    "status: after a restart": (RUNS, 0, COLUMNS),
    "status: it was stopped before the reload": (RUNS, 0, COLUMNS),
    "pid: a process is stopped": (
        r"idle:0: ERROR \(no such process\)",
        4,
        "there is no process, so there is no pid 0",
    ),
    "pid: an unknown name": (
        r"nobody:0: ERROR \(no such process\)",
        4,
        "the text and the code of status for the same name",
    ),
    "start: an unknown group": (
        r"nobody: ERROR \(no such group\)",
        1,
        "the code of an unknown process: theirs is 2 for start and 1 for stop",
    ),
    "start: it dies at once": (r"bad:0: ERROR \(spawn error\)", 1, SEVEN),
    "start: no name": (USAGE, 2, USAGE_TWO),
    "restart: it is stopped": (
        r"idle:0: started",
        0,
        "a restart of what is stopped is a start, and no error",
    ),
    "restart: an unknown name": (
        r"nobody:0: ERROR \(no such process\)",
        1,
        "said once: theirs stops and starts",
    ),
    "signal: it is stopped": (r"idle:0: ERROR \(not running\)", 1, SEVEN),
    "signal: no process": (USAGE, 2, USAGE_TWO),
    "tail: a process that wrote control characters": (
        r"(words\\u001b\[2J\nerror: forged\.\\u009b31m\\u007f\\u202e\\u2028\\u2029\\u2066end\n?)+",
        0,
        "control characters are escaped; theirs fails at them",
    ),
    "tail: the last 5 bytes": (r"6end", 0, "theirs fails at bytes that are part of a character"),
    "tail: no name": (USAGE, 2, USAGE_TWO),
    "tail: not a number": (USAGE, 2, USAGE_TWO),
    "tail -f: until Ctrl-C": (r"", 0, "the hint goes to stderr, and to a terminal only"),
    "maintail -f: until Ctrl-C": (r"", 0, "the hint goes to stderr, and to a terminal only"),
    "clear: no name": (USAGE, 2, USAGE_TWO),
    "avail: nothing differs": (
        MODELS.format("", r"idle +in use    manual    999:999\n"),
        0,
        LINES,
    ),
    "avail: one added, changed, removed": (
        MODELS.format(r"dog +avail     manual    999:999\n", r"idle +in use    manual    999:999\n"),
        0,
        LINES + "; what disappeared is in use until an update",
    ),
    "reread: an invalid file": (r"ERROR: CANT_REREAD: DIR/imagepool\.toml: line 21: .*", 1, CANNOT),
    "update: an invalid file": (r"ERROR: CANT_REREAD: DIR/imagepool\.toml: line 21: .*", 1, CANNOT),
    "avail: an invalid file": (
        r"ERROR: CANT_REREAD: DIR/imagepool\.toml: line 21: .*",
        1,
        "it reads the file, as reread does; theirs lists what it read last",
    ),
    "reload: a good file": (
        r"Reloaded DIR/imagepool\.toml",
        0,
        "the settings apply without a restart, so that no job is lost",
    ),
    "version: ": (r"imagepool \S+\nsupervisor \S+, pid PID", 0, "the command and the daemon have a version each"),
    "(unknown): an unknown verb": (USAGE, 2, USAGE_TWO),
    "status: no daemon": (NO_DAEMON, 7, SEVEN + "; theirs is 4 here, as for an unknown name"),
    "stop: no daemon": (NO_DAEMON, 7, "the cause in words"),
    "tail: no daemon": (NO_DAEMON, 7, "the cause in words"),
    "reread: no daemon": (NO_DAEMON, 7, "the code of every verb without a daemon"),
    "avail: no daemon": (NO_DAEMON, 7, "the code of every verb without a daemon"),
}
