"""Configurations that a user gives, whole or in part: checked against a space, and filled by chance."""

from __future__ import annotations

import numpy as np

from swarm.errors import InvalidSpace
from swarm.space.base import Domain
from swarm.space.space import Space
from swarm.trial import Params, Value

_DRAWS = 2000  # of what is missing, until all that is given belongs to the configuration


def check_part(space: Space, part: Params) -> None:
    """Refuse what is no part of a configuration of the space.

    Raises:
        InvalidSpace: A name is unknown, a value outside of its domain, or no configuration has these values together.
    """
    unknown = [name for name in part if name not in space.domains]
    if unknown:
        raise InvalidSpace(f"{unknown[0]}: there is no such parameter; there are {', '.join(space.domains)}")
    for name, value in part.items():
        domain = space.domains[name]
        if isinstance(domain, Domain) and not domain.contains(value):
            raise InvalidSpace(f"{name}: {value!r} is outside of the space: the parameter is {domain}")
    filled(space, part, np.random.Generator(np.random.PCG64(0)))


def filled(space: Space, part: Params, rng: np.random.Generator) -> dict[str, Value]:
    """The configuration with these values, and random ones for the parameters that are missing.

    Raises:
        InvalidSpace: No configuration was found that has them together.
    """
    if space.contains(part):
        return {name: part[name] for name in space.domains if name in part}
    error: InvalidSpace | None = None
    for _ in range(_DRAWS):
        whole = {**space.completed(space.sample(rng)), **part}
        found = space.active({name: whole[name] for name in space.domains})
        missing = [name for name in part if name not in found]
        if not missing and space.contains(found):
            return found
        try:
            space.check({**found, **part})
        except InvalidSpace as reason:
            error = reason
    raise error or InvalidSpace("no configuration has these values together")
