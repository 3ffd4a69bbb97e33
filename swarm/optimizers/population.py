"""What a population consists of, and what one that exchanges members with others can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from swarm.trial import Params, Trial

Genome = tuple[Params, ...]  # one chromosome, or two homologous ones if diploid


@dataclass(frozen=True, slots=True)
class Individual:
    """A member of a population whose training has been told.

    Attributes:
        trial: What was trained.
        loss: What selection goes by: its loss, +inf if it failed.
        genome: Its chromosomes: what its children inherit.
        losses: Of its latest slices along its parents, its own last, where selection goes by several.
    """

    trial: Trial
    loss: float
    genome: Genome
    losses: tuple[float, ...] = ()


@runtime_checkable
class Population(Protocol):
    """A started optimizer with generations, that members can leave and join between them."""

    @property
    def completed(self) -> int:
        """Number of generations that have been told in full."""

    def members(self) -> Sequence[Individual]:
        """The last complete generation."""

    def immigrate(self, newcomer: Individual) -> None:
        """Take in an individual in place of the worst, before the first trial of a generation is asked for."""


def replace_worst(members: list[Individual], newcomer: Individual) -> int:
    """Put the newcomer in the place of the member with the highest loss, the first of equals; its index."""
    worst = max(range(len(members)), key=lambda i: members[i].loss)
    members[worst] = newcomer
    return worst
