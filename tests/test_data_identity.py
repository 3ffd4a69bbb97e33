"""What a job says of its data makes its trainings others, and nothing else about the files does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from own_modules import TRAIN, write

from swarm import Job
from swarm.errors import InvalidJob

pytestmark = pytest.mark.usefixtures("modules_of_their_own")


def data_of(folder: Path, **said: Any) -> str:
    (folder / "job.yaml").write_text(yaml.safe_dump(JOB | said))
    return Job.from_file(folder / "job.yaml").code.fingerprint


JOB = {
    "name": "n",
    "problem": "main.py:train",
    "space": {"x": {"real": [0, 1]}},
    "optimizer": {"name": "Random", "trials": 3},
}


def test_what_a_job_says_of_its_data_counts(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": TRAIN, "data/a.csv": "1", "data/deep/b.csv": "2", "one.txt": "3"})
    seen = [
        data_of(tmp_path),
        data_of(tmp_path, version=1),
        data_of(tmp_path, version=2),
        data_of(tmp_path, version="1"),
        data_of(tmp_path, files=["one.txt"]),
        data_of(tmp_path, files=["data"]),
        data_of(tmp_path, files=["data/*.csv"]),
        data_of(tmp_path, files=["data/*.csv", "one.txt"]),
        data_of(tmp_path, files=["one.txt"], version=1),
    ]
    assert len(set(seen)) == len(seen)
    assert data_of(tmp_path, version=1) == seen[1] and data_of(tmp_path, files=["data"]) == seen[5]
    (tmp_path / "data/deep/b.csv").write_text("22")
    assert data_of(tmp_path, files=["data"]) != seen[5]
    assert data_of(tmp_path, files=["**/*.csv"]) != data_of(tmp_path, files=["data/*.csv"]) == seen[6]


def test_files_count_the_same_in_another_folder_and_however_they_are_named(tmp_path: Path) -> None:
    for name in ("a", "b [1]"):
        write(tmp_path / name, {"main.py": TRAIN, "data/a.csv": "1"})
    one, other = tmp_path / "a", tmp_path / "b [1]"
    assert data_of(one, files=["data"]) == data_of(other, files=["data/*"]) == data_of(one, files=[str(other / "data")])


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"files": ["nowhere*"]}, "files: 'nowhere\\*' names no file in"),
        ({"files": "data"}, "files is a list"),
        ({"files": [3]}, "files is a list"),
        ({"version": [1]}, "version is a text or a number"),
        ({"version": True}, "version is a text or a number"),
    ],
)
def test_data_that_are_not_there_are_refused(said: dict[str, Any], text: str, tmp_path: Path) -> None:
    write(tmp_path, {"main.py": TRAIN})
    with pytest.raises(InvalidJob, match=text):
        data_of(tmp_path, **said)


def test_a_stored_job_keeps_its_data_whatever_the_files_say_by_then(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": TRAIN, "data.csv": "1"})
    data_of(tmp_path, files=["data.csv"], version=3)
    job = Job.from_file(tmp_path / "job.yaml")
    (tmp_path / "data.csv").unlink()
    again = Job.from_dict(job.to_dict(), job.code.pickle)
    assert again.code.fingerprint == job.code.fingerprint and again.differences(job.to_dict()) == []
