"""Whether a service is well: how the store answers the master, and what that and the master's silence amount to."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from swarm.errors import StoreUnavailable

_PATIENCE_SECONDS = 3.0  # three questions to the store
_PASSWORD = re.compile(r"(://[^:/@\s]*):[^@\s]*@")


class StoreWatch:
    """How the store answers the master, which asks it every second.

    Args:
        clock: Gives the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked: float | None = None  # since when an answer is due
        self._trouble: tuple[str, float] | None = None  # what it is, and since when

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around each question."""
        self._asked = asked = self._clock()
        try:
            yield
        except StoreUnavailable as error:
            since = asked if self._trouble is None else self._trouble[1]
            self._trouble = _PASSWORD.sub(r"\1:***@", str(error)), since
            raise
        else:
            self._trouble = None
        finally:
            self._asked = None

    @property
    def trouble(self) -> dict[str, Any] | None:
        """What the matter with the store is, ``text``, and for how long, ``seconds``; None if it answers."""
        now = self._clock()
        if self._trouble is not None:
            text, since = self._trouble
        elif self._asked is not None and now - self._asked > _PATIENCE_SECONDS:
            text, since = "it does not answer", self._asked
        else:
            return None
        return {"text": text, "seconds": now - since}


def verdict(
    *,
    version: str,
    master: bool,
    limit: float = math.inf,
    name: str | None = None,
    silent_seconds: float | None = None,
    reports: bool = False,
    trouble: Mapping[str, Any] | None = None,
    standbys: Sequence[str] = (),
) -> dict[str, Any]:
    """What is known of a service, and what is wrong with it.

    Args:
        version: Of its scheduler.
        master: Whether a master is connected.
        limit: A master that is silent for more seconds is not well.
        name: Of the master.
        silent_seconds: Since it was heard of last.
        reports: Whether it says how its store is; one of an earlier version does not.
        trouble: What it says is the matter with the store, as :attr:`StoreWatch.trouble`.
        standbys: Names of the masters that wait for the office.

    Returns:
        ``ok``; the ``problems``, a sentence each; ``silent``: whether the master is; ``store``: ``answers``,
        ``in trouble`` or ``unknown``; ``trouble`` and ``trouble_seconds`` of the store; and what was given.
    """
    silent = silent_seconds is not None and silent_seconds > limit
    problems, whose = [], "" if name is None else f" {name}"
    if not master and standbys:
        who = f"{standbys[0]} stands by, and takes" if len(standbys) == 1 else f"{len(standbys)} stand by; one takes"
        problems.append(f"no master is connected to the scheduler; {who} over when the lease of the last one is over")
    elif not master:
        problems.append("no master is connected to the scheduler; start one: swarm master")
    elif silent:
        problems.append(
            f"the master{whose} has been silent for {silent_seconds:.0f} s: it is suspended, waits for its store, or "
            "its machine is gone; look at its log, and start it again if no standby takes over"
        )
    elif trouble is not None:
        problems.append(
            f"the store of the master{whose} has been in trouble for {trouble['seconds']:.0f} s: {trouble['text']}; "
            "trainings that run go on, nothing new is started until the store answers"
        )
    told = master and not silent and reports
    return {
        "ok": not problems,
        "problems": problems,
        "version": version,
        "master": master,
        "name": name,
        "silent": silent,
        "silent_seconds": silent_seconds,
        "store": "unknown" if not told else "answers" if trouble is None else "in trouble",
        "trouble": trouble["text"] if told and trouble else None,
        "trouble_seconds": trouble["seconds"] if told and trouble else None,
        "standbys": list(standbys),
    }


def health_in(hello: Mapping[str, Any]) -> dict[str, Any]:
    """The health of a service, from its scheduler's greeting; an earlier one says only whether a master is there."""
    told: dict[str, Any] | None = hello.get("health")
    if told is None:
        return verdict(version=hello["version"], master=hello["master"])
    # Dask makes tuples of lists.
    return {**told, "problems": list(told["problems"]), "standbys": list(told.get("standbys", ()))}
