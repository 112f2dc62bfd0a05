"""A private daemon of the built programs, in a folder of its own."""

import os
import pathlib
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time

import httpx2

PROGRAMS = pathlib.Path(os.environ["PROGRAMS"])
# How long a daemon may take to start, or to end. The machine may be busy.
PATIENCE = 30.0

# Tokens by name, with the rights of each.
RIGHTS = {
    "draw": ["generate"],
    "run": ["generate", "operate"],
    "watch": ["metrics"],
    "all": ["generate", "operate", "metrics"],
}


class Daemon:
    """A running daemon with sockets on a Unix path and on TCP."""

    def __init__(self, settings: str):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="imagepool-http-"))
        self.runtime = self.folder / "run"
        self.runtime.mkdir(mode=0o700)
        self.tokens = {name: secrets.token_hex(24) for name in RIGHTS}
        config = self.folder / "imagepool.toml"
        config.write_text(settings + self._http_settings())
        self.log = self.folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    PROGRAMS / "supervisor",
                    *("--config", config),
                    *("--runtime-dir", self.runtime),
                ],
                stderr=log,
            )
        try:
            address = self._logged(r"HTTP door open .*address=(\S+)")
        except Exception:
            self.stop()
            raise
        self.socket = str(self.runtime / "http.sock")
        self.tcp = f"http://{address}"
        self.operator = httpx2.Client(
            transport=httpx2.HTTPTransport(uds=self.socket),
            base_url="http://localhost",
            timeout=PATIENCE,
        )

    def _http_settings(self) -> str:
        lines = ["[http]", 'listen = "127.0.0.1:0"']
        for name, rights in RIGHTS.items():
            file = self.folder / f"{name}.token"
            file.write_text(self.tokens[name] + "\n")
            file.chmod(0o600)
            lines += [f"[http.tokens.{name}]", f'file = "{file}"', f"rights = {rights}"]
        return "\n".join(lines) + "\n"

    def _logged(self, pattern: str) -> str:
        """Waits for a line of the log; returns the pattern's group."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = re.search(pattern, self.log.read_text())
            if found:
                return found[1]
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError(f"the daemon has not opened its door:\n{self.log.read_text()}")

    def status(self) -> dict:
        """The report of everything."""
        return self.operator.get("/v1/pool/status").raise_for_status().json()

    def operate(self, model: str, verb: str) -> None:
        """An operator's verb for a model."""
        self.operator.post(f"/v1/pool/models/{model}/{verb}").raise_for_status()

    def wait_for(self, what: str, holds, seconds: float = PATIENCE) -> None:
        """Waits until the status is as `holds` says."""
        end = time.monotonic() + seconds
        while not holds(status := self.status()):
            assert time.monotonic() < end, f"{what}: not within {seconds} s: {status}"
            time.sleep(0.02)

    def wait_until_idle(self, seconds: float) -> None:
        """Waits until no job waits or runs."""
        self.wait_for("no job is left", lambda status: not jobs(status), seconds)

    def drain(self) -> None:
        """Asks it to finish its jobs and end."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Ends it."""
        if hasattr(self, "operator"):
            self.operator.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def jobs(status: dict) -> list:
    """Every job that waits or runs."""
    return status["queue"] + [worker["job"] for worker in status["workers"] if worker["job"]]


def running(status: dict) -> int:
    """Number of jobs that run on a worker."""
    return sum(worker["job"] is not None for worker in status["workers"])
