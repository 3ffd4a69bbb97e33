"""How benchmarks sum up what they have measured several times, and how they write it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Average = Callable[[Sequence[float]], float]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval by Student's t; NaN for a single value, and where one is NaN."""
    from scipy.stats import t

    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return mean, math.nan
    return mean, float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n))


def middle(values: Sequence[float | None]) -> float:
    """The median, where None is the worst."""
    return statistics.median(math.inf if value is None else value for value in values)


def many(number: int, noun: str) -> str:
    """So many of them."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def percent(shares: Sequence[float]) -> str:
    """Their mean."""
    return f"{100 * statistics.mean(shares):.2f} %"


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Mean and half of its 95 % interval."""
    mean, half = interval(values)
    return f"{mean:{form}} ± {half:{form}}" if len(values) > 1 else f"{mean:{form}}"


def ranged(values: Sequence[float], form: str, unit: str = "", center: Average = statistics.median) -> str:
    """The median, or another average, and where they differ the lowest and the highest."""
    return bracketed(center(values), min(values), max(values), form, unit)


def bracketed(value: float, low: float, high: float, form: str, unit: str = "") -> str:
    """A number, and where they are written differently what it lies between."""
    ends = [f"{each:{form}}" for each in (low, high)]
    return f"{value:{form}}{unit}{f' [{ends[0]}, {ends[1]}]' if ends[0] != ends[1] else ''}"


def quartiles(values: Any) -> tuple[Any, Any, Any]:
    """Median, lower and upper quartile: of 21 seeds the 11th, 6th and 16th."""
    middle, low, high = np.quantile(values, [0.5, 0.25, 0.75], axis=0, method="nearest")
    return middle, low, high


EXTREMES = ("median", "lowest", "highest")


def extremes(values: Sequence[float], form: str, center: Average = statistics.median) -> list[str]:
    """The cells of these columns, or of another average in place of the median."""
    return [f"{value:{form}}" for value in (center(values), min(values), max(values))]
