"""The settings of the service are a part of Dask's configuration, and are checked before anything starts."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import dask
import pytest

from swarm.config import Settings, settings
from swarm.errors import InvalidInput

SHOW = "from swarm.config import settings; print(settings().model_dump_json())"


def in_a_new_process(home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Dask reads its configuration when it is imported, so each of these needs a process of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    return subprocess.run(
        [sys.executable, "-c", SHOW],
        env=inherited | {"HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def read(home: Path, **environment: str) -> Settings:
    done = in_a_new_process(home, **environment)
    assert done.returncode == 0, done.stderr
    return Settings.model_validate_json(done.stdout)


def test_without_any_configuration_the_defaults_hold(tmp_path: Path) -> None:
    assert read(tmp_path) == Settings(
        scheduler_address=None,
        store="sqlite:///swarm.db",
        store_timeout_seconds=10,
        store_patience_seconds=60,
        keep_ended=None,
        results=None,
        checkpoints=None,
        admins=(),
        max_submission=64 * 2**20,
        checkpoint_places=None,
        max_jobs=20_000,
        max_jobs_per_user=5000,
        max_code=16 * 2**30,
        max_code_per_user=4 * 2**30,
        max_requests=10_000,
        max_requests_per_user=1000,
        max_request_bytes=2**30,
        max_request_bytes_per_user=256 * 2**20,
        max_specification=2**20,
        max_depth=40,
        max_parameters=1000,
        max_options=10_000,
        max_population=20_000,
        max_numbers=10**6,
        max_repeats=1000,
        max_evaluations=10**8,
        lease_seconds=10,
        worker_ttl_seconds=60,
        insecure=False,
    )


def test_the_environment_sets_what_it_names(tmp_path: Path) -> None:
    found = read(tmp_path, DASK_SWARM__STORE="sqlite:///mine.db", DASK_SWARM__ADMINS='["ann", "bob"]')
    assert (found.store, found.admins, found.lease_seconds) == ("sqlite:///mine.db", ("ann", "bob"), 10)


def test_a_key_of_two_words_can_be_set_from_the_environment_and_from_a_file(tmp_path: Path) -> None:
    assert read(tmp_path, DASK_SWARM__MAX_SUBMISSION="1 MiB").max_submission == 2**20
    file = tmp_path / "mine.yaml"
    file.write_text("swarm:\n  lease-seconds: 3\n  max_submission: 2 kB\n", encoding="utf-8")
    found = read(tmp_path, DASK_CONFIG=str(file))
    assert (found.lease_seconds, found.max_submission) == (3, 2000)


def test_how_long_ended_jobs_are_kept_is_said_in_words_or_seconds(tmp_path: Path) -> None:
    assert read(tmp_path, DASK_SWARM__KEEP_ENDED="365 days").keep_ended == 365 * 24 * 3600
    assert read(tmp_path, DASK_SWARM__KEEP_ENDED="90").keep_ended == 90
    for wrong in ("ever so long", "-1", "nan"):
        done = in_a_new_process(tmp_path, DASK_SWARM__KEEP_ENDED=wrong)
        assert done.returncode != 0 and "swarm.keep-ended" in done.stderr


def test_the_address_that_dask_knows_is_taken_unless_ours_is_set(tmp_path: Path) -> None:
    dasks = {"DASK_SCHEDULER_ADDRESS": "tcp://dask:8786"}
    assert read(tmp_path, **dasks).scheduler_address == "tcp://dask:8786"
    found = read(tmp_path, **dasks, DASK_SWARM__SCHEDULER_ADDRESS="tls://ours:8786")
    assert found.scheduler_address == "tls://ours:8786"


def test_the_first_use_leaves_a_commented_copy_to_edit(tmp_path: Path) -> None:
    before = read(tmp_path)
    copy = tmp_path / ".config" / "dask" / "swarm.yaml"
    lines = copy.read_text(encoding="utf-8").splitlines()
    assert lines and all(line.startswith("#") for line in lines)
    assert read(tmp_path) == before
    copy.write_text("swarm:\n  store: sqlite:///edited.db\n", encoding="utf-8")
    assert read(tmp_path).store == "sqlite:///edited.db"


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("swarm.admin", ["ann"], "unknown key 'swarm.admin'; known are scheduler-address, store"),
        ("swarm.admins", "ann", r"'swarm.admins': .*got 'ann'"),  # a name is not a list of its letters
        ("swarm.lease-seconds", 0, "'swarm.lease-seconds': .*greater than 0"),
        ("swarm.max-submission", "many", "'swarm.max-submission'"),
        ("swarm.insecure", "perhaps", "'swarm.insecure': .*boolean"),
        ("swarm", 3, "'swarm'"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(key: str, value: object, complaint: str) -> None:
    with dask.config.set({key: value}), pytest.raises(InvalidInput, match=complaint) as error:
        settings()
    assert "\n" not in str(error.value)
    settings()  # what was wrong has left nothing behind


def test_defaults_hold_even_if_dask_was_configured_before_the_first_use(tmp_path: Path) -> None:
    code = (
        "import dask\n"
        "from swarm.config import settings\n"
        "with dask.config.set({'swarm.store': 'a.db'}): first = settings()\n"
        "second = settings()\n"
        "print(first.store, first.lease_seconds, second.store, second.lease_seconds)"
    )
    environment = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["a.db", "10.0", "sqlite:///swarm.db", "10.0"]


def test_the_defaults_are_packaged() -> None:
    pyproject = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert 'swarm = ["py.typed", "swarm.yaml"]' in pyproject
    assert files("swarm").joinpath("swarm.yaml").is_file()
