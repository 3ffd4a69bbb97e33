"""The search space: the unit cube, and the named values that stand for its points."""

from swarm.space.domain import Choice, Domain, Integer, Real, is_same, is_scalar, settled
from swarm.space.space import Conditions, Parameters, Space

__all__ = [
    "Choice",
    "Conditions",
    "Domain",
    "Integer",
    "Parameters",
    "Real",
    "Space",
    "is_same",
    "is_scalar",
    "settled",
]
