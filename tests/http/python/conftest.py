"""The daemons that the tests share."""

import pytest

from daemon import Daemon
from doors import Door

# A model without weights answers when the steps of its pictures have taken their time.
ROOMY = """
[pool]
cold_start_workers = 1
max_workers_per_model = 2
[models.quick]
family = "synthetic"
params = { step_ms = 5, load_ms = 0, weights_mb = 1 }
[models.slow]
family = "synthetic"
params = { step_ms = 150, load_ms = 0, weights_mb = 1 }
"""

# The names of OpenAI's models mean a model whose pictures cost nothing.
BRISK = """
default_model = "quick"
[models.quick]
family = "synthetic"
params = { step_ms = 1, load_ms = 0, weights_mb = 1 }
"""

# One worker a model, one job that waits, and little memory.
NARROW = """
[pool]
cold_start_workers = 1
max_workers_per_model = 1
queue_per_model = 1
drain_seconds = 20.0
[memory]
host_limit_mb = 64
[models.slow]
family = "synthetic"
params = { step_ms = 150, load_ms = 0, weights_mb = 1 }
[models.heavy]
family = "synthetic"
params = { step_ms = 5, load_ms = 0, weights_mb = 30 }
"""


def daemon(settings: str):
    """Runs a daemon for as long as its tests need it."""
    started = Daemon(settings)
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="session")
def roomy():
    """A daemon with room for everything that the tests ask for."""
    yield from daemon(ROOMY)


@pytest.fixture(scope="session")
def narrow():
    """A daemon that refuses much."""
    yield from daemon(NARROW)


@pytest.fixture(scope="session")
def brisk():
    """A daemon that draws at once."""
    yield from daemon(BRISK)


@pytest.fixture
def fleeting():
    """A daemon for one test, which may end it."""
    yield from daemon(NARROW)


@pytest.fixture(params=["unix", "tcp"])
def door(request, roomy):
    """Each of the sockets of the roomy daemon."""
    return Door(roomy, request.param)


@pytest.fixture(params=["unix", "tcp"])
def narrow_door(request, narrow):
    """Each of the sockets of the narrow daemon."""
    return Door(narrow, request.param)


@pytest.fixture(params=["unix", "tcp"])
def brisk_door(request, brisk):
    """Each of the sockets of the brisk daemon."""
    return Door(brisk, request.param)


@pytest.fixture
def tcp(roomy):
    """The roomy daemon over TCP."""
    return Door(roomy, "tcp")


@pytest.fixture
def brisk_tcp(brisk):
    """The brisk daemon over TCP."""
    return Door(brisk, "tcp")
