"""What a line of benchmarks/README.md consists of, and how its figures are written."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.shared.repeated import interval

Result = dict[str, Any]

CLAIMS = "Does it do what the papers claim?"
PEERS = "How does it compare with peers?"
SCALE = "How does it scale?"
COST = "What do faults and the service cost?"
QUESTIONS = {
    CLAIMS: "Most papers trained on GPUs and on whole data sets; here two cores trained small versions for minutes. "
    "What is compared is therefore the direction and size of an effect, not an accuracy.",
    PEERS: "All search the same functions, whose optimum each seed puts elsewhere, at equal numbers of evaluations; or "
    "they run the same sleeping trainings, each tool as its own documentation says.",
    SCALE: "Slots are emulated by processes that sleep, or simulated on a virtual clock, where a row says so.",
    COST: "Schedulers, masters and workers are real processes on one machine, and the kills are real; trainings sleep.",
}


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        question: The table.
        what: What was measured.
        measured: What came out.
        scale: How much of it, and what was emulated.
        paper: What a paper says of it, and where.
        command: How to measure it again.
        gap: Where the paper's number was not met: why, as a sentence.
        behind: Where a peer is ahead: what differs, as a sentence.
    """

    question: str
    what: str
    measured: str
    scale: str
    command: str
    paper: str = "–"
    gap: str | None = None
    behind: str | None = None


Reader = Callable[[Result], Iterator[Row]]


def percent(shares: Sequence[float]) -> str:
    """Their mean."""
    return f"{100 * statistics.mean(shares):.2f} %"


def many(number: int, noun: str) -> str:
    """So many of them."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def middle(values: Sequence[float | None]) -> float:
    """The median, where None is the worst."""
    return statistics.median(math.inf if value is None else value for value in values)


def remark(result: Result) -> str:
    """What limits a result."""
    return "; a quick run" if result.get("quick") else ""


def ranged(values: Sequence[float], form: str, unit: str = "") -> str:
    """The median, and where they differ the lowest and the highest."""
    low, high = (f"{value:{form}}" for value in (min(values), max(values)))
    return f"{statistics.median(values):{form}}{unit}{f' [{low}, {high}]' if low != high else ''}"


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Mean and half of its 95 % interval."""
    mean, half = interval(values)
    return f"{mean:{form}} ± {half:{form}}" if len(values) > 1 else f"{mean:{form}}"
