"""A full disk is no fault of the configuration that met it."""

from __future__ import annotations

from pathlib import Path

import cloudpickle
import pytest

from swarm.trial import Evaluation, Status
from swarm.workers.evaluate import evaluate


def saves(params, ctx):
    Path(params["file"]).write_bytes(b"a checkpoint")
    return 1.0


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_training_that_finds_the_disk_full_is_not_failed_for_good(tmp_path, isolation) -> None:
    full = Evaluation.of("p", {"file": "/dev/full"}, isolation=isolation)
    result = evaluate(cloudpickle.dumps(saves), full, str(tmp_path / "results"))
    assert result.status is Status.CRASHED  # so the search tries it once more
    assert str(result.error).startswith("OSError: [Errno 28] No space left on device")
    assert not (tmp_path / "results").exists()
    room = Evaluation.of("p", {"file": str(tmp_path / "file")}, isolation=isolation)
    assert evaluate(cloudpickle.dumps(saves), room).status is Status.OK
