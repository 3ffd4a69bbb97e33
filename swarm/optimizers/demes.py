"""Demes: populations side by side on a grid, which now and then send each other members.

Source: Recombination of Artificial Neural Networks: demes on a Cartesian grid, neighbours exchange migrants; the
interval of 5 generations is that of the authors' own runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self, TypeVar, cast

import numpy as np

from swarm.errors import InvalidOptimizer
from swarm.optimizers.base import Optimizer
from swarm.optimizers.population import Individual, Population
from swarm.trial import Params, Trial

T = TypeVar("T")


@dataclass(kw_only=True)
class Demes(Optimizer):
    """As many populations as the grid has places, each its own run of one method, with migration between neighbours.

    After generations 0, k, 2·k, … a copy of the best of every deme goes to one of its neighbours (above, below, left,
    right), drawn at random, and takes the place of the worst there. A deme only ever waits for those that send to it,
    so another deme's trainings fill the slots that its own generation leaves idle; one whose swarm has settled early
    sends nobody any more, and is not waited for. One deme is just that method.

    Trial ``n`` of deme ``k`` has the id ``n · demes + k``, and member ``m`` of it the number ``m · demes + k``,
    whatever the order in which they are asked::

        Demes(of=GA(population=20, generations=30), rows=2, columns=3, torus=True)

    Source: Vose et al., Recombination of Artificial Neural Networks.

    Attributes:
        of: Options of the method that every deme runs: one with generations that can take in migrants, such as GA,
            PBT and PSO.
        rows: Rows of the grid.
        columns: Columns of the grid.
        torus: Whether opposite edges of the grid are neighbours.
        interval: Generations from one migration to the next.
        rate: Instead of the interval: probability of each individual, after every generation, to send a copy of
            itself.

    Raises:
        InvalidOptimizer: An option is out of its range; at ``start``: the method refuses.

    Example:
        Six populations in a ring of three columns and two rows::

            >>> from swarm import GA, Demes, Real, Space
            >>> islands = Demes(of=GA(population=20, generations=30), rows=2, columns=3, torus=True)
            >>> islands.start(Space({"x": Real(0, 1)}), seed=7).planned
            3720
    """

    of: Optimizer
    rows: int = 2
    columns: int = 2
    torus: bool = False
    interval: int = 5
    rate: float | None = None

    limits: ClassVar[tuple[str, ...]] = ("of",)

    def __post_init__(self) -> None:
        super().__post_init__()
        for option in ("rows", "columns", "interval"):
            self._check_integer(option, low=1)
        if self.rate is not None:
            self._check_real("rate", 0, 1)
        if not isinstance(self.of, Optimizer):
            raise InvalidOptimizer(f"{self._named('of')} must be an optimizer, not {self.of!r}")
        if not (isinstance(self.of, Population) and self.of.generational):
            raise InvalidOptimizer(
                f"{self._named('of')} is {type(self.of).__name__}, which has no generations to migrate between: "
                "take GA, PBT or PSO"
            )

    @property
    def sizes(self) -> dict[str, int]:
        """Those of all demes, at least one for each."""
        demes = self.rows * self.columns
        inner = {f"rows × columns × {options}": demes * count for options, count in self.of.sizes.items()}
        return {"rows × columns": demes, **inner}

    @property
    def planned(self) -> int | None:
        """Number of trials over all demes, at most."""
        plans = [run.planned for run in self._runs] if self._started else [None]
        return None if None in plans else sum(plan for plan in plans if plan is not None)

    @property
    def generational(self) -> bool:
        """True: what a deme asks for depends on complete generations alone."""
        return True

    @property
    def largest_budget(self) -> float | None:
        """The largest budget that the method gives a trial, if it gives any."""
        return self.of.largest_budget

    @property
    def inherits(self) -> bool:
        """Whether the method's trials need their parents' checkpoints."""
        return self.of.inherits

    def parents(self) -> set[int]:
        """Ids of the trials whose checkpoints a later trial may start from, migrants on their way among them."""
        self._check_started()
        travelling = {guest.trial.id for post in self._post.values() for guests in post.values() for guest in guests}
        return travelling.union(*(run.parents() for run in self._runs)) if self.inherits else set()

    def _check_room(self, number: int) -> None:
        for run, share in self._shares(range(number)):
            run._check_room(len(share))

    def _accept(self, given: Sequence[Params]) -> None:
        for run, share in self._shares(given):
            run._accept(share)

    def _shares(self, given: Sequence[T]) -> list[tuple[Optimizer, Sequence[T]]]:
        """What each deme takes, the next one in turn the first."""
        turns = [(self._turn + ahead) % self._count for ahead in range(self._count)]
        return [(self._runs[deme], given[place :: self._count]) for place, deme in enumerate(turns)]

    def _begin(self) -> None:
        self._count = self.rows * self.columns
        first, step = self._ids
        self._runs = [
            self.of.start(
                self._space,
                seed=int(np.random.SeedSequence([self._seed, deme]).generate_state(1)[0]),
                fold=self._fold,
                first_id=first + step * deme,
                id_step=step * self._count,
            )
            for deme in range(self._count)
        ]
        self._turn = 0  # deme that is asked next
        self._asked_of: dict[int, Trial] = {}  # open trials as their demes know them, by id
        self._post: dict[tuple[int, int], dict[int, list[Individual]]] = {}  # by generation and receiver, by sender
        self._received = [0] * self._count  # generations after which a deme has taken in its guests

    def _limited(self, before: Self) -> None:
        for run in self._runs:
            run.take_limits(self.of)

    def _exhausted(self) -> bool:
        return all(run.done for run in self._runs)

    def _ask(self) -> Trial | None:
        for _ in range(self._count):
            deme, self._turn = self._turn, (self._turn + 1) % self._count
            if not self._runs[deme].done and self._receive(deme) and (trial := self._runs[deme].ask()) is not None:
                self._asked_of[trial.id] = trial
                return replace(trial, member=trial.member * self._count + deme)
        return None

    def _tell(self, trial: Trial, loss: float) -> None:
        deme = trial.member % self._count
        population = self._population(deme)
        before = population.completed
        self._runs[deme].tell(self._asked_of.pop(trial.id), loss)
        if population.completed > before:
            self._send(deme, generation=before)
        if self._runs[deme].done:  # who still comes is not awaited, nor is a checkpoint kept for it
            self._post = {to: guests for to, guests in self._post.items() if self._takes(*to)}

    # --- migration

    def _send(self, deme: int, generation: int) -> None:
        """Post what leaves a deme after a generation; to each receiver something, if only that nobody comes."""
        members = [member for member in self._population(deme).members() if math.isfinite(member.loss)]
        neighbours, rng = self._neighbours(deme), self._rng(generation, deme)
        leaving: dict[int, list[Individual]] = {neighbour: [] for neighbour in neighbours}
        if self.rate is not None:
            for member in members if neighbours else []:
                target = neighbours[rng.integers(len(neighbours))]
                if rng.random() < self.rate:
                    leaving[target].append(member)
        elif members and (receiver := self._direction(deme, generation)) is not None:
            leaving[receiver].append(min(members, key=_by_loss))
        for neighbour, guests in leaving.items():
            if self._expects(neighbour, deme, generation) and self._takes(generation, neighbour):
                self._post.setdefault((generation, neighbour), {})[deme] = guests

    def _receive(self, deme: int) -> bool:
        """Take in the guests of the last generation; whether all who may send some have."""
        population = self._population(deme)
        if population.completed == self._received[deme]:
            return True
        generation = population.completed - 1
        senders = {other for other in self._neighbours(deme) if self._expects(deme, other, generation)}
        missing = senders - self._post.get((generation, deme), {}).keys()
        if not all(self._has_ended_before(other, generation) for other in missing):
            return False
        for _, guests in sorted(self._post.pop((generation, deme), {}).items()):
            for guest in guests:
                population.immigrate(guest)
        self._received[deme] = population.completed
        return True

    def _takes(self, generation: int, deme: int) -> bool:
        """Whether a deme may yet take in guests of a generation: one that is done, if it goes on with higher limits."""
        run = self._runs[deme]
        return not run.done or (not self.inherits and self._population(deme).completed == generation + 1)

    def _expects(self, receiver: int, sender: int, generation: int) -> bool:
        """Whether a deme must hear from another after a generation before it goes on."""
        if self.rate is not None:
            return True
        return generation % self.interval == 0 and self._direction(sender, generation) == receiver

    def _has_ended_before(self, deme: int, generation: int) -> bool:
        """Whether a deme is done without ever having come to the end of that generation."""
        return self._runs[deme].done and self._population(deme).completed <= generation

    def _direction(self, deme: int, generation: int) -> int | None:
        """The neighbour that the best of a deme goes to after a generation; None if it has none."""
        neighbours = self._neighbours(deme)
        return neighbours[self._rng(generation, deme).integers(len(neighbours))] if neighbours else None

    def _neighbours(self, deme: int) -> list[int]:
        row, column = divmod(deme, self.columns)
        found = set()
        for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            place = (r % self.rows, c % self.columns)
            if self.torus or place == (r, c):
                found.add(place[0] * self.columns + place[1])
        return sorted(found - {deme})

    def _population(self, deme: int) -> Population:
        return cast(Population, self._runs[deme])  # as was checked of what they are started from


def _by_loss(member: Individual) -> tuple[float, int]:
    return member.loss, member.trial.id
