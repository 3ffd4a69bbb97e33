"""Failed trainings are trained again, under the same name: the journal is cut where the first failure came in.

A search is the replay of its journal, and what it asked for after a failure depends on that failure. So the journal
cannot have another result in its place. Instead the run goes back to the moment before the first failure: what had been
asked by then stays, with all results but the failures; what was asked later is asked again. Good results are in the
archive, which answers wherever the search comes to the same position again, so that none is trained twice.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from swarm.errors import InvalidInput
from swarm.job.job import Job
from swarm.search.state import replay
from swarm.store.events import Answered, Asked, Enqueued, Event, Extended, Resumed, Retried
from swarm.store.sql import Store
from swarm.trial import Status, artifacts_in, output_in, place_in


@dataclass
class _Cut:
    """Where a journal is cut, and what of the rest of it stays.

    Attributes:
        seq: Number of the first event that goes.
        kept: What stays of those from there on.
        failed: Keys of all evaluations that have failed.
        good: Keys of the results that go, which are in the archive.
    """

    seq: int
    kept: list[Event] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    good: set[str] = field(default_factory=set)
    open: set[str] = field(default_factory=set)


def retry(
    store: Store, job: Job, results: str | None = None, kept: Callable[[str], bool] = lambda _: False
) -> set[str]:
    """Have the failed trainings of a run trained again when it goes on; nobody may be running it.

    Args:
        store: Where the run is.
        job: What it is.
        results: Folder where finished evaluations are committed, or None; failures there are deleted.
        kept: Whether the checkpoint of an evaluation is still there.

    Returns:
        Keys of the evaluations that had failed; none if nothing has changed.

    Raises:
        InvalidInput: It hands trainings on, and the checkpoints from before its first failure are gone.
    """
    cut = _find(store.events(job.name))
    if cut is None:
        return set()
    forgotten = set(cut.failed)
    if job.optimizer.inherits:
        _check_continuable(store, job, cut, kept)
        forgotten |= {key for key in cut.good if not kept(key)}
    forget_committed(results, cut.failed)  # first: if this process dies now, the same call does the rest
    last = cut.kept[-1].time if cut.kept else _time_before(store, job.name, cut.seq)
    event = Retried(failures=len(cut.failed), keys=tuple(sorted(cut.failed & cut.open)), time=last)
    store.cut(job.name, cut.seq, [*cut.kept, event], forget=cut.failed, lost=forgotten - cut.failed)
    return cut.failed


def forget_committed(results: str | None, keys: Iterable[str]) -> int:
    """Delete the committed results of these evaluations, what they printed and the files that they left.

    Returns:
        The number of bytes that results and output took.
    """
    total = 0
    for key in keys if results is not None else ():
        shutil.rmtree(artifacts_in(str(results), key), ignore_errors=True)  # which follows no link
        for path in (Path(place_in(str(results), key)), Path(output_in(str(results), key))):
            with suppress(FileNotFoundError):
                total += path.stat().st_size
                path.unlink()
    return total


def _find(events: Iterable[Event]) -> _Cut | None:
    """Where the first failure came in; None if there is none."""
    cut: _Cut | None = None
    asked: set[str] = set()  # and not answered yet
    for seq, event in enumerate(events):
        failed = _failures(event)
        if failed and cut is None:
            cut = _Cut(seq, open=set(asked))
        if cut is not None:
            _sort(cut, event, failed, asked)
        elif isinstance(event, Answered):
            asked.discard(event.result.key)
        elif isinstance(event, Asked):
            asked |= {each.key for each in event.evaluations if each.result is None}
    return cut


def _failures(event: Event) -> set[str]:
    """Keys of the evaluations whose failure an event tells of."""
    if isinstance(event, Answered):
        answers = [event.result]
    elif isinstance(event, Asked):
        answers = [each.result for each in event.evaluations if each.result is not None]
    else:
        return set()
    return {answer.key for answer in answers if answer.status is Status.FAILED}


def _sort(cut: _Cut, event: Event, failed: set[str], asked: set[str]) -> None:
    """Put an event from behind the cut to what stays or to what goes."""
    cut.failed |= failed
    if isinstance(event, Resumed | Extended | Enqueued):
        cut.kept.append(event)
    elif isinstance(event, Answered) and not failed:
        key = event.result.key
        if key in asked:
            asked.discard(key)
            cut.kept.append(event)
        else:
            cut.good.add(key)


def _time_before(store: Store, job: str, seq: int) -> float:
    return next((event.time for event in store.events(job, max(0, seq - 1), 1)), 0.0)


def _check_continuable(store: Store, job: Job, cut: _Cut, kept: Callable[[str], bool]) -> None:
    """Refuse if the search, where it goes on, would have to continue from a checkpoint that was deleted since."""
    needed = replay(job, [*store.events(job.name, limit=cut.seq), *cut.kept]).continued()
    if not all(map(kept, needed)):
        raise InvalidInput(
            f"job {job.name!r} hands trainings on, and the checkpoints from before its first failure are deleted, so "
            "that all of it would have to be trained again: run it under another name (swarm run … --again)"
        )
