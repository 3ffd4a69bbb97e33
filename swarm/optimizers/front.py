"""Several targets: who dominates whom, the front of those that nobody dominates, and one number made of several.

Source: Deb, Pratap, Agarwal and Meyarivan, A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II, IEEE Trans.
Evol. Comput. 6 (2002): ranks by fronts, crowding distances. Knowles, ParEGO, IEEE Trans. Evol. Comput. 10 (2006):
random weights of an augmented Chebyshev function, here of losses between 0 and 1.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby

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


class _Front:
    """Trials of which none dominates another, that come in the order of their losses.

    Who comes later is no better in the first target, so the others tell whether somebody here dominates it; and of
    those here the ones suffice that are best in the others: a single one, of two targets.
    """

    def __init__(self, targets: int) -> None:
        self._best = np.empty((0, targets - 1))

    def dominates(self, losses: Losses) -> bool:
        """Whether somebody here dominates the next trial, whose losses nobody here has."""
        return bool((self._best <= losses[1:]).all(axis=1).any())

    def add(self, losses: Losses) -> None:
        """The next trial belongs here."""
        others = np.array(losses[1:])
        better = ~(others <= self._best).all(axis=1)
        self._best = np.vstack([self._best[better], others])


def ranks(losses: Sequence[Losses]) -> list[int]:
    """Of each trial the front that it is in: 0 if nobody dominates it, 1 if only those of front 0 do, and so on.

    By their first target one after the other, each into the first front that does not dominate it, found by bisection
    (Zhang, Tian, Cheng and Jin, IEEE Trans. Evol. Comput. 19 (2015), algorithm ENS-BS).
    """
    found = [0] * len(losses)
    fronts: list[_Front] = []
    for mine, places in _in_order(losses):
        rank = bisect_left(fronts, True, key=lambda front: not front.dominates(mine))
        if rank == len(fronts):
            fronts.append(_Front(len(mine)))
        fronts[rank].add(mine)
        for place in places:
            found[place] = rank
    return found


def undominated(losses: Sequence[Losses]) -> list[int]:
    """Places of the trials that nobody dominates, in the order of their losses."""
    kept: list[int] = []
    front = _Front(len(losses[0]) if losses else 1)
    for mine, places in _in_order(losses):
        if not front.dominates(mine):
            front.add(mine)
            kept += places
    return kept


def _in_order(losses: Sequence[Losses]) -> Iterator[tuple[Losses, list[int]]]:
    """The different losses from the lowest on, each with the places that have it; nobody dominates who comes before."""
    order = sorted(range(len(losses)), key=losses.__getitem__)
    for mine, places in groupby(order, key=losses.__getitem__):
        yield mine, list(places)


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
    fronts = defaultdict[int, list[int]](list)
    for place, front in enumerate(rank):
        fronts[front].append(place)
    for members in fronts.values():
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
