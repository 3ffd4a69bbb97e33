"""The genetic algorithm of artificial neural networks.

Source: Recombination of Artificial Neural Networks (Vose, Balma, Heye, Rigazzi, Siegel, Moise, Robbins,
Sukumar); its operators are in :mod:`swarm.optimizers.recombination`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from swarm.errors import InvalidOptimizer
from swarm.optimizers.front import ordered
from swarm.optimizers.population import Genome, Individual, replace_worst
from swarm.optimizers.recombination import SELECTION, Genetic, Mating, Rng, relative_fitness, survivors
from swarm.optimizers.unrepeated import DRAWS, KICKS, Unrepeated
from swarm.trial import Params, Trial

_MANY = 500  # individuals to be ranked, in some ten milliseconds

Children = Literal["one", "both", "overproduce"]


@dataclass(kw_only=True)
class GA(Genetic, Unrepeated):
    """A population that is replaced, generation by generation, by the children of its fittest members.

    The fitness of an individual is w = (max − loss)/(max − min) of its generation: the best has 1, the worst and the
    failed 0. An individual is viable with probability w (the best always is), and is accepted as a mate with
    probability w. A child takes the hyper-parameters of its first parent, where each locus is exchanged for the second
    parent's with the crossover rate, and mutates each with the mutation rate: one of −(0…1) %, +(0…1) %, +(10…20) %
    and −(10…20) % of the value; an option becomes another one. The best ever is kept aside, not in the population.

    Trials may have several losses, one for each target. Then parents and children together are sorted as NSGA-II does,
    by fronts and in each by crowding, the first of them are the next parents, and their place is their loss.

    A generation is asked after the one before is told, and random numbers belong to a generation and a child, so that
    any number of workers gives the same run.

    ``Trial.member`` is the child's number within its generation. If a whole generation fails it is drawn again.

    Source: Vose et al., Recombination of Artificial Neural Networks.

    Attributes:
        population: Number of individuals.
        generations: Number of generations after the initial one.
        crossover: Probability that a locus is exchanged between the two parents' chromosomes.
        mutation: Probability that a locus mutates.
        initial: ``default`` begins with the defaults of the space and mutants of them; ``uniform`` draws at random;
            a list of configurations begins with those and mutants of them; None is default where there are defaults.
        scale: ``linear`` in the loss as above, ``rank`` in its rank, or ``log``, which a single huge loss does not
            flatten.
        viability: Whether individuals die before they can mate.
        sexual: Whether fitter mates are more likely; otherwise all the viable are equally so.
        recombination: ``locus`` exchanges single loci; with ``runlength`` an event exchanges all that follow, until
            the next one.
        children: Of the two children of a pair, ``one`` is kept at random, or ``both``; ``overproduce`` also trains
            both, of as many pairs as there are individuals, and of these twice as many viability leaves as many.
        elite: Number of the best of the last generation and its elite that live on, without being trained again.
        ploidy: 2 gives every individual two homologous chromosomes, of which the mean is trained and a crossover of
            both is inherited.
        integer_step: Whether a large mutation that rounds to no change moves an integer by 1. The paper's form cannot
            change 0, 1 and 2.
        zero_kick: Whether a value of 0 mutates by those shares of its range. The paper's form cannot change it.
        known: What becomes of a child that this run has trained before: ``again`` conceives another, and after 8 times
            mutates it until it is new; ``answer`` has the archive answer.

    Raises:
        InvalidOptimizer: An option is out of its range; at ``start``: the defaults or the initial configurations do
            not fit the space.

    Example:
        With ``initial="default"`` the first individual is the known network, and the others are its mutants::

            >>> from swarm import GA, Integer, Real, Space
            >>> space = Space({"filters": Integer(1, 48, default=20), "rate": Real(1e-4, 0.1, log=True, default=0.001)})
            >>> optimizer = GA(population=8, generations=5, mutation=0.2).start(space, seed=7)
            >>> optimizer.ask().params
            {'filters': 20, 'rate': 0.001}
            >>> optimizer.planned
            48
    """

    generations: int = 250
    children: Children = "one"
    elite: int = 0

    limits: ClassVar[tuple[str, ...]] = ("generations",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_integer("generations", low=0)
        self._check_one_of("children", *get_args(Children))
        self._check_integer("elite", low=0)
        if self.elite >= self.population:
            raise InvalidOptimizer(
                f"{self._named('elite')} {self.elite} leaves no room for children: lower it below {self.population}"
            )

    @classmethod
    def paper(cls, **options: Any) -> GA:
        """Exactly the paper's form: no remedy for values that its mutation cannot change, nor for a child known."""
        return cls(**{"integer_step": False, "zero_kick": False, "known": "answer", **options})

    @property
    def sizes(self) -> dict[str, int]:
        """The population, or the children where they are more."""
        return {**super().sizes, "population": self.population * (2 if self.children == "overproduce" else 1)}

    @property
    def planned(self) -> int | None:
        """Number of trials in all."""
        return self._size(0) + self.generations * self._size(1) if self._started else None

    @property
    def generational(self) -> bool:
        """True: a generation is asked after the one before is told."""
        return True

    @property
    def compares(self) -> bool:
        """True: a trial may have several losses."""
        return True

    @property
    def completed(self) -> int:
        """Number of generations that have been told in full."""
        return self._generation if self._started else 0

    def members(self) -> list[Individual]:
        """The last complete generation, and the elite."""
        self._check_started()
        return list(self._parents())

    def immigrate(self, newcomer: Individual) -> None:
        """Take in an individual in place of the worst, before the first child of a generation is asked for."""
        self._check_started()
        replace_worst(self._parents(), newcomer)

    def _begin(self) -> None:
        super()._begin()
        self._generation = self._told = 0
        self._adults: list[Individual] = []  # of the last generation, and the elite: they mate
        self._genomes: list[Genome] = []  # of this generation, as far as it is asked
        self._newborn: dict[int, Individual] = {}  # told of this generation, by member
        self._unranked: list[Individual] = []  # parents and children, of whom the best by several targets mate
        self._vectors: dict[int, tuple[float, ...]] = {}  # losses of several targets, by trial, of all these
        self._sibling: Genome | None = None
        self._pairs: Mating | None = None  # drawn with the first child of a generation

    def _exhausted(self) -> bool:
        return self._generation > self.generations

    def _size(self, generation: int) -> int:
        """Number of trials of a generation."""
        if generation == 0:
            return self.population
        return (self.population - self.elite) * (2 if self.children == "overproduce" else 1)

    def _ask(self) -> Trial | None:
        member = len(self._genomes)
        if member == self._size(self._generation):
            return None
        rng = self._rng(self._generation, member)
        genome, params = self._child(member, rng)
        self._genomes.append(genome)
        return self._trial(params, generation=self._generation, member=member)

    def _child(self, member: int, rng: Rng) -> tuple[Genome, Params]:
        """What is conceived, again while it is known or refused, then mutated on; and what is trained of it."""
        if (given := self._next_given()) is not None:
            return (self._space.completed(given),) * self.ploidy, given
        rate = max(self.mutation, 1 / self._space.dimensions)
        genome: Genome = ()
        for attempt in range(DRAWS + KICKS):
            if attempt < DRAWS:
                genome = self._conceived(member, rng)
            else:
                genome = tuple(self._mutated(chromosome, rng, rate) for chromosome in genome)
            params = self._expressed(genome, rng)
            if not self._is_refused(params):
                return genome, params
        params = self._any_left(rng)
        return (self._space.completed(params),) * self.ploidy, params

    def _conceived(self, member: int, rng: Rng) -> Genome:
        if not any(math.isfinite(adult.loss) for adult in self._parents()):
            return self._founder(rng, member, mutated=self._generation > 0)
        if self._sibling is not None:
            genome, self._sibling = self._sibling, None
            return genome
        if self._pairs is None:
            self._pairs = self._mating(self._parents(), self._rng(self._generation, SELECTION))
        one, other = self._pairs.pair(rng)
        genome, sibling = self._offspring(rng, one.genome, other.genome)
        if self.children != "one":
            self._sibling = sibling
        return genome

    def _tell_targets(self, trial: Trial, losses: tuple[float, ...]) -> None:
        if len(losses) > 1:
            self._vectors[trial.id] = losses
        self._tell(trial, losses[0])

    def _tell(self, trial: Trial, loss: float) -> None:
        self._newborn[trial.member] = Individual(trial, loss, self._genomes[trial.member])
        if len(self._newborn) == self._size(self._generation):
            self._end_generation()

    def _end_generation(self) -> None:
        elite = sorted(self._parents(), key=lambda adult: (adult.loss, adult.trial.id))[: self.elite]
        children = [self._newborn[member] for member in sorted(self._newborn)]
        self._generation += 1
        if self._vectors:
            self._unranked = [*self._parents(), *children]
            known = (each.trial.id for each in self._unranked)
            self._vectors = {trial: self._vectors[trial] for trial in known if trial in self._vectors}
        else:
            if len(children) > self.population:
                children = self._culled(children, self.population - len(elite))
            self._adults = [*children, *(adult for adult in elite if math.isfinite(adult.loss))]
        self._genomes, self._newborn, self._sibling, self._pairs = [], {}, None, None

    @property
    def ponders(self) -> bool:
        """Whether so many individuals are to be ranked by several targets that it takes longer than milliseconds."""
        return self._started and len(self._unranked) > _MANY

    def prepare(self) -> None:
        """Rank the individuals of whom the next ones are born."""
        self._check_started()
        self._parents()

    def _parents(self) -> list[Individual]:
        """Who mates: of several targets, ranked when somebody asks for it."""
        if self._unranked:
            self._adults = self._first_of(self._unranked)
            self._unranked = []
        return self._adults

    def _first_of(self, individuals: list[Individual]) -> list[Individual]:
        """The next parents where several targets count; those that failed come last, and are as bad as any."""
        alive = [each for each in individuals if each.trial.id in self._vectors]
        places = ordered([self._vectors[each.trial.id] for each in alive])
        found = [replace(alive[place], loss=float(rank)) for rank, place in enumerate(places)]
        found += [each for each in individuals if each.trial.id not in self._vectors]
        return found[: self.population]

    def _culled(self, children: list[Individual], room: int) -> list[Individual]:
        """Those that viability leaves, at most as many as there is room for."""
        rng = self._rng(self._generation, SELECTION + 1)
        fitness = relative_fitness([child.loss for child in children], self.scale)
        viable = survivors(fitness, rng)
        chosen = rng.permutation(viable)[:room] if len(viable) > room else viable
        best = int(np.argmin([child.loss for child in children]))
        return [children[i] for i in sorted({best, *chosen.tolist()})]
