"""The search space: the unit cube, and the named values that stand for its points."""

from swarm.space.base import Domain
from swarm.space.domain import Choice, Integer, Real
from swarm.space.space import Conditions, Parameters, Space

__all__ = ["Choice", "Conditions", "Domain", "Integer", "Parameters", "Real", "Space"]
