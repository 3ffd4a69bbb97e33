"""A store is named by a path, a text or a URL; whatever its name holds, it is the file of that name."""

from __future__ import annotations

import logging
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from swarm import Grid, Integer, Job, run
from swarm.errors import StoreUnavailable
from swarm.runner import Run, free_name, resume
from swarm.store import Store
from swarm.store import path as store_path

NAMES = [
    "s.db",
    "a b.db",
    "what?.db",
    "what?",
    "100%20.db",
    "#1.db",
    "schön ☃.db",
    "a:b;c&d=e.db",
    "[x]*.db",
    "?timeout=5",
]


def train(params: Any, ctx: Any) -> float:
    if ctx.wants_checkpoint:
        ctx.save({}, n=params["n"])
    return float(params["n"])


def job(**options: Any) -> Job:
    return Job(name="j", problem=train, space={"n": Integer(0, 1)}, optimizer=Grid(), **options)


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_the_file_of_that_name_and_its_folder_is_beside_it(tmp_path: Path, name: str) -> None:
    for given in (tmp_path / name, f"{tmp_path}/{name}"):
        store = Store(given)
        store.close()
        assert (store.file, store.folder) == (tmp_path / name, tmp_path / f"{name}.artifacts")
        with closing(Store(store.url, create=False)) as again:  # as it is said in what a user is told to type
            assert again.file == tmp_path / name
        with closing(Store(store_path.absolute(given), create=False)) as again:
            assert again.file == tmp_path / name
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", NAMES[:-1])
def test_a_url_takes_the_name_as_it_is(tmp_path: Path, name: str) -> None:
    with closing(Store(f"sqlite:///{tmp_path}/{name}")) as store:
        assert store.file == tmp_path / name.removesuffix("?")
    assert store.file.exists()


def test_a_url_ends_where_options_begin(tmp_path: Path) -> None:
    with closing(Store(f"sqlite:///{tmp_path}/s.db?timeout=3&check_same_thread=false")) as store:
        assert store.file == tmp_path / "s.db"
        assert [each.name for each in store.jobs()] == []


def test_all_names_of_a_file_are_one_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    (tmp_path / "folder" / "link.db").symlink_to("s.db")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "folder")
    names = [
        "s.db",
        "./s.db",
        "sqlite:///s.db",
        "~/folder/s.db",
        "sqlite:///~/folder/s.db",
        "../folder/s.db",
        "link.db",
    ]
    names += [f"{tmp_path}/link/s.db", f"sqlite:///{tmp_path}/link/s.db", f"sqlite+pysqlite:///{tmp_path}/link/s.db"]
    for number, name in enumerate(names):
        with closing(Store(name)) as store:
            store.add_job(str(number), {}, b"")
            assert store.folder == tmp_path / "folder" / "s.db.artifacts"
    with closing(Store(tmp_path / "folder" / "s.db")) as store:
        assert len(store.jobs()) == len(names)


def test_a_store_stays_the_same_when_the_folder_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    found = run(job(isolation="thread"), slots=1, store="s.db", progress=False)
    with closing(Store("s.db")) as store:
        monkeypatch.chdir(tmp_path / "other")
        assert [each.name for each in store.jobs()] == ["j"]
    assert list(found.history["fitness"]) == [0.0, 1.0]
    assert list((tmp_path / "other").iterdir()) == []


def test_a_run_is_found_by_a_path_wherever_a_store_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a b#1?.db"
    found = run(job(checkpoints=True), slots=1, store=path, progress=False)
    assert found.history["fitness"].tolist() == [0.0, 1.0]
    assert Run.load("j", path).best == Run.load("j", found.store).best == resume("j", store=path).best
    assert free_name("j", path) == "j-2"
    assert len(list((tmp_path / "a b#1?.db.artifacts" / "checkpoints").iterdir())) == 1  # the best's
    assert {file.name for file in tmp_path.iterdir()} == {path.name, f"{path.name}.artifacts"}


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "a store has a name"),
        ("folder", "is a folder; name a file in it: --store .*folder/swarm.db"),
        ("sqlite:///folder", "is a folder; name a file in it"),
        ("none/s.db", "the store .*none/s.db cannot be made; does its folder exist. Make it: mkdir -p .*none"),
        ("mysql://host/name", "a store is sqlite:///FILE or postgresql://HOST/NAME"),
    ],
)
def test_what_can_be_no_store_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, complaint: str
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreUnavailable, match=complaint) as error:
        Store(name)
    assert "\n" not in str(error.value)
    assert [file.name for file in tmp_path.rglob("*")] == ["folder"]


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /srv rw,relatime shared:2 master:1 - nfs4 server:/srv rw,vers=4.2
31 30 254:1 / /srv/lab/local rw - xfs /dev/vdb rw
32 22 0:41 / /mnt/my\\040share rw - cifs //server/share rw
33 22 0:42 / /ssh rw - fuse.sshfs user@server: rw
34 22 0:43 / /merged rw - fuse.mergerfs a:b rw
35 22 0:44 / /scratch rw - lustre mds@tcp:/scratch rw
36 22 8:1 / /windows rw - fuseblk /dev/sda1 rw
37 22 0:45 / /over rw - tmpfs tmpfs rw
38 22 0:46 / /over rw - nfs server:/over rw
"""


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("/var/s.db", None),
        ("/srv/lab/s.db", "nfs4"),
        ("/srv/lab/local/s.db", None),
        ("/srvs/s.db", None),
        ("/mnt/my share/s.db", "cifs"),
        ("/ssh/s.db", "fuse.sshfs"),
        ("/merged/s.db", None),
        ("/scratch/lab/run/s.db", "lustre"),
        ("/windows/s.db", None),
        ("/over/s.db", "nfs"),
    ],
)
def test_a_network_file_system_is_told_from_a_local_one(tmp_path: Path, file: str, kind: str | None) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert store_path.on_network(Path(file), mounts) == kind


def test_a_store_on_a_network_file_system_is_warned_of_once_and_has_no_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def mode(file: Path) -> str:
        with closing(Store(file)) as store, store._engine.connect() as connection:
            return str(connection.execute(sa.text("PRAGMA journal_mode")).scalar_one())

    assert mode(tmp_path / "s.db") == "wal"
    monkeypatch.setattr(store_path, "on_network", lambda file: "nfs4")
    with caplog.at_level(logging.WARNING, "swarm.store"):
        assert [mode(tmp_path / "s.db"), mode(tmp_path / "s.db")] == ["delete", "delete"]
    assert len(caplog.records) == 1
    assert "network file system (nfs4)" in caplog.text
    assert "postgresql://HOST/NAME" in caplog.text


def test_the_disk_of_these_tests_is_looked_up(tmp_path: Path) -> None:
    assert store_path.on_network(Path(os.path.realpath(tmp_path))) is None
