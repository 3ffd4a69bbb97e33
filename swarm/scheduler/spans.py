"""Dask's spans, of which the service keeps none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from distributed.spans import SpansSchedulerExtension


class NoSpans(SpansSchedulerExtension):  # type: ignore[misc]
    """Spans without tasks.

    Dask keeps each span for good, and one holds every task of a scheduler that is never idle: after a year of trainings
    that is a gigabyte, through which it looks at each submission.
    """

    def observe_tasks(self, tss: Iterable[Any], *_: Any, **__: Any) -> dict[Any, dict[Any, Any]]:
        """Give tasks the annotations that Dask's workers take for granted, and no span."""
        for task in tss:
            if task.annotations is None:
                task.annotations = {}
        return {}

    def heartbeat(self, *_: Any, **__: Any) -> None:
        """What a worker has measured belongs to no span."""
