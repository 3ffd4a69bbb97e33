"""Which of two trials is the better one if several targets count: in how many it is better, minus in how many worse.

Source: DLOPT: Deep Learning Optimization Library (Camero, Toutouh, Alba, 2018), whose solutions compare so. Differences
count whatever their size, so targets need no weights and no tolerances. But the comparison is no order: of three
targets a may be better than b, b than c, and c than a. The library sorts by it nevertheless, and what comes first then
depends on how they lay before; here they are sorted by how many they are better than, as A. H. Copeland proposed for
votes (A reasonable social welfare function, 1951). Where the comparison is an order, it is the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Losses = tuple[float, ...]  # of a trial, one for each target; of one that has failed +inf alone


def compared(one: Losses, other: Losses) -> int:
    """Number of targets in which one has the lower loss, minus number of those in which the other has it."""
    return sum((a < b) - (a > b) for a, b in zip(one, other, strict=False))


def standings(losses: Sequence[Losses]) -> list[int]:
    """Of each trial: number of the others that it is better than, minus number of those that are better than it."""
    width = max(map(len, losses))
    table = np.array([each if len(each) == width else (math.inf,) * width for each in losses])
    if width == 1:  # an order: those behind it, minus those before it
        column = table[:, 0]
        order = np.sort(column)
        behind = len(order) - np.searchsorted(order, column, side="right")
        return [int(each) for each in behind - np.searchsorted(order, column, side="left")]
    found = []
    for row in table:  # all pairs at once would take memory by the square
        better = (row < table).sum(axis=1) - (row > table).sum(axis=1)
        found.append(int(np.sign(better).sum()))
    return found
