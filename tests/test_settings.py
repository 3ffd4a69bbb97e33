"""Settings: what a job file says, changed on the command line or by a caller."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from swarm import Job
from swarm.errors import InvalidInput


def job_file(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(f"name: job\nproblem: digits-cnn\n{text}\n")
    return path


def test_settings_change_what_a_job_file_says(tmp_path: Path) -> None:
    path = job_file(tmp_path, "optimizer: {name: Staged, stages: [[1, 2]]}\noptions: {epochs: 5}")
    settings = ["optimizer.stages=[[10, 30], [40, 10]]", "optimizer.keep=0.25", "seed=7", "stop.target=0.9"]
    job = Job.from_file(path, settings)
    assert job.optimizer.stages == [[10, 30], [40, 10]] and job.optimizer.keep == 0.25
    assert (job.seed, job.stop.target) == (7, 0.9)
    other = Job.from_file(path, ["options.epochs=6"])
    assert other.code.fingerprint != job.code.fingerprint


def test_settings_reach_into_an_optimizer_that_is_only_named_and_give_way_to_options(tmp_path: Path) -> None:
    path = job_file(tmp_path, "optimizer: PSO")
    assert Job.from_file(path, ["optimizer.particles=12", "seed=3"], seed=4).optimizer.particles == 12
    assert Job.from_file(path, ["seed=3"], seed=4).seed == 4
    assert Job.from_file(path, ["seed=3"], seed=None).seed == 3


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("seed", "'seed' is no setting; write KEY=VALUE"),
        ("=3", "'=3' is no setting"),
        ("optimizer..x=3", "'optimizer..x=3' is no setting"),
        ("name.first=a", "'name.first=a' sets a part of name, but that is 'job'"),
        ("seed=[1", "the value in 'seed=[1' is not YAML"),
        ("speed=1", "unknown key 'speed' (did you mean 'seed'?)"),
        ("optimizer.particle=1", "optimizer PSO has no option 'particle'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, setting: str, text: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(text)):
        Job.from_file(job_file(tmp_path, "optimizer: PSO"), [setting])
