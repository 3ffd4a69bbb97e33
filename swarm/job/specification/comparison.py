"""How a job differs from another that a store has under its name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic.fields import FieldInfo

from swarm.job import fields as job_fields
from swarm.job.raised import Differences

_NUMBERS = {"integer", "real", "log", "digits", "step", "default"}  # of a domain, where 2 is 2.0


def compared(
    mine: dict[str, Any],
    theirs: dict[str, Any],
    fields: Mapping[str, FieldInfo],
    is_raised: Callable[[str, Any, Any], bool],
) -> Differences:
    """How two jobs differ: in limits that are raised, and in what makes the one another.

    Args:
        mine: The job, as its ``to_dict`` describes it.
        theirs: The other one, as a store has it, perhaps of an earlier version.
        fields: Those of a job, with the default of what one of them does not say.
        is_raised: Whether what differs is a limit that was raised, by its dotted name, what it is and what it was.
    """
    theirs = with_methods_as_stored(theirs)
    for name in mine.keys() ^ theirs.keys():  # what one of them does not say is as it is by default
        default = {name: fields[name].get_default(call_default_factory=True)} if name in fields else {}
        mine, theirs = {**default, **mine}, {**default, **theirs}
    rows = _differ(_identity(mine), _identity(theirs))
    if theirs["problem"].get("identity", 1) != mine["problem"]["identity"]:
        earlier = (
            "it is of an earlier version of dask-swarm, which told problems apart in another way; go on with it as "
            f"it is stored, swarm resume {mine['name']}"
        )
        return Differences(others=[earlier])
    raised = {where: (now, before) for where, now, before in rows if is_raised(where, now, before)}
    others = [f"{where} is {now!r}, was {before!r}" for where, now, before in rows if where not in raised]
    return Differences(raised, others)


def with_methods_as_stored(data: dict[str, Any]) -> dict[str, Any]:
    """A stored job, also an earlier version's, with all options of its methods."""
    data = {**data, "optimizer": job_fields.as_stored(data.get("optimizer"))}
    if isinstance(then := data.get("then"), dict):
        data["then"] = {**then, "optimizer": job_fields.as_stored(then.get("optimizer"))}
    return data


def _identity(spec: dict[str, Any]) -> dict[str, Any]:
    """What a job searches and how; not where its problem was found, where it may run, what it began with (the journal
    has that), and when it gives up.
    """
    problem = {name: value for name, value in spec["problem"].items() if name not in ("origin", "options", "identity")}
    left_out = dict.fromkeys(("requirements", "max_failures", "gpu_memory", "results", "notify"))
    return {**spec, "problem": problem, **left_out}


def _differ(mine: Any, theirs: Any, where: tuple[str, ...] = ()) -> list[tuple[str, Any, Any]]:
    if isinstance(mine, dict) and isinstance(theirs, dict):
        names = {**mine, **theirs}
        return [row for name in names for row in _differ(mine.get(name), theirs.get(name), (*where, str(name)))]
    # What trainings get as it is: true is not 1, nor 2 2.0.
    as_given = (
        where[:1] == ("space",) and not _NUMBERS.intersection(where[2:3]) and json.dumps(mine) != json.dumps(theirs)
    )
    return [(".".join(where), mine, theirs)] if as_given or mine != theirs else []
