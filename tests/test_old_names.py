"""What was pickled, preloaded or imported by an old name of a module is found."""

from __future__ import annotations

import importlib
import importlib.machinery
import pickle
import subprocess
import sys

import pytest

from swarm.old_names import MOVED, now

OLD = {
    "swarm.affinity": "swarm.scheduler.affinity",
    "swarm.archive": "swarm.search.archive",
    "swarm.bundle": "swarm.code.bundle",
    "swarm.classes": "swarm.code.classes",
    "swarm.cli_architecture": "swarm.cli.architecture",
    "swarm.cli_best": "swarm.cli.best",
    "swarm.cli_report": "swarm.cli.report",
    "swarm.cli_service": "swarm.cli.service",
    "swarm.cli_upkeep": "swarm.cli.upkeep",
    "swarm.code_table": "swarm.store.code_table",
    "swarm.columns": "swarm.store.columns",
    "swarm.compare": "swarm.report.compare",
    "swarm.dashboard.axes": "swarm.plots.axes",
    "swarm.dashboard.page": "swarm.report.page",
    "swarm.dashboard.paper": "swarm.plots.paper",
    "swarm.dashboard.plots": "swarm.plots.charts",
    "swarm.dashboard.sections": "swarm.report.sections",
    "swarm.dashboard.tables": "swarm.report.tables",
    "swarm.dask_pool": "swarm.pool.dask_pool",
    "swarm.deletions": "swarm.search.checkpoint_cleanup",
    "swarm.desk": "swarm.service.inbox",
    "swarm.domain": "swarm.space.domain",
    "swarm.durations": "swarm.search.durations",
    "swarm.export": "swarm.runs.export",
    "swarm.failures": "swarm.search.failures",
    "swarm.figures": "swarm.report.figures",
    "swarm.fingerprint": "swarm.code.fingerprint",
    "swarm.flight": "swarm.pool.in_flight",
    "swarm.history": "swarm.runs.history",
    "swarm.importance": "swarm.runs.importance",
    "swarm.job_data": "swarm.job.data",
    "swarm.job_fields": "swarm.job.fields",
    "swarm.job_file": "swarm.job.file",
    "swarm.lineage": "swarm.search.retention",
    "swarm.logs": "swarm.cli.logs",
    "swarm.master": "swarm.service.master",
    "swarm.metrics": "swarm.scheduler.metrics",
    "swarm.nannies": "swarm.cluster.nannies",
    "swarm.occupancy": "swarm.scheduler.slot_status",
    "swarm.outcome": "swarm.store.outcome",
    "swarm.outlet": "swarm.service.published.publisher",
    "swarm.own_modules": "swarm.code.own_modules",
    "swarm.problem": "swarm.job.problem",
    "swarm.progress": "swarm.search.state",
    "swarm.protocol": "swarm.service.protocol",
    "swarm.pruning": "swarm.search.pruning",
    "swarm.ran": "swarm.code.ran",
    "swarm.requests": "swarm.service.requests",
    "swarm.retry": "swarm.search.retry",
    "swarm.roster": "swarm.pool.worker_registry",
    "swarm.run_lock": "swarm.store.run_lock",
    "swarm.schedule": "swarm.runs.schedule",
    "swarm.sharing": "swarm.pool.fair_share",
    "swarm.slots": "swarm.pool.slots",
    "swarm.sources": "swarm.code.sources",
    "swarm.state": "swarm.service.published.job_state",
    "swarm.store_path": "swarm.store.path",
    "swarm.stored_problem": "swarm.job.stored_problem",
    "swarm.syntax": "swarm.code.syntax",
    "swarm.trace": "swarm.terminal.sparkline",
    "swarm.upkeep": "swarm.runs.upkeep",
    "swarm.values": "swarm.code.values",
    "swarm.view": "swarm.service.published.snapshot",
    "swarm.virtual": "swarm.pool.virtual",
    "swarm.winner": "swarm.runs.winner",
    "workers.checkpoint": "swarm.workers.checkpoints.checkpoint",
    "workers.child": "swarm.workers.isolation.child",
    "workers.copies": "swarm.workers.checkpoints.cache",
    "workers.environment": "swarm.workers.node.requirements",
    "workers.evolution": "swarm.workers.recurrent.evolution",
    "workers.exposure": "swarm.workers.node.listen",
    "workers.forkserver": "swarm.workers.isolation.forkserver",
    "workers.gpu": "swarm.workers.node.gpu",
    "workers.models.layers": "swarm.workers.keras.layers",
    "workers.models.network": "swarm.workers.keras.network",
    "workers.models.parallel": "swarm.workers.keras.parallel",
    "workers.models.recurrent": "swarm.workers.recurrent.keras_network",
    "workers.process": "swarm.workers.isolation.process",
    "workers.results": "swarm.workers.checkpoints.results",
    "workers.sampling": "swarm.workers.recurrent.sampling",
    "workers.seat": "swarm.workers.replicas.rendezvous",
    "workers.series": "swarm.workers.recurrent.series",
    "workers.slots": "swarm.workers.node.supervisor",
    "workers.time_to_accuracy": "swarm.workers.keras.time_to_accuracy",
    "workers.weights": "swarm.workers.recurrent.weights",
}
PICKLED = [  # as stores of the versions before have them
    ("workers.keras", "KerasProblem"),
    ("workers.command", "CommandProblem"),
    ("workers.ensemble", "Ensemble"),
    ("workers.bundle", "unpack"),
    ("workers.time_to_accuracy", "TimeToAccuracy"),
    ("workers.sampling", "MaeSampling"),
    ("workers.weights", "WeightEvolution"),
    ("workers.models.recurrent", "RecurrentTraining"),
    ("workers.models.layers", "conv"),
    ("workers.recurrent", "Architecture"),
    ("workers.series", "load"),
    ("workers.evolution", "Settings"),
    ("workers.checkpoint", "Checkpoint"),
    ("workers.seat", "Seat"),
    ("workers.replicas", "Replicas"),
    ("workers.process", "cancel"),
    ("workers.evaluate", "evaluate"),
    ("swarm.job", "Job"),
    ("swarm.space", "Space"),
    ("swarm.domain", "Integer"),
    ("swarm.store", "Store"),
    ("swarm.store", "Event"),
    ("swarm.search", "Search"),
    ("swarm.history", "History"),
]


@pytest.mark.parametrize("name", sorted(OLD))
def test_a_module_answers_to_its_old_name(name: str) -> None:
    module = importlib.import_module(name)
    assert module is importlib.import_module(OLD[name])
    assert module.__name__ == OLD[name] == getattr(module.__spec__, "name", None)


@pytest.mark.parametrize(("module", "name"), PICKLED)
def test_what_was_pickled_by_an_old_name_is_loaded(module: str, name: str) -> None:
    found = pickle.loads(f"c{module}\n{name}\n.".encode())
    assert found.__name__ == name
    assert pickle.loads(pickle.dumps(found)) is found


@pytest.mark.parametrize("name", ["workers.command", "workers.models.layers", "workers.slots"])
def test_an_old_name_is_found_by_a_process_that_has_imported_nothing(name: str) -> None:
    code = f"import importlib, sys; print(importlib.import_module({name!r}).__name__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == now(name)


def test_no_old_name_stands_for_a_module_that_is_there() -> None:
    found = [name for name in MOVED if importlib.machinery.PathFinder.find_spec(name, _folders(name))]
    assert not found


def _folders(name: str) -> list[str]:
    return list(importlib.import_module(name.rpartition(".")[0]).__path__)
