"""What the pages ask about single trials, answered from a store: what a training has left, the notes on trials."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any, TypeVar

from swarm.blocking import in_daemon
from swarm.errors import InvalidInput
from swarm.service.requests import Left, OfTrials, WriteNote, parse
from swarm.store.left import Left as WhatIsLeft
from swarm.store.records import Note
from swarm.store.sql import Store

T = TypeVar("T")
Look = Callable[[Store, str], WhatIsLeft]
_LOOK_SECONDS = 10.0  # for the files of a training, which may lie on a disk that does not answer
_MOST_NOTES = 200_000  # characters that are sent


def written(store: Store, name: str) -> list[list[Any]]:
    """The notes of a job: trial, key and text of each, as many as may be sent. In a thread."""
    found: list[list[Any]] = []
    room = _MOST_NOTES
    for note in store.notes(name):
        room -= len(note.text)
        if room < 0:
            break
        found.append([note.trial, note.key, note.text])
    return found


def write(store: Store, request: WriteNote) -> None:
    """Write a note. In a thread.

    Raises:
        InvalidInput: There is no such trial, or the text is too long.
    """
    check_asked(store, request)
    store.write_note(Note(request.name, request.trial, request.key, request.text))


def check_asked(store: Store, request: Left | WriteNote) -> None:
    """Refuse what is about an evaluation that the job has not asked for. In a thread."""
    if not store.asks_for(request.name, request.key):
        raise InvalidInput(f"job {request.name!r} has no such trial")


def of_run(store: str, job: str, look: Look) -> Callable[..., Awaitable[Any]]:
    """What answers for a run of one's own, which has no master.

    Args:
        store: URL of its store.
        job: Name of its job.
        look: Reads what the training of an evaluation has left.
    """

    def answered(request: OfTrials) -> Any:
        with closing(Store(store, create=False)) as opened:
            if isinstance(request, Left):
                check_asked(opened, request)
                return look(opened, request.key).to_dict()
            if isinstance(request, WriteNote):
                write(opened, request)
            return written(opened, job)

    async def answer(*, method: str, data: str, blob: bytes, user: str) -> Any:
        request = parse(method, data, blob)
        if not isinstance(request, OfTrials) or request.name != job:
            raise InvalidInput(f"a run of one's own does not answer {method!r}; submit jobs to a service for that")
        return await in_time(lambda: answered(request))

    return answer


async def in_time(work: Callable[[], T]) -> T:
    """Do what a disk may keep waiting.

    Raises:
        InvalidInput: It does.
    """
    try:
        return await in_daemon(work, _LOOK_SECONDS)
    except TimeoutError:
        raise InvalidInput(
            f"the folder of what trainings have left has not answered for {_LOOK_SECONDS:.0f} s"
        ) from None
