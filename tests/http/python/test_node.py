"""Runs the tests in Node against the daemons of this run."""

import os
import pathlib
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent.parent / "node"
MODULES = pathlib.Path(os.environ["NODE_MODULES"])


def node() -> str:
    """Node as the packages want it: from the lock file, else the one of the machine."""
    own = list(MODULES.glob("node-linux-*/bin/node"))
    return str(own[0]) if own else "node"


@pytest.mark.parametrize("file", sorted(path.name for path in HERE.glob("*.test.mjs")))
def test_node(file, roomy, brisk, narrow, tmp_path):
    # Imports are looked up from the real place of a file, and the packages are not in the checkout.
    for path in HERE.glob("*.mjs"):
        shutil.copy(path, tmp_path)
    (tmp_path / "node_modules").symlink_to(MODULES)
    environment = dict(os.environ)
    for name, daemon in {"ROOMY": roomy, "BRISK": brisk, "NARROW": narrow}.items():
        environment |= {f"{name}_SOCKET": daemon.socket, f"{name}_TCP": daemon.tcp}
        environment |= {f"{name}_{token.upper()}": text for token, text in daemon.tokens.items()}
    done = subprocess.run(
        [node(), "--test", "--test-reporter=spec", str(tmp_path / file)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
