"""Population-based training: hyper-parameters evolve while the networks train, through their checkpoints.

Source: Recombination of Artificial Neural Networks: three parents, of which two give the hyper-parameters by
crossover and the third the weights. Jaderberg et al., Population Based Training of Neural Networks (2017):
``scheme="truncation"``.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from swarm.errors import InvalidOptimizer
from swarm.optimizers.base import EXACT
from swarm.optimizers.population import Genome, Individual, replace_worst
from swarm.optimizers.recombination import SELECTION, Genetic, Mating, Rng
from swarm.space.domain import Choice, Integer, Real
from swarm.trial import Params, Trial

Scheme = Literal["three_parents", "two_parents", "decoupled", "asexual", "truncation"]
Update = Literal["sync", "async"]

_TRIES = 100  # of a child that a constraint refuses
_DECIMALS = 9  # of a budget: ten slices of 0.1 make 1


@dataclass(kw_only=True)
class PBT(Genetic):
    """A population that trains by one slice a generation, each child from the checkpoint of a parent.

    A trial is one slice: ``parent`` is the trial whose weights it goes on from, ``budget`` what it has been trained up
    to when the slice ends, which is one ``slice`` more than the parent. Selection, crossover and mutation are those of
    :class:`~swarm.optimizers.genetic.GA`. The result is the best of those trained longest: a network, and the schedule
    of hyper-parameters along its parents.

    It needs a problem that keeps checkpoints, and a space of hyper-parameters that may change from slice to slice:
    learning rates, weight decay, dropout, but nothing that changes the shape of the network.

    A slice should take ten times as long as handing a network on, which is lost time: a checkpoint is written and read
    (0.03 s for the 3 MB of ResNet-20), and a Keras network built and traced. Slices that follow each other on a slot
    share the network if they differ in learning rate, weight decay, dropout and batch size alone; then all of that
    takes 0.01 s of CPU for a small network and 0.3 s for ResNet-20 (``benchmarks/cost/slices.py``), so that a slice
    may be as short as an epoch of a second or two. If they differ in something else, or other jobs train on the slot in
    between, it takes 1.4 s and 7.5 s: let a slice be a minute then, if it can be.

    Source: Vose et al., Recombination of Artificial Neural Networks; Jaderberg et al., Population Based Training of
    Neural Networks, 2017 (``truncation``).

    Attributes:
        population: Number of networks.
        max_budget: Budget of the last generation, such as epochs: ``max_budget / slice`` generations in all.
        slice: Budget of one generation.
        first_slice: Budget of the first generation; left out, ``slice``. A longer one selects first when the networks
            have learned something that their hyper-parameters can be judged by.
        window: Number of latest slices, along a network's parents, by whose mean loss it is selected. More than 1 is
            for slices whose losses are noisy: a network is chosen for several good ones, not for a lucky one.
        scheme: Who gives what to a child. ``three_parents``: two give the hyper-parameters by crossover, a third,
            drawn like them, the weights. ``two_parents``: the weights are the first parent's. ``decoupled``: one parent
            gives the hyper-parameters, another the weights. ``asexual``: one gives both. ``truncation``: the
            worst share copies both from one of the best and multiplies each hyper-parameter by 1.2 or 0.8; the
            others go on as they are.
        update: ``sync`` selects after each generation. ``async`` lets a network go on as soon as its own slice is
            trained, with parents among the latest of all, so that no slot waits.
        truncation: Share of the population that copies, and that is copied, for that scheme.
        weight_parents: Number of parents that give weights, at most. More than 1 is for an ensemble
            (:class:`swarm.workers.ensemble.Ensemble`): its members then come from several parents, each drawn like the
            third and trained as long; not for ``asexual`` and ``truncation``.
        crossover: Probability that a locus is exchanged between the two parents' chromosomes.
        mutation: Probability that a locus mutates; not for ``truncation``.
        initial: As for GA.
        scale: As for GA.
        viability: As for GA.
        sexual: As for GA.
        recombination: As for GA.
        ploidy: As for GA.
        integer_step: As for GA.
        zero_kick: As for GA.

    Raises:
        InvalidOptimizer: An option is out of its range; at ``start``: the defaults or the initial configurations do
            not fit the space.

    Example:
        A trial of the second generation goes on from a checkpoint of the first, up to twice the budget::

            >>> from swarm import PBT, Real, Space
            >>> optimizer = PBT(population=4, max_budget=10, slice=5).start(Space({"rate": Real(0.001, 0.1)}), seed=7)
            >>> first = [optimizer.ask() for _ in range(4)]
            >>> [trial.budget for trial in first]
            [5.0, 5.0, 5.0, 5.0]
            >>> for loss, trial in enumerate(first):
            ...     optimizer.tell(trial, float(loss))
            >>> second = optimizer.ask()
            >>> second.budget, second.parent in {trial.id for trial in first}
            (10.0, True)
    """

    population: int = 16
    max_budget: float = 10
    slice: float = 1
    first_slice: float | None = None
    window: int = 1
    scheme: Scheme = "three_parents"
    update: Update = "sync"
    truncation: float = 0.2
    weight_parents: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_real("slice", 0, above=True)
        if self.first_slice is not None:
            self._check_real("first_slice", 0, above=True)
        self._check_integer("window", low=1)
        self._check_real("max_budget", 0, above=True)
        self._check_one_of("scheme", *get_args(Scheme))
        self._check_one_of("update", *get_args(Update))
        self._check_real("truncation", 0, 0.5, above=True)
        self._check_integer("weight_parents", low=1)
        if self.weight_parents > 1 and self.scheme in ("asexual", "truncation"):
            raise InvalidOptimizer(
                f"{self._named('weight_parents')} is {self.weight_parents}, but with scheme {self.scheme} a child has "
                "one parent: take three_parents, two_parents or decoupled"
            )
        for option, value in (("slice", self.slice), ("first_slice", self._first)):
            if value > self.max_budget:
                raise InvalidOptimizer(
                    f"{self._named(option)} {value!r} is more than max_budget {self.max_budget!r}: lower it"
                )
        if self.max_budget / self.slice > EXACT:
            raise InvalidOptimizer(
                f"{self._named('slice')} {self.slice!r} makes more than 2^53 generations of max_budget "
                f"{self.max_budget!r}: raise it"
            )

    @property
    def generations(self) -> int:
        """Number of slices of one network: the first, and as many as the rest takes, rounded up."""
        return 1 + math.ceil((self.max_budget - self._first) / self.slice - 1e-9)

    @property
    def _first(self) -> float:
        return self.slice if self.first_slice is None else self.first_slice

    @property
    def sizes(self) -> dict[str, int]:
        """The population, the parents of one network, and the losses that each is selected by."""
        return {**super().sizes, "weight_parents": self.weight_parents, "window": self.window}

    @property
    def planned(self) -> int | None:
        """Number of trials in all, at most."""
        return self.population * self.generations if self._started else None

    @property
    def largest_budget(self) -> float | None:
        """The budget that a network is trained up to."""
        return float(self.max_budget)

    @property
    def generational(self) -> bool:
        """Whether a generation is asked after the one before is told; not if ``async``."""
        return self.update == "sync"

    @property
    def inherits(self) -> bool:
        """True: without the checkpoint of its parent a trial would be another training."""
        return True

    @property
    def completed(self) -> int:
        """Number of generations that have been told in full."""
        return self._told // self.population if self._started else 0

    def members(self) -> list[Individual]:
        """The latest of every network; if ``sync`` the last complete generation."""
        self._check_started()
        return list(self._adults.values())

    def immigrate(self, newcomer: Individual) -> None:
        """Take in a network in place of the worst, before the first trial of a generation is asked for."""
        self._check_started()
        members = self.members()
        self._adults[list(self._adults)[replace_worst(members, newcomer)]] = newcomer

    def parents(self) -> set[int]:
        """Ids of the latest trial of every network, and of those of this generation."""
        self._check_started()
        known = [*self._adults.values(), *self._newborn.values()]
        return {one.trial.id for one in known if math.isfinite(one.loss)}

    def _begin(self) -> None:
        super()._begin()
        self._told = 0
        self._adults: dict[int, Individual] = {}  # who can be a parent, by network
        self._newborn: dict[int, Individual] = {}  # told of this generation, by member, if sync
        self._unborn: dict[int, tuple[Genome, tuple[float, ...]]] = {}  # open trials, and what their parents lost
        self._idle = deque(range(self.population))  # networks that no slot is training, in the order of their results
        self._pairs: Mating | None = None

    def _exhausted(self) -> bool:
        return self._asked >= self.population * self.generations or (self._grown() and not self._open)

    def _grown(self) -> bool:
        """Whether all that succeeded have been trained up to the largest budget; never before the end if sync."""
        succeeded = [adult for adult in self._adults.values() if math.isfinite(adult.loss)]
        return bool(succeeded) and all(adult.trial.budget == self.max_budget for adult in succeeded)

    def _ask(self) -> Trial | None:
        if not self._idle or self._grown():
            return None
        generation, index = divmod(self._asked, self.population)
        member = self._idle.popleft()
        rng = self._rng(generation, index if self.update == "async" else member)
        genome, sources, params = self._allowed_child(member, generation, rng)
        budget = self._first + self.slice * (generation if self.update == "sync" else 0)
        if sources:
            budget = round((sources[0].trial.budget or 0.0) + self.slice, _DECIMALS)
        parents = [source.trial.id for source in sources]
        trial = self._trial(
            params,
            generation=generation,
            member=member,
            budget=min(budget, self.max_budget),
            parent=parents[0] if parents else None,
            donors=parents[1:],
        )
        self._unborn[trial.id] = genome, sources[0].losses if sources else ()
        return trial

    def _tell(self, trial: Trial, loss: float) -> None:
        self._told += 1
        genome, before = self._unborn.pop(trial.id)
        losses = (*before, loss)[-self.window :]
        told = Individual(trial, sum(losses) / len(losses), genome, losses)
        if self.update == "async":
            self._adults[trial.member] = told
            self._idle.append(trial.member)
            return
        self._newborn[trial.member] = told
        if len(self._newborn) == self.population:
            self._adults = {member: self._newborn[member] for member in range(self.population)}
            self._newborn, self._pairs = {}, None
            self._idle.extend(range(self.population))

    def _check_room(self, number: int) -> None:
        room = max(0, self.population - self._asked - len(self._given))
        if number > room:
            raise InvalidOptimizer(
                f"PBT trains {self.population} networks from their start, of which {room} are not begun yet, so there "
                f"is no room for {number} configurations: give fewer, or a larger population"
            )

    # --- children

    def _allowed_child(self, member: int, generation: int, rng: Rng) -> tuple[Genome, list[Individual], Params]:
        """A child that no constraint refuses, and what is trained of it; at last with random hyper-parameters."""
        for _ in range(_TRIES):
            genome, sources = self._child(member, generation, rng)
            params: Params = self._expressed(genome, rng)
            if self._space.allows(params):
                return genome, sources, params
        params = self._space.sample(rng)
        return (self._space.completed(params),) * self.ploidy, sources, params

    def _child(self, member: int, generation: int, rng: Rng) -> tuple[Genome, list[Individual]]:
        """What a network is to be next: its genome, and whose weights it goes on from, if anybody's."""
        adults = [adult for adult in self._adults.values() if adult.trial.budget != self.max_budget]
        if (given := self._next_given()) is not None:
            return (self._space.completed(given),) * self.ploidy, []
        if generation == 0 or not any(math.isfinite(adult.loss) for adult in adults):
            return self._founder(rng, member, mutated=generation > 0), []
        if self.scheme == "truncation":
            genome, source = self._truncated(self._adults.get(member), adults, rng)
            return genome, [source]
        if self._pairs is None or self.update == "async":
            site = self._rng(generation, SELECTION) if self.update == "sync" else rng
            self._pairs = self._mating(adults, site)
        genome, source = self._recombined(self._pairs, rng)
        others = [self._pairs.one(rng) for _ in range(self.weight_parents - 1)]
        equals = {other.trial.id: other for other in others if other.trial.budget == source.trial.budget}
        equals.pop(source.trial.id, None)
        return genome, [source, *equals.values()]

    def _recombined(self, pairs: Mating, rng: Rng) -> tuple[Genome, Individual]:
        if self.scheme in ("asexual", "decoupled"):
            one = pairs.one(rng)
            genome = tuple(self._mutated(chromosome, rng, self.mutation) for chromosome in one.genome)
            return genome, one if self.scheme == "asexual" else pairs.one(rng)
        one, other = pairs.pair(rng)
        genome, _ = self._offspring(rng, one.genome, other.genome)
        return genome, one if self.scheme == "two_parents" else pairs.one(rng)

    def _truncated(self, own: Individual | None, adults: Sequence[Individual], rng: Rng) -> tuple[Genome, Individual]:
        ranking = sorted(adults, key=lambda adult: (adult.loss, adult.trial.id))
        share = max(1, math.floor(self.truncation * len(ranking)))
        if own in ranking[: max(share, len(ranking) - share)] and math.isfinite(own.loss):
            return own.genome, own
        best = [adult for adult in ranking[:share] if math.isfinite(adult.loss)]
        source = best[int(rng.integers(len(best)))]
        return tuple(self._explored(chromosome, rng) for chromosome in source.genome), source

    def _explored(self, params: Params, rng: Rng) -> Params:
        """Each number times 1.2 or 0.8; each option a random one."""
        explored = dict(params)
        for name in self._space.names:
            domain = self._space.domains[name]
            factor, option = (1.2 if rng.random() < 0.5 else 0.8), rng.random()
            if isinstance(domain, Integer | Real):
                explored[name] = domain.nearest(float(params[name]) * factor)
            elif isinstance(domain, Choice):
                explored[name] = domain.decode(option)
        return explored
