"""Names of columns in tables that have trials, their hyper-parameters and their metrics side by side.

One rule for all tables: a hyper-parameter or a metric keeps its name, unless a column of the trial has it; then it is
``params.NAME`` or ``metrics.NAME``. So is a metric that is called like a hyper-parameter. Nothing stands in the place
of anything else, whatever users call theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

PARAMS, METRICS = "params.", "metrics."
TRIAL = (
    *("trial", "generation", "member", "fold", "budget", "parent", "source", "status", "fitness"),
    *("seconds", "start", "end", "slot", "error", "traceback"),
)


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of hyper-parameters and of metrics, by their own names, in their order; each is another one."""

    params: Mapping[str, str]
    metrics: Mapping[str, str]


def columns(params: Iterable[str], metrics: Iterable[str] = (), others: Collection[str] = ()) -> Columns:
    """The columns of these hyper-parameters and metrics.

    Args:
        params: Names of all hyper-parameters of a run.
        metrics: Names of all metrics.
        others: What the table has besides :data:`TRIAL`.
    """
    taken = {*TRIAL, *others}
    names = {name: _named(name, PARAMS, taken) for name in params}
    return Columns(names, {name: _named(name, METRICS, taken | names.keys()) for name in metrics})


def _named(name: str, prefix: str, taken: Collection[str]) -> str:
    """A name that begins like a prefix gets one in any case: it could be what another one became."""
    return prefix + name if name in taken or name.startswith((PARAMS, METRICS)) else name
