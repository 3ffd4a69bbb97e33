"""How a search begins: with what was known before, and with the limits that its job had then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from swarm.errors import InvalidInput
from swarm.job import fields as job_fields
from swarm.job.job import Job
from swarm.optimizers.base import Optimizer
from swarm.store.events import Began

_FIRST = 10  # of earlier results that a method tries which cannot learn from them, at most


def begin_with(known: Sequence[Mapping[str, Any]], job: Job, optimizer: Optimizer) -> int:
    """Have the optimizer learn what was known before; one that cannot tries the best of it among its first.

    Returns:
        How many of these results were imported.
    """
    given = [each for each in known if each.get("imported")]
    for each in known:
        if optimizer.takes_results or not each.get("imported"):
            optimizer.learn(each["params"], each["loss"], each.get("fold"))
    if given and not optimizer.takes_results:
        room = max(job.optimizer.sizes.values(), default=1) // 2
        most = max(1, min(room, (optimizer.planned or _FIRST) // 4, _FIRST))
        best = sorted(given, key=lambda each: float(each["loss"]))[:most]
        with suppress(InvalidInput):  # where the job itself names as many as there is room for
            optimizer.give([each["params"] for each in best])
    return len(given)


def begin_with_limits_of(event: Began, job: Job, optimizer: Optimizer) -> None:
    """Take back limits that were raised since, until the journal comes to that."""
    described = (event.job or {}).get("optimizer")
    if described is None or job_fields.as_stored(described) == job_fields.plain(job.optimizer):
        return
    with suppress(InvalidInput):  # an earlier version may have known other options; its limits were never raised
        optimizer.take_limits(job.method(described))
