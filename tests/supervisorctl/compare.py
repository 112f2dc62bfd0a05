"""The same commands for supervisorctl and imagepool in the same situations; fails at a difference without a reason."""

import pathlib
import re
import sys
import tempfile

import daemons
from differences import DIFFERENCES

# The models at the beginning: their kind, and whether they start by themselves.
MODELS = {"cat": ("quiet", True), "idle": ("quiet", False), "bad": ("bad", False), "talk": ("talk", True)}
# The file after it was edited: `cat` changed, `idle` disappeared, `dog` is new.
EDITED = {"cat": ("quiet+", True), "bad": ("bad", False), "dog": ("quiet", False), "talk": ("talk", True)}


class Comparison:
    """The rows so far, and the two daemons."""

    def __init__(self, theirs, ours):
        self.sides = (theirs, ours)
        self.rows = []

    def both(self, act):
        for side in self.sides:
            act(side)

    def row(self, verb, situation, arguments, ours=None, interrupt=False):
        """Runs a command on both sides; `ours` are our arguments if they must differ."""
        theirs = self.sides[0].run(arguments, interrupt)
        mine = self.sides[1].run(arguments if ours is None else ours, interrupt)
        self.rows.append((verb, situation, theirs, mine))


def settle(side):
    """Waits until what starts by itself runs, and what it writes is written."""
    for name in ("cat:0", "talk:0"):
        daemons.until(f"{name} runs", lambda name=name: "RUNNING" in side.run(["status", name]).text)
    daemons.until("talk writes", side.has_written)


def scenario(c):
    """All situations, one after the other."""
    c.row("status", "a process runs", ["status", "cat:0"])
    c.row("status", "a process is stopped", ["status", "idle:0"])
    c.row("status", "an unknown name", ["status", "nobody:0"])
    c.row("status", "a group", ["status", "cat:*"])
    c.row("status", "an unknown group", ["status", "nobody:*"])
    c.row("pid", "a process runs", ["pid", "cat:0"])
    c.row("pid", "the daemon", ["pid"])
    c.row("pid", "a process is stopped", ["pid", "idle:0"])
    c.row("pid", "an unknown name", ["pid", "nobody:0"])
    c.row("start", "it runs", ["start", "cat:0"])
    c.row("start", "it is stopped", ["start", "idle:0"])
    c.row("start", "an unknown name", ["start", "nobody:0"])
    c.row("start", "an unknown group", ["start", "nobody:*"])
    c.row("start", "it dies at once", ["start", "bad:0"])
    c.row("start", "no name", ["start"])
    c.row("stop", "it runs", ["stop", "idle:0"])
    c.row("stop", "it is stopped", ["stop", "idle:0"])
    c.row("stop", "an unknown name", ["stop", "nobody:0"])
    c.row("stop", "two names, one unknown", ["stop", "nobody:0", "idle:0"])
    c.row("restart", "it runs", ["restart", "cat:0"])
    c.row("restart", "it is stopped", ["restart", "idle:0"])
    c.row("restart", "an unknown name", ["restart", "nobody:0"])
    c.row("status", "after a restart", ["status", "cat:0"])
    c.row("stop", "a group", ["stop", "idle:*"])
    c.row("signal", "it runs", ["signal", "CONT", "cat:0"])
    c.row("signal", "a group", ["signal", "SIGCONT", "cat:*"])
    c.row("signal", "by number", ["signal", "18", "cat:0"])
    c.row("signal", "it is stopped", ["signal", "HUP", "idle:0"])
    c.row("signal", "an unknown name", ["signal", "HUP", "nobody:0"])
    c.row("signal", "an unknown signal", ["signal", "NOPE", "cat:0"])
    c.row("signal", "no process", ["signal", "HUP"])
    c.row("tail", "a process that wrote control characters", ["tail", "talk:0"])
    c.row("tail", "the last 5 bytes", ["tail", "-5", "talk:0"])
    c.row("tail", "a process that wrote nothing", ["tail", "cat:0"])
    c.row("tail", "an unknown name", ["tail", "nobody:0"])
    c.row("tail", "a number beyond the last", ["tail", "cat:99"])
    c.row("clear", "a number beyond the last", ["clear", "cat:99"])
    c.row("signal", "a number beyond the last", ["signal", "HUP", "cat:99"])
    c.row("tail", "no name", ["tail"])
    c.row("tail", "not a number", ["tail", "-x", "cat:0"])
    c.row("tail -f", "until Ctrl-C", ["tail", "-f", "cat:0"], interrupt=True)
    c.row("maintail", "the last byte", ["maintail", "-1"])
    c.row("maintail -f", "until Ctrl-C", ["maintail", "-f"], ours=["maintail", "-f", "-1"], interrupt=True)
    c.row("clear", "a process", ["clear", "talk:0"])
    c.row("tail", "after clear", ["tail", "talk:0"])
    c.row("clear", "an unknown name", ["clear", "nobody:0"])
    c.row("clear", "no name", ["clear"])
    c.row("avail", "nothing differs", ["avail"])
    c.row("reread", "nothing differs", ["reread"])
    c.row("update", "nothing differs", ["update"])
    c.both(lambda side: side.write(EDITED))
    c.row("reread", "one added, changed, removed", ["reread"])
    c.row("avail", "one added, changed, removed", ["avail"])
    c.row("update", "an unknown group", ["update", "nobody"])
    c.row("update", "one group of three", ["update", "dog"])
    c.row("update", "one changed, one removed", ["update"])
    c.row("reread", "after update", ["reread"])
    c.row("status", "it was removed", ["status", "idle:0"])
    c.row("start", "it was added", ["start", "dog:0"])
    c.both(lambda side: side.write(EDITED, bad="[\n"))
    c.row("reread", "an invalid file", ["reread"])
    c.row("update", "an invalid file", ["update"])
    c.row("avail", "an invalid file", ["avail"])
    c.both(lambda side: side.write(EDITED))
    c.row("stop", "before a reload", ["stop", "cat:0"])
    c.row("reload", "a good file", ["reload"])
    daemons.until("cat runs again", lambda: all("RUNNING" in side.run(["status", "cat:0"]).text for side in c.sides))
    c.row("status", "it was stopped before the reload", ["status", "cat:0"])
    c.row("version", "", ["version"])
    c.row("(unknown)", "an unknown verb", ["frobnicate"])
    c.row("shutdown", "", ["shutdown"])
    daemons.until("both daemons end", lambda: all(side.daemon.poll() is not None for side in c.sides))
    for arguments in (["status"], ["stop", "cat:0"], ["tail", "cat:0"], ["reread"], ["avail"]):
        c.row(arguments[0], "no daemon", arguments)


def plain(text, folder):
    """A text without what differs from run to run, and without trailing blanks."""
    for pattern, word in (
        (re.escape(str(folder)), "DIR"),
        (r"pid \d+", "pid PID"),
        (r"uptime [\d:]+", "uptime TIME"),
        (r"^\d+$", "NUMBER"),
        (r"\b\d+/\d+ MiB|\b\d+ MiB", "MEMORY"),
    ):
        text = re.sub(pattern, word, text, flags=re.MULTILINE)
    return text.strip()


def verdict(key, theirs, ours):
    """The verdict of a row, and whether it is good."""
    known = DIFFERENCES.get(key)
    if (theirs[0], theirs[1]) == (ours[0], ours[1]):
        return ("stale: remove its difference", False) if known else ("equal", True)
    if known is None:
        return "DIFFERS WITHOUT A REASON", False
    pattern, code, reason = known
    if ours[1] != code or not re.fullmatch(pattern, ours[0], flags=re.DOTALL):
        return f"differs otherwise than listed ({reason})", False
    return reason, True


def shown(outcome):
    text, code = outcome
    return f"{text!r}, {code}"


def main():
    programs, venv, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="imagepool-sctl-") as folder:
        folder = pathlib.Path(folder)
        theirs = daemons.Theirs(folder / "theirs", pathlib.Path(venv))
        ours = daemons.Ours(folder / "ours", programs)
        comparison = Comparison(theirs, ours)
        try:
            comparison.both(lambda side: side.write(MODELS))
            comparison.both(lambda side: side.start())
            comparison.both(settle)
            scenario(comparison)
        finally:
            comparison.both(lambda side: side.stop())
        good, equal = True, 0
        seen = set()
        print("| verb | situation | supervisorctl: text, code | imagepool: text, code | verdict |\n|---|---|---|---|---|")
        for verb, situation, a, b in comparison.rows:
            key = f"{verb}: {situation}"
            seen.add(key)
            a, b = (plain(a.text, theirs.folder), a.code), (plain(b.text, ours.folder), b.code)
            words, is_good = verdict(key, a, b)
            good &= is_good
            equal += words == "equal"
            if "--all" in options or words != "equal":
                print(f"| {verb} | {situation} | {shown(a)} | {shown(b)} | {words} |")
        unused = sorted(set(DIFFERENCES) - seen)
        if unused:
            print("differences of no row:", ", ".join(unused))
        print(f"{len(comparison.rows)} rows, {equal} equal, {len(comparison.rows) - equal} different")
        sys.exit(0 if good and not unused else 1)


if __name__ == "__main__":
    main()
