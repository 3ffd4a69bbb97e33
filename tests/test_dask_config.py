"""``DASK_CONFIG`` names what cannot be read: every command says so, where Dask would go on without TLS."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from scripts import run_swarm

from swarm.errors import InvalidInput
from swarm.manners.dask_config import check_readable

NOBODY = 65534


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything: as root, be another user meanwhile."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.fixture
def seen() -> Iterator[Path]:
    """A folder that everybody sees, as no folder of pytest's is."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def tls(folder: Path, role: str = "client", **changes: str) -> Path:
    """A configuration such as make-certificates makes, with its files."""
    files = {name: str(folder / f"{name}.pem") for name in ("ca-file", "cert", "key")} | changes
    for path in files.values():
        if path.startswith(str(folder)):
            Path(path).write_text("…", encoding="utf-8")
    section = {"ca-file": files["ca-file"], role: {"cert": files["cert"], "key": files["key"]}}
    file = folder / "tls.yaml"
    file.write_text(yaml.safe_dump({"distributed": {"comm": {"tls": section}}}), encoding="utf-8")
    return file


def check(config: Path | str, role: str = "client", **more: str) -> None:
    check_readable(role, {"DASK_CONFIG": str(config), **more})


@pytest.mark.parametrize(
    "command", [("jobs",), ("scheduler", "--port", "0"), ("worker", "tcp://127.0.0.1:1"), ("show",), ("doctor",)]
)
def test_every_command_names_the_file_that_is_not_there(command: tuple[str, ...], tmp_path: Path) -> None:
    missing = tmp_path / "worker" / "tls.yaml"
    done = run_swarm(tmp_path, *command, DASK_CONFIG=str(missing))
    assert done.returncode == 2
    assert " ".join(done.stderr.split()).startswith(f"swarm: DASK_CONFIG names {missing}, which is not there")
    assert "anyone" not in done.stderr and done.stdout == ""


def test_help_and_version_are_said_all_the_same(tmp_path: Path) -> None:
    for command in (["--help"], ["--version"]):
        assert run_swarm(tmp_path, *command, DASK_CONFIG="/nowhere/tls.yaml").returncode == 0


def test_what_can_be_read_is_taken(tmp_path: Path) -> None:
    check_readable("client", {})
    check(tls(tmp_path))
    check(tmp_path)
    check(tmp_path / "made-by-dask")
    (tmp_path / "empty.yaml").touch()
    check(tmp_path / "empty.yaml")
    check(tmp_path / "empty.yaml", DASK_DISTRIBUTED__COMM__TLS__CA_FILE="-----BEGIN\n")


def test_a_folder_that_dask_could_not_make_is_an_error(seen: Path) -> None:
    seen.chmod(0o555)
    with as_nobody(), pytest.raises(InvalidInput, match="made-by-nobody, which is not there"):
        check(seen / "made-by-nobody")


@pytest.mark.parametrize("closed", ["file", "folder"])
def test_what_belongs_to_somebody_else_is_said_to(closed: str, seen: Path) -> None:
    folder = seen / "master"
    folder.mkdir()
    file = tls(folder)
    (file if closed == "file" else folder).chmod(0o000)
    with as_nobody(), pytest.raises(InvalidInput) as raised:
        check(file)
    number = NOBODY if os.geteuid() == 0 else os.geteuid()
    said = f"DASK_CONFIG names {file}, which user {number} cannot read (permission denied)"
    assert str(raised.value).startswith(said) and "SWARM_UID" in str(raised.value)
    folder.chmod(0o755)


def test_a_key_that_belongs_to_somebody_else_is_named(seen: Path) -> None:
    file = tls(seen)
    file.chmod(0o644)
    for name in ("ca-file", "cert", "key"):
        Path(seen, f"{name}.pem").chmod(0o000 if name == "key" else 0o644)
    with (
        as_nobody(),
        pytest.raises(InvalidInput, match=r"tls\.client\.key of .* names .*key\.pem, which user \d+ cannot"),
    ):
        check(file)


@pytest.mark.parametrize("text", ["distributed: [", "- a\n- b\n", "tls", "\x00"])
def test_what_is_no_configuration_is_said_to_be_none(text: str, tmp_path: Path) -> None:
    file = tmp_path / "tls.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"DASK_CONFIG names .*tls\.yaml, which is no (YAML|configuration of Dask)"):
        check(file)
    with pytest.raises(InvalidInput, match="which is no"):
        check(tmp_path)


@pytest.mark.parametrize("name", ["ca-file", "cert", "key"])
def test_a_certificate_that_it_names_and_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    file = tls(tmp_path, "worker", **{name: "/nowhere/file.pem"})
    key = name if name == "ca-file" else f"worker.{name}"
    with pytest.raises(InvalidInput, match=rf"distributed\.comm\.tls\.{key} of .* names /nowhere/file\.pem"):
        check(file, "worker")
    if name != "ca-file":
        check(file, "client")  # which has no use for it


def test_a_certificate_that_a_variable_names_is_looked_for_too(tmp_path: Path) -> None:
    for name in ("CA_FILE", "CLIENT__CERT", "CLIENT__KEY"):
        variable = f"DASK_DISTRIBUTED__COMM__TLS__{name}"
        with pytest.raises(InvalidInput, match=f"{variable} names {tmp_path}/missing.pem, which is not there"):
            check_readable("client", {variable: f"{tmp_path}/missing.pem"})
    check_readable("client", {"DASK_DISTRIBUTED__COMM__TLS__WORKER__KEY": "/nowhere"})
