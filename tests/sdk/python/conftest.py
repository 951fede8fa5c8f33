"""Fixtures: networks to test against, one process tree each, and the SDK pointed at them."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

import network  # noqa: E402  (beside this folder)

TARGETS = os.environ.get("COCOON_TARGETS", "scripted,embedded,llama").split(",")


@pytest.fixture(scope="session")
def networks():
    """Starts each network once, at first use, and ends them all."""
    with network.Networks() as started:
        yield started


@pytest.fixture(params=TARGETS)
def net(request, networks):
    """Every kind of engine behind the whole chain."""
    return networks.up(request.param)


@pytest.fixture
def scripted(networks):
    """The scripted engine behind the whole chain."""
    return networks.up("scripted")


@pytest.fixture
def sdk(request):
    """The official SDK, pointed at the network that the test uses."""
    name = "net" if "net" in request.fixturenames else "scripted"
    return request.getfixturevalue(name).sdk()


@pytest.fixture
def guarded(networks):
    """Three processes, API keys required."""
    return networks.roles("guarded")


@pytest.fixture
def crowded(networks):
    """Three processes, one slot, no queue."""
    return networks.roles("crowded")


@pytest.fixture
def mortal(networks):
    """Three processes, one of which the test may end."""
    return networks.roles("mortal")
