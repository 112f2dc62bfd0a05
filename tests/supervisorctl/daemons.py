"""supervisord and our daemon, each in a folder of its own, with comparable programs and models."""

import os
import pathlib
import shutil
import signal
import subprocess
import time

# How long anything may take. The machine may be busy.
PATIENCE = 60.0
# What a program of supervisord and a hostile worker write, control characters included.
WORDS = (
    "words\x1b[2J\r\nerror: forged.\x9b31m\x7f\u202e\u2028\u2029\u2066end\n"
)


def until(what, check):
    """Waits until `check` holds."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if check():
            return
        time.sleep(0.05)
    raise RuntimeError(f"{what} did not happen within {PATIENCE:.0f} s")


class Outcome:
    """What a command printed, and its exit code."""

    def __init__(self, text, code):
        self.text = text
        self.code = code


class Side:
    """A daemon and its command."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.models = {}
        self.daemon = None

    def command(self, arguments):
        raise NotImplementedError

    def environment(self):
        return {"HOME": str(self.folder), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}

    def has_written(self):
        """Whether the process of `talk` has written its words."""
        raise NotImplementedError

    def run(self, arguments, interrupt=False):
        """Runs a command; with `interrupt`, ends it by Ctrl-C after a second."""
        process = subprocess.Popen(
            [str(word) for word in self.command(arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment(),
            cwd=self.folder,
        )
        if interrupt:
            time.sleep(1.5)
            process.send_signal(signal.SIGINT)
        try:
            out, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return Outcome("(it did not end)", -1)
        # Bytes that are no UTF-8 stay visible in the table.
        return Outcome(out.decode("utf-8", "backslashreplace"), process.returncode)

    def stop(self):
        if self.daemon and self.daemon.poll() is None:
            self.daemon.terminate()
            try:
                self.daemon.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()


class Theirs(Side):
    """supervisord. A model is a group with one process, 0."""

    def __init__(self, folder, venv):
        super().__init__(folder)
        self.venv = venv
        self.conf = folder / "supervisord.conf"
        # Of the command alone, so that it starts when the daemon's file is invalid.
        self.own_conf = folder / "supervisorctl.conf"
        self.own_conf.write_text(f"[supervisorctl]\nserverurl=unix://{folder}/sock\n")
        talk = folder / "talk.sh"
        words = folder / "words"
        words.write_text(WORDS)
        talk.write_text(f"#!/bin/sh\ncat '{words}'\nexec sleep 1000\n")
        talk.chmod(0o755)
        self.programs = {
            "quiet": "command=/bin/sleep 1000\nstartsecs=0",
            "talk": f"command={talk}\nstartsecs=0\nredirect_stderr=true",
            "bad": "command=/bin/false\nstartsecs=1\nstartretries=1",
        }

    def command(self, arguments):
        return [self.venv / "supervisorctl", "-c", self.own_conf, *arguments]

    def has_written(self):
        return any("forged" in log.read_text(errors="replace") for log in self.folder.glob("0-stdout*"))

    def write(self, models, bad=None):
        """Writes the file: `models` has a kind and whether it starts by itself, by name."""
        sections = []
        for name, (kind, auto) in models.items():
            sections.append(
                f"[program:{name}]\n{self.programs[kind.split('+')[0]]}\n"
                f"process_name=%(process_num)s\nnumprocs=1\nautostart={str(auto).lower()}\n"
                + ("priority=998\n" if "+" in kind else "")
            )
        self.conf.write_text(
            f"[unix_http_server]\nfile={self.folder}/sock\n"
            f"[supervisord]\nlogfile={self.folder}/log\npidfile={self.folder}/pid\n"
            f"childlogdir={self.folder}\nnodaemon=true\nuser=%(ENV_USER)s\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
            + "".join(sections)
            + (bad or "")
        )

    def environment(self):
        import getpass

        return {**super().environment(), "USER": getpass.getuser()}

    def start(self):
        self.daemon = subprocess.Popen(
            [self.venv / "supervisord", "-c", self.conf],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.environment(),
            cwd=self.folder,
        )
        until("supervisord serves", lambda: self.run(["version"]).code == 0)


class Ours(Side):
    """Our daemon, whose workers can be the hostile ones of the tests."""

    KINDS = {
        "quiet": 'family = "synthetic"\nparams = { step_ms = 1, load_ms = 1, weights_mb = 1 }\n',
        # The hostile worker knows these by the time of a step, and by load_ms what it is to do.
        "talk": 'family = "synthetic"\nparams = { step_ms = 17, load_ms = 4, weights_mb = 1 }\n',
        "bad": 'family = "synthetic"\nparams = { step_ms = 13, load_ms = 4, weights_mb = 1 }\n',
    }

    def __init__(self, folder, programs):
        super().__init__(folder)
        self.conf = folder / "imagepool.toml"
        self.programs = folder / "bin"
        self.programs.mkdir()
        for name, beside in {
            "supervisor": "supervisor",
            "imagepool": "imagepool",
            "fetch": "fetch",
            "hostile-worker": "worker",
            "worker": "honest-worker",
        }.items():
            shutil.copy2(pathlib.Path(programs) / name, self.programs / beside)

    def command(self, arguments):
        socket = self.folder / "run" / "pool.sock"
        return [self.programs / "imagepool", "--socket", socket, *arguments]

    def has_written(self):
        return "forged" in self.run(["tail", "talk:0"]).text

    def write(self, models, bad=None):
        sections = []
        for name, (kind, auto) in models.items():
            sections.append(
                f"[models.{name}]\n{self.KINDS[kind.split('+')[0]]}pinned = {str(auto).lower()}\n"
                + ('device = "cpu"\n' if "+" in kind else "")
            )
        pool = "[pool]\ncold_start_workers = 1\nmax_workers_per_model = 1\n"
        self.conf.write_text(pool + "".join(sections) + (bad or ""))

    def start(self):
        with (self.folder / "log").open("wb") as log:
            self.daemon = subprocess.Popen(
                [
                    self.programs / "supervisor",
                    *("--config", self.conf),
                    *("--runtime-dir", self.folder / "run"),
                ],
                stderr=log,
                env=self.environment(),
                cwd=self.folder,
            )
        until("our daemon serves", lambda: self.run(["pid"]).code == 0)
