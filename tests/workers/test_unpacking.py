"""Bundles and checkpoints that were made to hurt, and folders that somebody else has made."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest

from swarm.workers.bundle import LIMIT_BYTES, Bundle
from swarm.workers.checkpoints.cache import Copies
from swarm.workers.checkpoints.checkpoint import Checkpoint, CheckpointCorrupt, CheckpointStore
from swarm.workers.command import unpack
from swarm.workers.node.listen import other_users
from swarm.workers.node.private import private_folder, scratch
from swarm.workers.node.supervisor import make_slots, nanny_options

WAYS_OUT = ["/tmp/x", "../x", "a/../../x", "..", "..\\x", "\\x"]


def array(value: Any) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(value), allow_pickle=True)
    return buffer.getvalue()


def huge() -> bytes:
    """An array of a few bytes that claims to be a terabyte."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (137438953472,), }"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n"


def sealed(write: Callable[[zipfile.ZipFile], None]) -> bytes:
    """A file with a right checksum, whatever it holds."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("meta.json", "{}")
        write(file)
    return buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest()


def overlapping(content: bytes) -> bytes:
    """The same, with a directory that has its last part claim more than the file holds."""
    body = bytearray(content[:-32])
    at = body.rindex(b"PK\x01\x02")
    body[at + 20 : at + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    return bytes(body) + hashlib.sha256(body).digest()


MADE_TO_HURT = {
    **{f"named {name}": sealed(lambda file, name=name: file.writestr(f"{name}.npy", array(0))) for name in WAYS_OUT},
    "compressed": sealed(lambda file: file.writestr("a.npy", array(np.zeros(10**6)), zipfile.ZIP_DEFLATED)),
    "claims": sealed(lambda file: file.writestr("a.npy", huge())),
    "overlaps": overlapping(sealed(lambda file: file.writestr("a.npy", array(0)))),
    "objects": sealed(lambda file: file.writestr("a.npy", array(np.array([{}], dtype=object)))),
    "no array": sealed(lambda file: file.writestr("a.npy", b"no array")),
    "empty": b"",
}


@pytest.mark.parametrize("name", MADE_TO_HURT)
def test_a_checkpoint_that_was_made_to_hurt_is_called_corrupt(name: str, tmp_path: Path) -> None:
    store = CheckpointStore(str(tmp_path / "c"))
    store.save("good", {"dense/kernel": np.arange(3.0)}, {"epoch": 1})
    (tmp_path / "c" / "bad.npz").write_bytes(MADE_TO_HURT[name])
    with pytest.raises(CheckpointCorrupt, match=r"bad\.npz is corrupt .* train bad again"):
        store.load("bad")
    assert list(store.load("good").arrays) == ["dense/kernel"]


def test_a_checkpoint_larger_than_the_setting_is_not_read(tmp_path: Path) -> None:
    store = CheckpointStore(str(tmp_path))
    with (tmp_path / "large.npz").open("wb") as file:
        file.truncate(3 << 30)  # a hole
    with dask.config.set({"swarm.max-checkpoint": "2 GiB"}), pytest.raises(CheckpointCorrupt, match=r"max-checkpoint"):
        store.load("large")


@pytest.mark.parametrize("name", [*WAYS_OUT[:4], "link/x", "link"])
def test_files_of_a_command_are_written_below_their_folder_alone(name: str, tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    with pytest.raises(ValueError, match="elsewhere"):
        unpack(Checkpoint({"fine": np.zeros(1, np.uint8), name: np.zeros(1, np.uint8)}, {}), inside)
    assert [path.name for path in inside.iterdir()] == ["link"]
    assert not list(outside.iterdir()) and not (tmp_path / "x").exists()


def bundle(modules: dict[str, Any], main: dict[str, Any] | None = None) -> Bundle:
    return Bundle(zlib.compress(json.dumps({"main": main, "modules": modules}).encode()), b"")


@pytest.mark.parametrize("name", ["/tmp/evil", "../evil", "a/b", "a..b", "", ".a", "a\\b", "a\0b"])
def test_a_module_that_would_lie_elsewhere_is_refused(name: str) -> None:
    module = {"text": "", "file": "/project/m.py", "package": False}
    with pytest.raises(ValueError, match="would lead out of its folder"):
        bundle({name: module})
    if name:
        with pytest.raises(ValueError, match="would lead out of its folder"):
            bundle({"__main__": module}, {"name": name, "package": None, "argv": []})


def test_modules_of_usual_and_unusual_names_are_taken() -> None:
    module = {"text": "", "file": "/project/my-script.py", "package": False}
    taken = bundle(dict.fromkeys(("a.b.c", "my-module", "größe", "__main__"), module), {"name": None})
    assert {str(taken.file(name)) for name in taken.modules} == {"a/b/c.py", "my-module.py", "größe.py", "my-script.py"}


def test_sources_that_become_enormous_are_refused() -> None:
    header = zlib.compress(json.dumps({"main": None, "modules": {}}).encode() + b" " * LIMIT_BYTES)
    assert len(header) < LIMIT_BYTES / 500
    with pytest.raises(ValueError, match="larger than 256 MiB"):
        Bundle(header, b"")


# --- folders below the temporary directory


@pytest.fixture
def shared_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("SWARM_COPIES", raising=False)
    return tmp_path


def test_folders_of_ours_are_closed_to_others(shared_tmp: Path) -> None:
    made = [private_folder("swarm"), Path(scratch()), Path(nanny_options(make_slots(slots=1)[0])["local_directory"])]
    assert {path.parent for path in made} == {shared_tmp}
    made[0].chmod(0o777)  # by an earlier version, or a careless umask
    assert stat.S_IMODE(private_folder("swarm").stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a folder that is somebody else's")
def test_a_folder_that_somebody_else_has_made_is_refused(shared_tmp: Path) -> None:
    for name in ("swarm", "swarm-copies"):
        (shared_tmp / f"{name}-0").mkdir()
        os.chown(shared_tmp / f"{name}-0", 1234, 1234)
    with pytest.raises(PermissionError, match="was made by user 1234: remove it, or set TMPDIR"):
        scratch()
    copies = Copies("somewhere")
    copies.put("a", b"x")
    assert copies.get("a") is None
    assert not list((shared_tmp / "swarm-copies-0").iterdir())


def test_a_link_in_the_place_of_a_folder_is_not_followed(shared_tmp: Path) -> None:
    (shared_tmp / "elsewhere").mkdir()
    for name in ("swarm", "swarm-copies"):
        (shared_tmp / f"{name}-{os.geteuid()}").symlink_to(shared_tmp / "elsewhere")
    with pytest.raises(NotADirectoryError, match="is a link or a file"):
        scratch()
    copies = Copies("somewhere")
    copies.put("a", b"x")
    assert copies.get("a") is None
    assert not list((shared_tmp / "elsewhere").iterdir())


def test_who_has_chosen_dasks_folder_keeps_it(shared_tmp: Path) -> None:
    with dask.config.set({"temporary-directory": "/var/mine"}):
        assert scratch() == "/var/mine"


def test_users_of_this_machine_are_those_who_can_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    def account(number: int, shell: str) -> pwd.struct_passwd:
        return pwd.struct_passwd(("x", "x", number, number, "", "/", shell))

    nobody = [account(0, "/bin/bash"), account(33, "/bin/sh"), account(1000, "/usr/sbin/nologin"), account(65534, "/x")]
    monkeypatch.setattr("os.geteuid", lambda: 1001)
    monkeypatch.setattr("pwd.getpwall", lambda: [*nobody, account(1001, "/bin/bash")])
    monkeypatch.setattr("swarm.workers.node.listen._NAMES", Path("/nowhere"))
    assert not other_users()
    monkeypatch.setattr("pwd.getpwall", lambda: [*nobody, account(1002, "/bin/bash")])
    assert other_users()


@pytest.mark.parametrize(("line", "others"), [("passwd: files sss", True), ("passwd: files systemd", False)])
def test_accounts_that_come_over_the_network_count(
    line: str, others: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nsswitch.conf").write_text(f"{line}\ngroup: files\n")
    monkeypatch.setattr("pwd.getpwall", lambda: [])
    monkeypatch.setattr("swarm.workers.node.listen._NAMES", tmp_path / "nsswitch.conf")
    assert other_users() is others
