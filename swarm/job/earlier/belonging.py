"""What of earlier results belongs to the space of a job."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from swarm.errors import InvalidJob, InvalidSpace
from swarm.job.earlier.sources import Row, rows
from swarm.plain import canonical
from swarm.space.base import Domain
from swarm.space.domain import Choice, Integer, Real
from swarm.space.space import Space
from swarm.trial import Direction

MOST = 1000  # results that a job begins with: of more, the best half and as many spread over the rest

Result = dict[str, Any]  # params and fitness


def known_results(sources: Iterable[Any], space: Space, direction: Direction, folder: Path) -> list[Result]:
    """The results of these sources that belong to the space, each configuration once: ``params`` and ``fitness``.

    Parameters that the space has not are left out; its fixed values may be missing in a source.

    Args:
        sources: Where they are, as a job names them.
        space: The space of the job.
        direction: Whether a larger or a smaller fitness is better.
        folder: What paths are relative to.

    Raises:
        InvalidJob: A source cannot be read, or none of its results belongs to the space.
    """
    found: dict[str, Result] = {}
    for place, source in enumerate(sources):
        try:
            read = list(rows(source, folder, direction))
            taken, reason = _belonging(read, space)
        except InvalidJob as error:
            raise InvalidJob(f"results[{place}]: {error}") from None
        if not taken:
            raise InvalidJob(
                f"results[{place}]: "
                + (f"none of its {len(read)} results belongs to the space: {reason}" if read else "it has no results")
            )
        found |= {canonical(each["params"]): each for each in taken}
    return _most_telling(list(found.values()), direction)


def _belonging(read: Iterable[Row], space: Space) -> tuple[list[Result], str]:
    """Those that belong to the space, and why the first other one does not."""
    taken, reason = [], ""
    for row in read:
        params = _in_space(row.params, space)
        try:
            space.check(params)
        except InvalidSpace as error:
            reason = reason or str(error)
            continue
        if math.isfinite(row.fitness):
            taken.append({"params": space.normalised(params), "fitness": row.fitness})
    return taken, reason


def _in_space(params: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """The parameters that the space has, as it writes them: a table knows numbers and texts alone."""
    found: dict[str, Any] = {}
    params = space.ungrouped(params)
    for name, domain in space.domains.items():
        if not isinstance(domain, Domain):
            found[name] = _as_it_is(params.get(name, domain), [domain])
        elif name in params:
            value = params[name]
            if isinstance(domain, Choice):
                value = _as_it_is(value, domain.options)
            elif isinstance(domain, Integer) and isinstance(value, float) and value.is_integer():
                value = int(value)
            elif isinstance(domain, Real) and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
            found[name] = value
    return space.active(found) if space.conditions else found


def _as_it_is(value: Any, options: Iterable[Any]) -> Any:
    """The option that a value stands for, exactly or as a text."""
    options = list(options)
    same = [option for option in options if type(option) is type(value) and option == value]
    alike = [option for option in options if str(option) == str(value) or (option == value and option is not None)]
    return (same or alike or [value])[0]


def _most_telling(found: list[Result], direction: Direction) -> list[Result]:
    if len(found) <= MOST:
        return found
    order = sorted(found, key=lambda each: each["fitness"], reverse=direction == "maximize")
    half = MOST // 2
    rest = order[half:]
    return order[:half] + [rest[round(place * (len(rest) - 1) / (MOST - half - 1))] for place in range(MOST - half)]
