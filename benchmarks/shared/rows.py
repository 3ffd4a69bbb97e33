"""What a line of benchmarks/README.md consists of, and how its figures are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Result = dict[str, Any]

CLAIMS = "Does it do what the papers claim?"
PEERS = "How does it compare with peers?"
SCALE = "How does it scale?"
FAULTS = "What do faults cost?"
COST = "What does the service cost?"
QUESTIONS = {
    CLAIMS: "Most papers trained on GPUs and on whole data sets; here two cores trained small versions for minutes. "
    "What is compared is therefore the direction and size of an effect, not an accuracy.",
    PEERS: "All search the same functions, whose optimum each seed puts elsewhere, at equal numbers of evaluations; or "
    "they run the same sleeping trainings, each tool as its own documentation says.",
    SCALE: "Slots are emulated by processes that sleep, or simulated on a virtual clock, where a row says so.",
    FAULTS: "Schedulers, masters and workers are real processes of one machine, and so are the kills; trainings sleep.",
    COST: "Here, too, all are real processes on one machine; but for those of the slices, trainings sleep.",
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
"""Writes the rows of a result; ``rows.py`` of each folder lists those of its benchmarks as ``READERS``."""


def remark(result: Result) -> str:
    """What limits a result."""
    return "; a quick run" if result.get("quick") else ""
