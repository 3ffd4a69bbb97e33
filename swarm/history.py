"""What a run's journal says, as tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from swarm.archive import Source
from swarm.store import Event

_TRIAL = ("trial", "generation", "member", "fold", "budget", "parent", "source", "status", "fitness")
_COLUMNS = (*_TRIAL, "seconds", "start", "end", "slot", "error")


def trials(events: Iterable[Event]) -> pd.DataFrame:
    """One row per trial, in the order in which they were asked.

    Columns: ``trial``, ``generation``, ``member``, ``fold``, ``budget``, ``parent`` (the trial that it continues),
    ``source`` (``trained`` if any of its evaluations was
    trained for it, else ``in_flight`` or ``archive``), ``status`` (``running`` while there is no answer),
    ``fitness`` (the mean over its evaluations), ``seconds`` (training time spent for it, 0 if it was answered without
    training), ``start`` and ``end`` (seconds since the epoch), ``slot``, ``error``, and one column per hyper-parameter.
    """
    rows: list[dict[str, Any]] = []
    asked: list[dict[str, Any]] = []
    results: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.kind == "asked":
            asked.append({**event.data, "time": event.time})
        elif event.kind == "result":
            results[event.data["key"]] = event.data
    for entry in asked:
        rows.append(_row(entry, results))
    found = dict.fromkeys(name for entry in asked for name in entry["params"])  # not all may have all
    names = [name for name in found if name not in _COLUMNS]
    return pd.DataFrame(rows, columns=[*_COLUMNS, *names])


def _row(entry: dict[str, Any], results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    evaluations = entry["evaluations"]
    sources = [evaluation["source"] for evaluation in evaluations]
    answers = [evaluation["result"] or results.get(evaluation["key"]) for evaluation in evaluations]
    spent = [
        answer
        for answer, source in zip(answers, sources, strict=True)
        if answer is not None and source == Source.TRAINED
    ]
    fitness = [answer["fitness"] for answer in answers if answer is not None and answer["fitness"] is not None]
    error = next((answer["error"] for answer in answers if answer is not None and answer["error"]), None)
    complete = all(answer is not None for answer in answers)
    succeeded = complete and len(fitness) == len(answers)
    return {
        "trial": entry["id"],
        "generation": entry["generation"],
        "member": entry["member"],
        "fold": entry["fold"],
        "budget": entry["budget"],
        "parent": entry["parent"],
        "source": next(s.value for s in (Source.TRAINED, Source.IN_FLIGHT, Source.ARCHIVE) if s in sources),
        "status": "ok" if succeeded else "failed" if complete else "running",
        "fitness": sum(fitness) / len(fitness) if succeeded else None,
        "seconds": sum(answer["seconds"] for answer in spent),
        "start": min((answer["start"] for answer in spent), default=entry["time"]),
        "end": max((answer["end"] for answer in spent), default=entry["time"]),
        "slot": ", ".join(sorted({answer["slot"] for answer in spent})),
        "error": None if error is None else error.splitlines()[0],
        **entry["params"],
    }
