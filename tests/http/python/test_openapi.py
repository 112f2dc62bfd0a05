"""Requests made from the description of the routes, and answers compared with it."""

import pathlib
import shutil
import subprocess
import sys

import pytest

from conftest import daemon
from doors import Door

HERE = pathlib.Path(__file__).resolve().parent / "schemathesis"
# Operators' verbs work on a model that no picture needs.
SETTINGS = """
default_model = "quick"
[pool]
cold_start_workers = 1
queue_per_model = 100
[models.quick]
family = "synthetic"
params = { step_ms = 0, load_ms = 0, weights_mb = 1 }
[models.spare]
family = "synthetic"
params = { step_ms = 0, load_ms = 0, weights_mb = 1 }
"""


@pytest.fixture
def described():
    """A daemon whose models may be stopped."""
    yield from daemon(SETTINGS)


def test_the_description_needs_no_token(tcp):
    with tcp.raw(token=None) as client:
        answer = client.get("/openapi.json").raise_for_status()
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["openapi"].startswith("3.1")


def test_answers_are_as_described(described, tmp_path):
    # It writes beside its settings.
    folder = shutil.copytree(HERE, tmp_path / "schemathesis")
    tested = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli"),
            *("--config-file", folder / "schemathesis.toml"),
            *("run", f"{described.tcp}/openapi.json"),
            *("--header", f"Authorization: Bearer {described.tokens['all']}"),
            "--no-color",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert tested.returncode == 0, tested.stdout[-20_000:] + tested.stderr[-2000:]
    assert described.process.poll() is None
    # A client that came last is served as the first one.
    with Door(described, "unix").client() as client:
        assert client.images.generate(prompt="a").data[0].b64_json
    described.wait_until_idle(5)
