"""Where a job searches: its own space or its problem's, what it tries first there, and where it searches afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from swarm.errors import InvalidJob, InvalidSpace
from swarm.job import fields as job_fields
from swarm.job import limits
from swarm.job.problem import Problem
from swarm.optimizers.given import check_part
from swarm.plain import params_as_json
from swarm.space.space import Space
from swarm.trial import Params


def space_of(job: str, given: Space | None, code: Problem, constraint: Any) -> Space:
    """The space that a job searches, with all its constraints as a store can keep them.

    Args:
        job: Name of the job.
        given: The space that it has; None is the problem's.
        code: The problem.
        constraint: What several hyper-parameters have to satisfy together.

    Raises:
        InvalidJob: There is none.
        InvalidSpace: The constraint does not fit, or the space is too large.
    """
    space = given or (Space.parse(code.space) if code.space else None)
    if space is None:
        raise InvalidJob(f"job {job!r} has no search space; give one: space: {{name: {{integer: [1, 9]}}}}")
    space = space.constrained(constraint).rewritten(partial(job_fields.written, names=list(space.domains)))
    limits.check_space(space)
    return space


def tried_first(space: Space, place: int, given: dict[str, Any]) -> dict[str, Any]:
    """A configuration that is to be tried first, in the values of the space.

    Args:
        space: The space.
        place: Its place among those that are.
        given: The configuration, perhaps a part of one.

    Raises:
        InvalidSpace: It is none of the space.
    """
    part = space.normalised(given)
    try:
        check_part(space, part)
    except InvalidSpace as error:
        raise InvalidSpace(f"first[{place}]: {error}") from None
    return part


def space_around(found: Params, space: Space, search: Sequence[str]) -> Space:
    """The space of a second search around what the first has found.

    Args:
        found: What it has found: the default of what is searched again, and the value of all else.
        space: Its space.
        search: Hyper-parameters that are searched again.

    Raises:
        InvalidJob: One of them was not searched before.
    """
    unknown = [name for name in search if name not in space.names]
    if unknown:
        raise InvalidJob(f"then.search: {unknown[0]} is not searched before; name some of {', '.join(space.names)}")
    domains = {name: value for name, value in space.to_dict().items() if name in search}
    data = {name: {"fixed": value} for name, value in params_as_json(found).items()}
    for name, value in params_as_json(found).items():
        if name in domains:
            data[name] = {**domains[name], "default": value}
    concerning = [each for each in space.constraints if (each.names or set()) <= found.keys()]
    return Space.parse(data).constrained(concerning or None)
