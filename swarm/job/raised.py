"""Limits of a job that are higher than they were: the one difference with which a run goes on under its name."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from swarm.optimizers.base import Optimizer
from swarm.trial import Direction

HOW = (
    "only limits may differ, and be raised: the method's (generations, trials, iterations, …), those of stop, and "
    "time_limit"
)
_RULES = ("evaluations", "seconds", "gpu_hours", "idle_generations", "no_improvement")  # of stop; None is no limit


@dataclass(frozen=True)
class Differences:
    """How a job differs from the one that a store has under its name.

    Attributes:
        raised: Limits that are higher now, by their dotted name: what they are, and what they were.
        others: All else, as readable lines.
    """

    raised: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    @property
    def of_the_search(self) -> bool:
        """Whether limits of the search itself are raised, not only those of what follows it, or of one training."""
        return any(name.split(".")[0] in ("optimizer", "stop") for name in self.raised)


def is_raised(
    where: str, now: Any, before: Any, *, method: Optimizer, then: Optimizer | None, direction: Direction
) -> bool:
    """Whether a difference between two jobs is a limit that was raised: the search's own, if none follows it.

    Args:
        where: What differs: names of keys, with dots in between.
        now: What it is.
        before: What it was.
        method: The method of the search, as it is now.
        then: The method of the search that follows it, if one does.
        direction: Whether a larger or a smaller fitness is better.
    """
    if where.startswith("then."):
        return then is not None and _is_raised(where.removeprefix("then."), now, before, then, direction)
    return then is None and _is_raised(where, now, before, method, direction)


def _is_raised(where: str, now: Any, before: Any, method: Optimizer, direction: Direction) -> bool:
    first, *rest = where.split(".")
    if first == "time_limit" or (first == "stop" and rest and rest[0] in _RULES):
        return _no_limit(now) > _no_limit(before)
    if first == "stop" and rest == ["target"]:
        sign = 1 if direction == "maximize" else -1
        return before is not None and (now is None or sign * now > sign * before)
    if first != "optimizer" or not rest:
        return False
    for option in rest[:-1]:
        inner = getattr(method, option, None)
        if option not in method.limits or not isinstance(inner, Optimizer):
            return False
        method = inner
    return method.raises(rest[-1], before)


def _no_limit(value: float | None) -> float:
    return math.inf if value is None else value
