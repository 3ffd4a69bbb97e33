"""The scheduler's address is given as an argument or by --scheduler, to every command that takes one."""

from __future__ import annotations

import json

import pytest
from services import free_port
from typer.testing import CliRunner

from swarm.cli import app

COMMANDS = ("health", "worker", "master")


@pytest.mark.parametrize("command", COMMANDS)
def test_two_schedulers_are_refused(command: str) -> None:
    done = CliRunner().invoke(app, [command, "tcp://one:8786", "--scheduler", "tcp://other:8786"])
    assert done.exit_code != 0
    assert "two schedulers are named, tcp://one:8786 and tcp://other:8786" in str(done.exception)


def test_health_asks_the_scheduler_of_the_option() -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    done = CliRunner().invoke(app, ["health", "--json", "--scheduler", address])
    assert done.exit_code == 2 and address in json.loads(done.output)["problems"][0]
