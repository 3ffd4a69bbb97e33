"""Fixtures that start the real thing: SQLite files and a PostgreSQL server."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
import uuid
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

import swarm.cluster.connect
from swarm.store import Store

LONGEST = (
    "test_command.py",
    "test_keras.py",
    "test_service.py",
    "test_coming_from.py",
    "test_networks.py",
    "test_identity.py",
    "test_backends.py",
    "test_pages.py",
    "test_upkeep.py",
    "test_service_faults.py",
    "test_ensemble.py",
    "test_pool.py",
    "test_readme.py",
    "test_optimizers.py",
    "test_interruption.py",
    "test_slices.py",
    "test_travel.py",
    "test_main_guard.py",
    "test_warm.py",
    "test_search_pages.py",
    "test_damaged_stores.py",
    "test_docs.py",
    "test_report.py",
    "test_health.py",
    "test_own_dask.py",
    "test_security.py",
    "test_readers.py",
    "test_keras_replicas.py",
    "test_compositions.py",
    "test_run_lock.py",
    "test_failed_runs.py",
    "test_gpu_workers.py",
    "test_mistakes.py",
    "test_surrogate_pso.py",
    "test_import_name.py",
    "test_time_to_accuracy.py",
    "test_frameworks.py",
    "test_store_away.py",
    "test_guided_search.py",
    "test_hostile_jobs.py",
    "test_one_worker.py",
    "test_hostile_text.py",
    "test_notebook.py",
    "test_stores.py",
    "test_at_home.py",
    "test_winner.py",
    "test_first_minutes.py",
    "test_gpu.py",
    "test_chain.py",
    "test_drain.py",
    "test_engines.py",
    "test_ahead.py",
    "test_stored.py",
    "test_deploy.py",
    "test_launchers.py",
    "test_lenet5.py",
    "test_operators.py",
)
"""Files that take from half a minute to minutes, the longest first."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run deep tests, and every row of those marked as a matrix")


def pytest_configure() -> None:
    """Let Ctrl-C be heard in what the tests start, even if a shell runs them in the background and has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files come first, so that none begins when the other processes have nothing left to do.

    Of a test that is marked ``matrix`` enough rows run to use each value of each parameter, and none that is marked
    ``deep``; ``--all`` runs all, and so does a test that is named.
    """
    if not config.getoption("--all"):
        named = {argument.partition("[")[0] for argument in config.args if "::" in argument}
        shallow = [i for i in items if not i.get_closest_marker("deep") or i.nodeid.partition("[")[0] in named]
        thinned = _thinned(shallow)
        config.hook.pytest_deselected(items=[item for item in items if item not in thinned])
        items[:] = [item for item in items if item in thinned]
    tests = Counter(item.path for item in items)
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (places.get(item.path.name, len(places)), -tests[item.path], str(item.path)))


def pytest_collection_finish() -> None:
    """Set aside what was imported and collected, so that no full collection of garbage goes through it again."""
    gc.collect()
    gc.freeze()


def _thinned(items: list[pytest.Item]) -> set[pytest.Item]:
    """All tests, but of each matrix only rows that together use each value of each parameter ``times`` times."""
    kept = {item for item in items if not _is_row(item)}
    matrices = defaultdict[str, list[pytest.Item]](list)
    for item in items:
        if item not in kept:
            matrices[item.nodeid.partition("[")[0]].append(item)
    for rows in matrices.values():
        values = {row: {(name, id(value)) for name, value in row.callspec.params.items()} for row in rows}  # type: ignore[attr-defined]
        marker = rows[0].get_closest_marker("matrix")
        missing = Counter(dict.fromkeys(set().union(*values.values()), marker.kwargs.get("times", 1) if marker else 1))
        left = dict.fromkeys(rows)
        while left and (row := max(left, key=lambda row: sum(missing[value] > 0 for value in values[row]))):
            if all(missing[value] <= 0 for value in values[row]):
                break
            kept.add(row)
            del left[row]
            missing.subtract(values[row])
    return kept


def _is_row(item: pytest.Item) -> bool:
    return item.get_closest_marker("matrix") is not None and hasattr(item, "callspec")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: many tests wait for other processes, or for a limit of time."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.fixture(scope="session", autouse=True)
def any_dashboard_port() -> Iterator[None]:
    """Let the system choose the port: two processes of tests may find the usual one free in the same moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(swarm.cluster.connect, "_DASHBOARD_PORT", 0)
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server that was started for this session."""
    pgserver = pytest.importorskip("pgserver", reason="no wheel of pgserver for this Python")
    folder = tempfile.mkdtemp(prefix="pg-", dir="/tmp")  # a short path: sockets have no room for a long one
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs minds that there is no XDG_RUNTIME_DIR
        server = pgserver.get_server(folder, cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path) -> Iterator[str]:
    """URL of an empty store, of each kind in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/swarm.db"
        return
    server = request.getfixturevalue("postgres")
    name = f"swarm_{uuid.uuid4().hex[:12]}"
    url = sa.make_url(server).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield url.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def open_store(tmp_path) -> Iterator[Callable[..., Store]]:
    """Opens SQLite stores by name in the test's folder, and closes them all at the end."""
    opened: list[Store] = []

    def open_one(name: str = "swarm") -> Store:
        opened.append(Store(f"{tmp_path}/{name}.db"))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def modules_of_their_own() -> Iterator[None]:
    """The modules that a test writes and imports are gone after it."""
    before, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - before:
        if "pytest-" in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]
    sys.path[:] = path
