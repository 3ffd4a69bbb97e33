"""The front of a run whose fitness is several targets, as tables."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from swarm.errors import InvalidInput
from swarm.optimizers.front import hypervolume
from swarm.search.state import SearchState
from swarm.store.columns import columns

MOST = 500  # trials after which the hypervolume is worked out


def front(state: SearchState) -> pd.DataFrame:
    """The trials that no other dominates; see :attr:`swarm.runs.Run.front`.

    Raises:
        InvalidInput: The fitness is one number.
    """
    targets = list(state.job.targets)
    if not targets:
        raise InvalidInput(
            "the fitness of this run is one number, so it has a best and no front; name several targets in the job: "
            "fitness: {error: minimize, size: minimize}"
        )
    assert state.job.space is not None
    named = columns(state.job.space.domains, targets)
    rows = [
        {"trial": best.trial.id}
        | {named.params[name]: value for name, value in best.params.items()}
        | {named.metrics[name]: value for name, value in zip(targets, values(state, best.trial.id), strict=True)}
        for best in state.front
    ]
    return pd.DataFrame(rows, columns=["trial", *named.params.values(), *named.metrics.values()])


def values(state: SearchState, trial: int) -> list[float]:
    """The targets of a trial, as the training returned them."""
    losses = state.losses_of(trial)
    assert losses is not None
    return [
        loss if each == "minimize" else -loss for loss, each in zip(losses, state.job.targets.values(), strict=True)
    ]


def growth(state: SearchState, trials: Sequence[int]) -> pd.DataFrame:
    """The hypervolume of the front after each of these trials, in this order, as a share of what it is in the end.

    The reference is the worst of each target among them. Columns: ``trials``, ``share``.
    """
    known = [losses for trial in trials if (losses := state.losses_of(trial)) is not None]
    if not known:
        return pd.DataFrame({"trials": [], "share": []})
    reference = [max(each) for each in zip(*known, strict=True)]
    marks = sorted({round(1 + (len(known) - 1) * part / (MOST - 1)) for part in range(MOST)})
    volumes = [hypervolume(known[:mark], reference) for mark in marks]
    whole = volumes[-1] or 1.0
    return pd.DataFrame({"trials": marks, "share": [volume / whole for volume in volumes]})
