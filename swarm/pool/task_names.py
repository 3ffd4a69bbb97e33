"""Names that our tasks, their slots and their annotations have in Dask."""

from __future__ import annotations

from typing import Any

from swarm.trial import Evaluation, Purpose, resource

CONTINUES = "swarm_continues"  # Dask annotation: names of the tasks whose checkpoints this one starts from
WAITS = "swarm-waits"  # Dask event topic on which workers say that a slot waits for its GPU, or does no more
GPU = resource()  # the usual class of slots; the names of the others begin with it


def dask_key(evaluation: Evaluation) -> str:
    """Dask's name of an evaluation."""
    return task_name(evaluation.purpose, evaluation.key)


def task_name(purpose: Purpose, key: str) -> str:
    """Dask's name of an evaluation with this key; those of its replicas begin with it."""
    return f"{'train' if purpose == 'fitness' else 'test'}-{key}"


def key_of(name: Any) -> str:
    """The key of the evaluation that a task of Dask, or a replica's, is named after; empty if it is no task of ours."""
    return name.partition("-")[2].partition("-")[0] if isinstance(name, str) else ""
