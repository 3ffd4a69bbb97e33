"""Several targets: who dominates whom, the front of those that nobody dominates, and one number made of several.

Source: Deb, Pratap, Agarwal and Meyarivan, A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II, IEEE Trans.
Evol. Comput. 6 (2002): ranks by fronts, crowding distances. Knowles, ParEGO, IEEE Trans. Evol. Comput. 10 (2006):
random weights of an augmented Chebyshev function, here of losses between 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Losses = tuple[float, ...]

_TINY = 1e-12  # losses below it count as 0
_AUGMENTED = 0.05  # share of the sum beside the maximum (Knowles)


def scalarised(losses: Sequence[float]) -> float:
    """One loss of several: the sum of their logarithms, so that to halve one counts as much as to halve another.

    It depends on these losses alone, not on what else was told, so that a swarm is the same in whatever order its
    results come. Of two trials the one that dominates has the lower number. Logarithms of numbers of both signs: asinh.
    """
    return math.fsum(math.copysign(_logarithm(abs(loss)), loss) for loss in losses)


def _logarithm(size: float) -> float:
    """Asinh of a size in units of the smallest that counts, of any float."""
    ratio = size / _TINY
    return math.asinh(ratio) if math.isfinite(ratio) else math.log(2) + math.log(size) - math.log(_TINY)


def weighed(losses: Array, weights: Array) -> Array:
    """The losses (n, k) of trials as one each, for these weights (k,): augmented Chebyshev of what they are between
    the lowest and the highest of each target; +inf where a row is not finite.
    """
    good = np.isfinite(losses).all(axis=1)
    found = np.full(len(losses), math.inf)
    if good.any():
        rows = losses[good]
        low, high = rows.min(axis=0), rows.max(axis=0)
        shares = weights * (rows - low) / np.where(high > low, high - low, 1.0)
        found[good] = shares.max(axis=1) + _AUGMENTED * shares.sum(axis=1)
    return found


def ranks(losses: Sequence[Losses]) -> list[int]:
    """Of each trial the front that it is in: 0 if nobody dominates it, 1 if only those of front 0 do, and so on."""
    table = np.array(losses, dtype=float).reshape(len(losses), -1)
    found = np.full(len(table), -1)
    left = np.arange(len(table))
    rank = 0
    while len(left):
        rows = table[left]
        dominated = np.array([bool(((rows <= row).all(axis=1) & (rows < row).any(axis=1)).any()) for row in rows])
        found[left[~dominated]] = rank
        left, rank = left[dominated], rank + 1
    return [int(each) for each in found]


def undominated(losses: Sequence[Losses]) -> list[int]:
    """Places of the trials that nobody dominates; of very many in less time than :func:`ranks` takes."""
    kept: list[int] = []
    for place in sorted(range(len(losses)), key=lambda place: (losses[place], place)):  # who dominates comes before
        mine = losses[place]
        if not any(_dominates(losses[other], mine) for other in kept):
            kept.append(place)
    return kept


def _dominates(one: Losses, other: Losses) -> bool:
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))


def crowding(losses: Sequence[Losses]) -> list[float]:
    """Of each trial of one front how far its neighbours are apart, over all targets; +inf at either end."""
    table = np.array(losses, dtype=float).reshape(len(losses), -1)
    found = np.zeros(len(table))
    for column in table.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        found[order[[0, -1]]] = math.inf
        if span > 0 and len(order) > 2:
            found[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return [float(each) for each in found]


def ordered(losses: Sequence[Losses]) -> list[int]:
    """Places of trials from the best to the worst: by front, in it the lonely first, then as they lie."""
    rank = ranks(losses)
    distance = [0.0] * len(losses)
    for front in set(rank):
        members = [place for place, each in enumerate(rank) if each == front]
        for place, found in zip(members, crowding([losses[place] for place in members]), strict=True):
            distance[place] = found
    return sorted(range(len(losses)), key=lambda place: (rank[place], -distance[place], place))


def hypervolume(losses: Sequence[Losses], reference: Sequence[float]) -> float:
    """The volume that trials dominate, up to a reference point: exact, by slices of the last target.

    Args:
        losses: Of trials, one for each target.
        reference: The worst of each target that counts; what is worse dominates nothing.
    """
    rows = [row for row in losses if all(loss < worst for loss, worst in zip(row, reference, strict=True))]
    if not rows:
        return 0.0
    if len(reference) == 1:
        return float(reference[0] - min(row[0] for row in rows))
    rows = sorted(rows, key=lambda row: row[-1])
    ends = [*(row[-1] for row in rows[1:]), reference[-1]]
    volume = 0.0
    for place, (row, end) in enumerate(zip(rows, ends, strict=True)):
        if end > row[-1]:
            volume += (end - row[-1]) * hypervolume([each[:-1] for each in rows[: place + 1]], reference[:-1])
    return volume
