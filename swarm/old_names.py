"""Modules by the names that they had before: pickles in stores, preloads and scripts say them.

A name that nothing else finds is looked up in the table, and the module of now answers to it: one module, two names.
"""

from __future__ import annotations

import importlib
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
    "swarm.deletions": "swarm.service.checkpoint_cleanup",
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
    "swarm.outlet": "swarm.service.publisher",
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
    "swarm.state": "swarm.service.job_state",
    "swarm.store_path": "swarm.store.path",
    "swarm.stored_problem": "swarm.job.stored_problem",
    "swarm.syntax": "swarm.code.syntax",
    "swarm.trace": "swarm.terminal.sparkline",
    "swarm.upkeep": "swarm.runs.upkeep",
    "swarm.values": "swarm.code.values",
    "swarm.view": "swarm.service.snapshot",
    "swarm.virtual": "swarm.pool.virtual",
    "swarm.winner": "swarm.runs.winner",
    "workers.checkpoint": "workers.checkpoints.checkpoint",
    "workers.child": "workers.isolation.child",
    "workers.copies": "workers.checkpoints.cache",
    "workers.environment": "workers.node.requirements",
    "workers.evolution": "workers.recurrent.evolution",
    "workers.exposure": "workers.node.listen",
    "workers.forkserver": "workers.isolation.forkserver",
    "workers.gpu": "workers.node.gpu",
    "workers.models.layers": "workers.keras.layers",
    "workers.models.network": "workers.keras.network",
    "workers.models.parallel": "workers.keras.parallel",
    "workers.models.recurrent": "workers.recurrent.keras_network",
    "workers.process": "workers.isolation.process",
    "workers.results": "workers.checkpoints.results",
    "workers.sampling": "workers.recurrent.sampling",
    "workers.seat": "workers.replicas.rendezvous",
    "workers.series": "workers.recurrent.series",
    "workers.slots": "workers.node.supervisor",
    "workers.time_to_accuracy": "workers.keras.time_to_accuracy",
    "workers.weights": "workers.recurrent.weights",
}


def install() -> None:
    """Have imports find the old names, after all else has been tried."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


class _Finder:
    """Finds a module by its old name, and imports that of now. (The base classes that it could have are slow to
    load.)
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """How to import it; None if it is no old name."""
        loader: Any = self
        return ModuleSpec(fullname, loader) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module of now, which the import machinery is about to give the spec of the old name."""
        module = importlib.import_module(MOVED[spec.name])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Gives it its own spec back; it has been run already."""
        spec = module.__spec__
        if spec is not None and spec.name in MOVED:
            module.__spec__ = spec.loader_state
