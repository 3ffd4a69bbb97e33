"""The rules of CONTRIBUTING.md that code can hold: imports run one way, and what is started imports what it needs.

Imports inside functions and for types alone count like any other.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import swarm.cli.options
import swarm.runner
import swarm.runs.run

ROOT = Path(__file__).parent.parent
STDLIB = set(sys.stdlib_module_names) | {"__future__"}
GROUND = ("plain", "trial", "errors", "version", "old_names")
FLOORS = (
    ("plain", "errors", "version", "old_names"),
    ("trial", "callbacks"),
    ("blocking", "manners", "keras", "lightning"),
    ("config",),
    ("space",),
    ("optimizers",),
    ("code",),
    ("store",),
    ("job",),
    ("steering",),
    ("pool",),
    ("search",),
    ("service",),
    ("runs",),
    ("plots",),
    ("terminal", "dashboard"),
    ("report",),
    ("scheduler",),
    ("client", "cluster"),
    ("runner",),
    ("cli",),
)
"""Rooms of ``swarm``, bottom up: each imports only what is below it."""
WORKER_FLOORS = (
    ("cards",),
    ("node", "replicas", "wording", "data", "bundle", "backend"),
    ("checkpoints",),
    ("context",),
    ("frames", "command"),
    ("problem", "keras"),
    ("recurrent", "models", "isolation"),
    ("ensemble",),
    ("evaluate", "winner"),
)
"""Those of ``swarm.workers``, the wing that trains."""
KEPT_FROM = {
    "optimizers": {"os", "time", "threading", "logging", "random", "asyncio", "pathlib", "dask", "distributed"},
    "space": {"os", "time", "threading", "logging", "random", "asyncio", "pathlib", "dask", "distributed"},
    "code": {"dask", "distributed"},
    "store": {"dask", "distributed"},
    "job": {"dask", "distributed"},
    "steering": {"dask", "distributed"},
    "search": {"dask", "distributed"},
    "runs": {"dask", "distributed"},
    "plots": {"dask", "distributed"},
    "service": {"bokeh", "rich", "typer"},
}
"""Packages that a room never imports."""
SERVICE_KNOWS = {
    "blocking",
    "plain",
    "trial",
    "errors",
    "version",
    "config",
    "space",
    "optimizers",
    "code",
    "store",
    "job",
    "steering",
    "pool",
    "search",
}
BOTH_SIDES = {"cli", "cluster", "swarm"}  # the last is the list of public names
KERAS = {"tensorflow", "keras"}
KERAS_USERS = (
    "swarm.keras",
    "swarm.workers.backend",
    "swarm.workers.keras",
    "swarm.workers.models",
    "swarm.workers.recurrent",
    "swarm.workers.data",
    "swarm.workers.evaluate",
    "swarm.workers.winner",
)
LARGE = {"swarm/optimizers", "workers/models"}  # one method or network a file
MOST_FILES = 12
HEAVY = {
    *("dask", "distributed", "pydantic", "numpy", "scipy", "sqlalchemy", "pandas", "bokeh", "sklearn", "matplotlib"),
    *("yaml", "psutil", "tenacity", "jinja2", "prometheus_client", "keras", "tensorflow", "torch"),
}
"""What takes long to import, or its best part."""


class Import(NamedTuple):
    """An import of a module: whether it stands at the top level, and the name that is taken."""

    module: str
    top: bool
    name: str = ""


def modules(folder: str, name: str) -> dict[str, Path]:
    files = sorted((ROOT / folder).rglob("*.py"))
    inside = {f: f.relative_to(ROOT / folder).with_suffix("").parts for f in files}
    return {".".join((name, *parts)).removesuffix(".__init__"): f for f, parts in inside.items()}


TRAINS = "swarm.workers"
WORKERS = modules("workers", TRAINS)
SWARM = {name: file for name, file in modules("swarm", "swarm").items() if name not in WORKERS}
OURS = {**SWARM, **WORKERS}


@cache
def imports(module: str) -> tuple[Import, ...]:
    """What a module imports, wherever, and for types as well."""
    return tuple(_imports(ast.parse(OURS[module].read_text())))


def _imports(tree: ast.Module) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node in tree.body) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield Import(inner if inner in OURS else node.module or "", node in tree.body, alias.name)


def wing(module: str) -> str:
    return TRAINS if inside(module, [TRAINS]) else "swarm"


def room(module: str) -> str:
    """``swarm.pool.slots`` is in ``pool``, ``swarm.workers.node.gpu`` in ``node``; ``swarm.trial`` is its own."""
    return module.removeprefix(wing(module)).split(".")[1] if module != wing(module) else module


def packages(names: Iterable[Import]) -> set[str]:
    return {name.module.split(".")[0] for name in names}


def ours(module: str) -> set[str]:
    return {name.module for name in imports(module) if name.module in OURS}


def inside(module: str, places: Iterable[str]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """One that is there, or an empty list."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("name", GROUND)
def test_the_ground_needs_only_the_standard_library(name: str) -> None:
    assert packages(imports(f"swarm.{name}")) <= STDLIB | {"swarm"}
    assert {room(module) for module in ours(f"swarm.{name}")} <= set(GROUND)


@pytest.mark.parametrize("module", [m for m in SWARM if room(m) in ("space", "optimizers")])
def test_methods_are_numpy_and_nothing_that_has_a_clock_or_a_file(module: str) -> None:
    assert packages(imports(module)) <= STDLIB | {"numpy", "scipy", "swarm"}


@pytest.mark.parametrize("module", [name for name in OURS if name != wing(name)])
def test_a_room_imports_only_what_is_below_it(module: str) -> None:
    side, mine = wing(module), room(module)
    floor = {name: n for n, names in enumerate(FLOORS if side == "swarm" else WORKER_FLOORS) for name in names}
    assert mine in floor, f"say on which floor {mine} is"
    others = {name for name in ours(module) - {side} if wing(name) == side and room(name) != mine}
    assert not {name for name in others if not floor.get(room(name), len(floor)) < floor[mine]}


@pytest.mark.parametrize("module", [m for m in SWARM if room(m) in KEPT_FROM])
def test_a_room_is_kept_from_what_is_not_its_business(module: str) -> None:
    assert not packages(imports(module)) & KEPT_FROM[room(module)]


@pytest.mark.parametrize("module", [m for m in SWARM if room(m) == "service"])
def test_the_service_draws_nothing_and_reads_no_finished_runs(module: str) -> None:
    assert {room(name) for name in ours(module)} <= SERVICE_KNOWS | {"service"}


@pytest.mark.parametrize("module", [m for m in SWARM if room(m) in ("dashboard", "report", "terminal", "plots")])
def test_pages_hold_no_client_of_dask(module: str) -> None:
    assert not [name for name in imports(module) if name.module.startswith("distributed") and name.name == "Client"]


@pytest.mark.parametrize("module", OURS)
def test_only_the_cluster_imports_what_runs_in_the_scheduler(module: str) -> None:
    if room(module) not in ("scheduler", "cluster"):
        assert not [name for name in ours(module) if inside(name, ["swarm.scheduler"])]


@pytest.mark.parametrize("module", WORKERS)
def test_workers_know_of_swarm_only_the_ground(module: str) -> None:
    pickles = module in (TRAINS, f"{TRAINS}.bundle")  # which may be of earlier versions
    known = {"swarm.plain", "swarm.trial", "swarm.errors"} | ({"swarm.old_names"} if pickles else set())
    assert {name for name in ours(module) if wing(name) == "swarm"} <= known


@pytest.mark.parametrize("module", [m for m in SWARM if room(m) not in BOTH_SIDES and m != "swarm.runs.winner"])
def test_only_the_composition_roots_name_both_sides(module: str) -> None:
    assert not [name for name in ours(module) if wing(name) == TRAINS]


@pytest.mark.parametrize("module", OURS)
def test_tensorflow_is_imported_only_inside_calls_of_the_modules_that_train(module: str) -> None:
    found = [name for name in _without_types(module) if name.module.split(".")[0] in KERAS]
    assert not found or inside(module, KERAS_USERS)
    assert module == "swarm.keras" or not [name for name in found if name.top]


def _without_types(module: str) -> list[Import]:
    tree = ast.parse(OURS[module].read_text())
    tree.body = [n for n in tree.body if not (isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test))]
    return list(_imports(tree))


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert not circle({module: ours(module) - {module} for module in OURS})


def test_no_folders_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for module in OURS:
        mine = f"{wing(module)}.{room(module)}"
        graph.setdefault(mine, set()).update(f"{wing(name)}.{room(name)}" for name in ours(module))
    assert not circle({name: others - {name} for name, others in graph.items()})


@pytest.mark.parametrize("module", OURS)
def test_no_private_name_is_imported_from_another_file(module: str) -> None:
    taken = [name for name in imports(module) if name.module in OURS and name.name.startswith("_")]
    assert not [name for name in taken if not name.name.startswith("__")]


def test_no_folder_is_too_full() -> None:
    folders = {file.parent for file in OURS.values()}
    full = {folder.relative_to(ROOT).as_posix(): len(list(folder.glob("*.py"))) for folder in folders}
    assert not {name: files for name, files in full.items() if files > MOST_FILES and name not in LARGE}


@pytest.mark.parametrize("name", ["utils", "common", "core", "helpers", "util", "misc"])
def test_no_module_is_named_by_nothing(name: str) -> None:
    assert not [module for module in OURS if module.split(".")[-1] == name]


def test_importing_the_package_and_its_types_loads_no_library() -> None:
    code = (
        "import sys; before = {m.split('.')[0] for m in sys.modules}; from swarm import Infeasible, Trial;"
        "print(*{m.split('.')[0] for m in sys.modules} - before)"
    )
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert set(run.stdout.split()) <= STDLIB | {"swarm"}


def test_a_script_that_describes_a_job_loads_neither_dask_nor_the_database_in_the_processes_of_its_trainings() -> None:
    code = "import sys; from swarm import PSO, Job, Real; print(*{m.split('.')[0] for m in sys.modules})"
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert not {"dask", "distributed", "sqlalchemy", "bokeh", "tornado"} & set(run.stdout.split())


def test_the_command_line_loads_nothing_that_only_a_command_needs() -> None:
    said = loaded_by("--help")
    assert "submit" in said and not HEAVY & set(said.split())


def test_a_worker_loads_neither_sql_nor_what_only_searches_and_pages_need() -> None:
    said = loaded_by("worker", "tcp://127.0.0.1:1", "--slots", "1", DASK_SWARM__FIRST_CONTACT_SECONDS="0.1")
    assert "slot for tcp://127.0.0.1:1" in said, said
    assert HEAVY & set(said.split()) <= {"dask", "distributed", "jinja2", "numpy", "psutil", "pydantic", "yaml"}


def test_the_scheduler_and_its_pages_load_neither_sql_nor_scipy_nor_data_frames() -> None:
    code = "import sys, swarm.cluster.serve, swarm.scheduler, swarm.dashboard.pages; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    unused = {"sqlalchemy", "scipy", "pandas", "sklearn", "matplotlib", "swarm.search.search"}
    assert not unused & set(run.stdout.split())


def test_commands_and_runs_mean_the_same_store() -> None:
    assert swarm.cli.options.STORE == swarm.runs.run.STORE == swarm.runner.STORE


def loaded_by(*words: str, **environment: str) -> str:
    """What a command says, and then the packages that it has loaded."""
    code = (
        "import atexit, sys; atexit.register(lambda: print(*{m.split('.')[0] for m in sys.modules}));"
        "from swarm.cli import main; main()"
    )
    command = [sys.executable, "-c", code, *words]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=ROOT).stdout
