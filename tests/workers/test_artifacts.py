"""Files that trainings leave are kept, a folder for each, and nothing that is wrong with one fails a training."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import dask
import pytest
from scripts import run_swarm

from swarm import Context, Grid, Integer, Job, Run, run
from swarm.runs.artifacts import artifacts, content
from swarm.store import Store
from swarm.trial import artifacts_in
from swarm.workers.checkpoints.artifacts import MOST_FILES, Artifacts


@pytest.fixture
def kept(tmp_path: Path) -> Callable[[], dict[str, bytes]]:
    """What is in the folder, by name."""
    return lambda: {path.name: path.read_bytes() for path in (tmp_path / "kept").glob("*")}


@pytest.fixture
def left(tmp_path: Path) -> Artifacts:
    return Artifacts(str(tmp_path / "kept"))


def test_a_file_is_copied_under_its_name_or_another_and_the_last_of_a_name_stays(
    left: Artifacts, kept: Any, tmp_path: Path
) -> None:
    file = tmp_path / "plot.png"
    file.write_bytes(b"one")
    assert left.keep(file) and left.keep(str(file), "größe 1.png")
    file.write_bytes(b"two")
    assert left.keep(file)
    file.unlink()
    assert kept() == {"plot.png": b"two", "größe 1.png": b"one"}


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/b", "..", ".", ".hidden", "a\\b", "a\nb", "a\0b", "\x1b[31m", "x" * 201, "\udc80"]
)
def test_names_are_only_names(name: str, left: Artifacts, kept: Any, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "plot.png"
    file.write_bytes(b"one")
    assert not left.keep(file, name)
    assert "is not kept: a name" in capsys.readouterr().err
    assert kept() == {}
    assert {path.name for path in tmp_path.rglob("*")} <= {"plot.png", "kept"}


def test_what_is_no_file_is_not_kept_and_the_reason_is_said(left: Artifacts, kept: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "pipe", tmp_path / "folder", tmp_path / "missing", "/dev/zero", "", 3.5, None):
        assert not left.keep(path)  # type: ignore[arg-type]
    assert kept() == {}


def test_a_link_is_kept_as_the_file_that_it_leads_to(left: Artifacts, kept: Any, tmp_path: Path) -> None:
    (tmp_path / "epoch-3.txt").write_bytes(b"three")
    (tmp_path / "latest.txt").symlink_to("epoch-3.txt")
    assert left.keep(tmp_path / "latest.txt")
    assert kept() == {"latest.txt": b"three"}
    assert not (tmp_path / "kept" / "latest.txt").is_symlink()


def test_a_training_leaves_so_many_bytes_in_all_and_so_many_files(
    left: Artifacts, kept: Any, tmp_path: Path, capsys: Any
) -> None:
    file = tmp_path / "model"
    file.write_bytes(b"x" * 1_500_000)
    with dask.config.set({"swarm.max-artifacts": "2 MB"}):
        assert left.keep(file)
        assert not left.keep(file, "second")
        assert "swarm.max-artifacts allows 2.0 MB" in capsys.readouterr().err
        assert left.keep(file), "which replaces the first"
        file.write_bytes(b"small")
        assert left.keep(file, "third")
    assert sorted(kept()) == ["model", "third"]
    assert [left.keep(file, f"f{number}") for number in range(MOST_FILES)] == [True] * (MOST_FILES - 2) + [False] * 2


def test_what_a_killed_attempt_left_half_written_goes(left: Artifacts, kept: Any, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / ".3f2a").write_bytes(b"half")
    (tmp_path / "a").write_bytes(b"whole")
    assert left.keep(tmp_path / "a")
    assert kept() == {"a": b"whole"}


def test_a_disk_that_does_not_take_it_or_a_missing_place_costs_the_file_alone(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "kept").write_bytes(b"no folder")
    (tmp_path / "a").write_bytes(b"a")
    assert not Artifacts(str(tmp_path / "kept")).keep(tmp_path / "a")
    assert not Artifacts(None).keep(tmp_path / "a")
    assert "--results FOLDER" in capsys.readouterr().err
    assert not Context().artifact(tmp_path / "a"), "by hand nothing is kept"


def test_readers_follow_no_links_and_know_no_other_names(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "s.db")) as store:
        assert store.folder is not None
        folder = Path(artifacts_in(str(store.folder / "results"), "ab" * 20))
        folder.mkdir(parents=True)
        (folder / "a.txt").write_text("mine")
        (tmp_path / "secret").write_text("secret")
        (folder / "b.txt").symlink_to(tmp_path / "secret")
        (folder / ".half").write_text("half")
        os.mkfifo(folder / "pipe")
        assert [each.name for each in artifacts(store, "ab" * 20)] == ["a.txt"]
        assert content(store, "ab" * 20, "a.txt") == b"mine"
        for name in ("b.txt", ".half", "pipe", "../a.txt", "..", "", "no"):
            assert content(store, "ab" * 20, name) is None
        (folder.parent / f"{'cd' * 20}.files").symlink_to(folder)
        link = Path(artifacts_in(str(store.folder / "results"), "cd" * 20))
        link.parent.mkdir()
        link.symlink_to(folder)
        assert artifacts(store, "cd" * 20) == [] and content(store, "cd" * 20, "a.txt") is None


def leaves(params: Any, ctx: Any) -> float:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "n.txt"
        path.write_text(f"n = {params['n']}")
        assert ctx.artifact(path)
        if params["n"] == 2:
            assert not ctx.artifact(path, "../n.txt")
            raise ValueError("it fails")
    return float(params["n"])


def searched(folder: Path, name: str, **options: Any) -> Run:
    job = Job(name=name, problem=leaves, space={"n": Integer(0, 2)}, optimizer=Grid(), max_failures=0, **options)
    return run(job, slots=1, store=folder / "runs.db", progress=False)


def texts(found: Run) -> list[list[str]]:
    return [[path.read_text() for path in found.artifacts(trial)] for trial in range(3)]


@pytest.mark.slow
def test_the_files_of_a_trial_are_found_also_by_who_is_answered_by_the_archive_and_go_with_its_run(
    tmp_path: Path,
) -> None:
    first, second = searched(tmp_path, "first"), searched(tmp_path, "second")
    assert second.counts["archive"] == 2
    assert texts(first) == texts(second) == [["n = 0"], ["n = 1"], ["n = 2"]]
    assert first.artifacts(99) == []
    assert "swarm: '../n.txt' is not kept: a name has no folders" in first.output(2)
    said = run_swarm(tmp_path, "show", "second", "--artifacts", "1", "--store", "runs.db")
    assert Path(said.stdout.strip()).read_text() == "n = 1"
    done = run_swarm(tmp_path, "export", "second", "--artifacts", "out", "--store", "runs.db")
    assert done.returncode == 0, done.stderr
    written = {str(path.relative_to(tmp_path)): path.read_text() for path in (tmp_path / "out").rglob("*.txt")}
    assert written == {f"out/second/trial-{n:05d}/n.txt": f"n = {n}" for n in range(3)}
    gone = run_swarm(tmp_path, "delete", "first", "--yes", "--archive", "--store", "runs.db")
    assert gone.returncode == 0, gone.stderr
    kept = {path.read_text() for path in (tmp_path / "runs.db.artifacts").rglob("*.files/*")}
    assert not {"n = 0", "n = 1"} & kept


@pytest.mark.slow
def test_trainings_in_threads_leave_files_too(tmp_path: Path) -> None:
    assert texts(searched(tmp_path, "threads", isolation="thread")) == [["n = 0"], ["n = 1"], ["n = 2"]]
