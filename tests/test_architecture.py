"""The rules of CONTRIBUTING.md that code can hold: imports run one way, and importing the package is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STDLIB = set(sys.stdlib_module_names) | {"__future__"}
TYPES = {"swarm.trial", "swarm.errors"}
METHODS = {"swarm.space", "swarm.domain", "swarm.optimizers"}
RECORDS = {
    "swarm.durations",
    "swarm.pruning",
    "swarm.job",
    "swarm.job_file",
    "swarm.job_fields",
    "swarm.archive",
    "swarm.store",
    "swarm.code_table",
    "swarm.run_lock",
    "swarm.store_path",
    "swarm.problem",
    "swarm.ran",
    "swarm.bundle",
    "swarm.classes",
    "swarm.fingerprint",
    "swarm.job_data",
    "swarm.own_modules",
    "swarm.sources",
    "swarm.syntax",
    "swarm.values",
    "swarm.stored_problem",
    "swarm",
}
LOOP = {
    "swarm.pool",
    "swarm.lineage",
    "swarm.failures",
    "swarm.progress",
    "swarm.search",
    "swarm.outcome",
    "swarm.columns",
}
BOTH_SIDES = {"swarm.cli", "swarm.cli_architecture", "swarm.cluster", "swarm.winner"}
FORBIDDEN_IN_METHODS = {"os", "time", "threading", "logging", "random", "dask", "distributed", "asyncio", "pathlib"}
KERAS = {"tensorflow", "keras"}
KERAS_USERS = {
    "workers.keras",
    "workers.models",
    "workers.data",
    "workers.evaluate",
    "workers.time_to_accuracy",
    "workers.winner",
}


def modules(package: str) -> list[str]:
    files = sorted((ROOT / package).rglob("*.py"))
    return [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]


def imports(module: str) -> Iterator[tuple[str, bool]]:
    """Names of imported modules, and whether the import stands at the module's top level."""
    path = ROOT / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(file.read_text())
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        top = node in tree.body
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", top


def ours(name: str) -> bool:
    return name.split(".", maxsplit=1)[0] in ("swarm", "workers")


def inside(name: str, groups: set[str]) -> bool:
    return any(name == group or name.startswith(group + ".") for group in groups if group != "swarm") or name in groups


@pytest.mark.parametrize("module", sorted(TYPES))
def test_the_shared_types_need_only_the_standard_library(module: str) -> None:
    assert {name.split(".")[0] for name, _ in imports(module)} <= STDLIB


@pytest.mark.parametrize("module", [m for m in modules("swarm") if inside(m, METHODS)])
def test_methods_are_numpy_and_nothing_that_has_a_clock_or_a_file(module: str) -> None:
    names = {name for name, _ in imports(module)}
    assert not {name.split(".")[0] for name in names} & FORBIDDEN_IN_METHODS
    assert {name for name in names if ours(name)} <= {n for n in names if inside(n, TYPES | METHODS)}
    assert {name.split(".")[0] for name in names if not ours(name)} <= STDLIB | {"numpy", "scipy"}


@pytest.mark.parametrize("module", sorted(RECORDS - {"swarm"}))
def test_records_build_on_methods_and_types(module: str) -> None:
    assert all(inside(name, TYPES | METHODS | RECORDS) for name, _ in imports(module) if ours(name))


@pytest.mark.parametrize("module", sorted(LOOP | {"swarm.virtual", "swarm.history", "swarm.retry"}))
def test_the_loop_knows_no_dask(module: str) -> None:
    names = {name for name, _ in imports(module)}
    assert not {name.split(".")[0] for name in names} & {"dask", "distributed"}
    assert all(inside(name, TYPES | METHODS | RECORDS | LOOP) for name in names if ours(name))


@pytest.mark.parametrize("module", modules("workers"))
def test_workers_know_of_swarm_only_the_shared_types(module: str) -> None:
    assert {name for name, _ in imports(module) if name.startswith("swarm")} <= TYPES


@pytest.mark.parametrize("module", [m for m in modules("swarm") if m not in BOTH_SIDES])
def test_only_the_composition_roots_name_both_sides(module: str) -> None:
    assert not [name for name, _ in imports(module) if name.startswith("workers")]


@pytest.mark.parametrize("module", modules("workers") + modules("swarm"))
def test_tensorflow_is_imported_only_inside_calls_of_the_modules_that_train(module: str) -> None:
    found = [(name, top) for name, top in imports(module) if name.split(".")[0] in KERAS]
    assert not found or inside(module, KERAS_USERS)
    assert not [name for name, top in found if top]


@pytest.mark.parametrize("name", ["utils", "common", "core", "helpers", "util", "misc"])
def test_no_module_is_named_by_nothing(name: str) -> None:
    assert not [module for module in modules("swarm") + modules("workers") if module.split(".")[-1] == name]


def test_importing_the_package_and_its_types_loads_no_library() -> None:
    code = (
        "import sys; before = {m.split('.')[0] for m in sys.modules}; from swarm import Infeasible, Trial;"
        "print(*{m.split('.')[0] for m in sys.modules} - before)"
    )
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert set(run.stdout.split()) <= STDLIB | {"swarm"}
