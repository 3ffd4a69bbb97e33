"""What trainings report on the way, as learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

STEPS = ("epoch", "step", "iteration", "budget")
"""What trainings call the place of a report; it is the x of its curve."""


def step_name(reports: Sequence[Mapping[str, float]]) -> str:
    """What the x of a curve is."""
    return next((name for name in STEPS if reports and name in reports[-1]), "report")


def step_of(report: Mapping[str, float], number: int) -> float:
    """The x of a report: what the training says, or its number."""
    return next((float(report[name]) for name in STEPS if name in report), float(number))


def places(reports: Sequence[Mapping[str, float]]) -> list[float]:
    """The x of each report.

    Where a training continues another and counts from its own beginning, its reports stand behind the other's.

    Args:
        reports: Those of one training, or of several that continue each other.

    Example:
        >>> places([{"epoch": 1}, {"epoch": 2}, {"epoch": 1}, {"epoch": 2}])
        [1.0, 2.0, 3.0, 4.0]
    """
    found: list[float] = []
    shift, before = 0.0, 0.0
    for number, report in enumerate(reports, start=1):
        own = step_of(report, number)
        if found and own <= before:
            shift = found[-1] + 1 - own
        found.append(own + shift)
        before = own
    return found
