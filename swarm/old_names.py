"""Modules by the names that they had before: pickles in stores, preloads and scripts say them.

A name that nothing else finds is looked up here, and the module of now answers to it: one module, two names. What is
``swarm.workers`` now was ``workers``, a name that belongs to the user: a ``workers.py`` of his is found first.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

MOVED = {
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
    "swarm.users_dask": "swarm.manners.users_dask",
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

WORKERS = "swarm.workers"
BEFORE = "workers"
"""What its import name was; a module of the user's may have it."""
_INSIDE = f"{BEFORE}."


def now(name: str) -> str | None:
    """The name that a module has now; None if it is no old one, whoever has a module of that name."""
    if name == BEFORE or name.startswith(_INSIDE):
        return MOVED.get(name, f"swarm.{name}")
    return MOVED.get(name)


def install(_: object = None) -> None:
    """Have imports find the old names, after all else has been tried.

    Dask calls it as well, with its registry of sizes: that is what it loads from all distributions in each of its
    processes, before the preloads, which may say an old name.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Inside())
        sys.meta_path.append(_Finder())
    found = sys.modules.get(BEFORE)
    if found is not None and found.__name__ == BEFORE and is_ours(found.__spec__):  # from a checkout's folder
        sys.modules[BEFORE] = importlib.import_module(WORKERS)


def is_ours(spec: ModuleSpec | None) -> bool:
    """Whether what an import of ``workers`` finds is ``swarm.workers``, or a checkout's folder, and not the user's."""
    if spec is None or spec.name == WORKERS or isinstance(spec.loader, _Finder):
        return spec is not None
    folder = os.path.dirname(spec.origin or "")  # noqa: PTH120
    link = os.path.join(os.path.dirname(folder), *WORKERS.split("."))  # noqa: PTH118, PTH120
    return os.path.islink(link) and os.path.realpath(link) == os.path.realpath(folder)  # noqa: PTH114


def forget() -> None:
    """Free the old names: modules that are about to be imported may have them. A later import of one gets it again."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == BEFORE and getattr(module, "__name__", "").startswith(WORKERS):
            del sys.modules[name]


class _Finder:
    """Finds a module by its old name, and imports that of now. (The base classes that it could have are slow to
    load.)
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """How to import it; None if it is no old name."""
        known = fullname == BEFORE or (fullname in MOVED and not fullname.startswith(_INSIDE))
        return self._spec(fullname) if known else None

    def _spec(self, name: str) -> ModuleSpec:
        loader: Any = self
        return ModuleSpec(name, loader)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module of now, which the import machinery is about to give the spec of the old name."""
        module = importlib.import_module(now(spec.name) or spec.name)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Gives it its own spec back; it has been run already."""
        spec = module.__spec__
        if spec is not None and isinstance(spec.loader, _Finder):
            module.__spec__ = spec.loader_state


class _Inside(_Finder):
    """Finds what is in our ``workers`` by that name, before its files are found, which would run a second time."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """How to import it; None if it is no module of ours, or ``workers`` is the user's."""
        if not fullname.startswith(_INSIDE) or getattr(sys.modules.get(BEFORE), "__name__", "") != WORKERS:
            return None
        from importlib.util import find_spec

        try:
            found = find_spec(now(fullname) or fullname)
        except ModuleNotFoundError:
            return None
        return None if found is None else self._spec(fullname)
