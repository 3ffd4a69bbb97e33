"""What the genetic algorithm and population-based training share: who mates, and what a child inherits.

Source: Recombination of Artificial Neural Networks (Vose, Balma, Heye, Rigazzi, Siegel, Moise, Robbins,
Sukumar): fitness relative to the generation, probabilistic viability and sexual selection, crossover per locus,
multiplicative mutation. The variants are those of its section on future work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from swarm.errors import InvalidOptimizer, InvalidSpace
from swarm.optimizers.base import Optimizer
from swarm.optimizers.population import Genome, Individual
from swarm.space.base import Domain
from swarm.space.domain import Choice, Integer, Real
from swarm.space.space import Space
from swarm.trial import Params, Value

Array = NDArray[np.float64]
Rng = np.random.Generator
Initial = Literal["default", "uniform"]
Scale = Literal["linear", "rank", "log"]
Recombination = Literal["locus", "runlength"]

SELECTION = 2**31  # index of the draw site of a generation's selection; below it are its children


@dataclass(kw_only=True)
class Genetic(Optimizer):
    """How a population begins, who mates, and what a child inherits: the options of :class:`GA` describe it."""

    population: int = 100
    crossover: float = 0.33
    mutation: float = 0.05
    initial: Initial | list[dict[str, Any]] | None = None
    scale: Scale = "linear"
    viability: bool = True
    sexual: bool = True
    recombination: Recombination = "locus"
    ploidy: int = 1
    integer_step: bool = True
    zero_kick: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_integer("population", low=2)
        self._check_real("crossover", 0, 1)
        self._check_real("mutation", 0, 1)
        self._check_one_of("scale", *get_args(Scale))
        self._check_one_of("recombination", *get_args(Recombination))
        self._check_integer("ploidy", low=1)
        if self.ploidy > 2:
            raise InvalidOptimizer(f"{self._named('ploidy')} must be 1 or 2, not {self.ploidy!r}")
        if isinstance(self.initial, str):
            self._check_one_of("initial", *get_args(Initial))
        elif self.initial is not None and not (isinstance(self.initial, list) and self.initial):
            raise InvalidOptimizer(
                f"{self._named('initial')} must be default, uniform or a list of configurations, not {self.initial!r}"
            )

    @property
    def sizes(self) -> dict[str, int]:
        """The population, and the configurations that it begins with."""
        return {"population": self.population, "initial": len(self.initial) if isinstance(self.initial, list) else 0}

    # --- beginning

    def _begin(self) -> None:
        self._ancestors = self._known_beginning()

    def _known_beginning(self) -> list[Params]:
        """The configurations that generation 0 consists of and descends from; none if it is drawn at random."""
        if isinstance(self.initial, list):
            fixed = {name: value for name, value in self._space.domains.items() if not isinstance(value, Domain)}
            known: list[Params] = [{**fixed, **params} for params in self.initial]
            try:
                for params in known:
                    self._space.check(params)
            except InvalidSpace as error:
                raise InvalidOptimizer(f"{self._named('initial')}: {error}") from None
            return [self._space.completed(self._space.normalised(params)) for params in known]
        default = self._space.defaults()
        if default is None and self.initial == "default":
            raise InvalidOptimizer(
                f"{self._named('initial')} is default, but not every parameter has one; give those that are missing"
            )
        return [] if default is None or self.initial == "uniform" else [self._space.completed(default)]

    def _founder(self, rng: Rng, index: int, *, mutated: bool = False) -> Genome:
        """A member of generation 0: one of the known configurations, a mutant of one, or drawn at random."""
        if not self._ancestors:
            return tuple(self._space.completed(self._space.sample(rng)) for _ in range(self.ploidy))
        ancestor = self._ancestors[index % len(self._ancestors)]
        if index < len(self._ancestors) and not mutated:
            return (ancestor,) * self.ploidy
        rate = max(self.mutation, 1 / self._space.dimensions)
        return tuple(self._mutated(ancestor, rng, rate) for _ in range(self.ploidy))

    # --- inheriting

    def _offspring(self, rng: Rng, one: Genome, other: Genome) -> tuple[Genome, Genome]:
        """The two genomes that two parents make, in random order."""
        first: Genome
        second: Genome
        if self.ploidy == 1:
            a, b = self._crossed(one[0], other[0], rng=rng)
            first, second = (a,), (b,)
        else:
            first, second = zip(self._crossed(*one, rng=rng), self._crossed(*other, rng=rng), strict=True)
        pair = (first, second) if rng.random() < 0.5 else (second, first)
        mutants = [tuple(self._mutated(chromosome, rng, self.mutation) for chromosome in genome) for genome in pair]
        return mutants[0], mutants[1]

    def _crossed(self, *homologues: Params, rng: Rng) -> tuple[Params, Params]:
        one, other = homologues
        return crossed(one, other, self._space.names, self.crossover, rng, run_length=self.recombination == "runlength")

    def _mutated(self, params: Params, rng: Rng, rate: float) -> Params:
        options = {"integer_step": self.integer_step, "zero_kick": self.zero_kick}
        return mutated(self._space, params, rate, rng, **options)

    def _expressed(self, genome: Genome, rng: Rng) -> Params:
        """The configuration that is trained: of two alleles the mean, or one of the two options at random.

        Genes whose conditions fail are inherited, but not expressed.
        """
        if self.ploidy == 1:
            return self._space.active(genome[0])
        params = dict(genome[0])
        for name in self._space.names:
            domain, alleles = self._space.domains[name], [chromosome[name] for chromosome in genome]
            coin = int(rng.integers(2))
            if isinstance(domain, Integer | Real):
                params[name] = domain.nearest(sum(map(float, alleles)) / 2)
            else:
                params[name] = alleles[coin]
        return self._space.active(params)

    # --- selecting

    def _mating(self, adults: Sequence[Individual], rng: Rng) -> Mating:
        fitness = relative_fitness([adult.loss for adult in adults], self.scale)
        return Mating(adults, fitness, rng, viability=self.viability, sexual=self.sexual)


class Mating:
    """Who mates with whom in one generation.

    Args:
        adults: The generation; one at least has succeeded.
        fitness: Their relative fitness, shape (n,), in [0, 1].
        rng: Draws who is viable.
        viability: Whether the less fit die before they can mate.
        sexual: Whether fitter mates are preferred.
    """

    def __init__(
        self, adults: Sequence[Individual], fitness: Array, rng: Rng, *, viability: bool = True, sexual: bool = True
    ) -> None:
        self._adults = adults
        alive = [i for i, adult in enumerate(adults) if math.isfinite(adult.loss)]
        self._viable = survivors(fitness, rng) if viability else np.array(alive)
        weights = fitness[self._viable] if sexual else np.ones(len(self._viable))
        self._chances: Array = weights / weights.sum()

    def mate(self, rng: Rng, *, but: int | None = None) -> int:
        """Index of an adult: drawn from the viable at random until one is accepted.

        Args:
            rng: Draws it.
            but: An adult that it must not be, if there is another.
        """
        viable, chances = self._viable, self._chances
        if but is not None:
            others = viable != but
            if chances[others].sum() > 0:
                viable, chances = viable[others], chances[others] / chances[others].sum()
        return int(rng.choice(viable, p=chances))  # one draw from what rejection by fitness leads to

    def pair(self, rng: Rng) -> tuple[Individual, Individual]:
        """Two parents, different ones if there are two."""
        one = self.mate(rng)
        return self._adults[one], self._adults[self.mate(rng, but=one)]

    def one(self, rng: Rng) -> Individual:
        """One parent."""
        return self._adults[self.mate(rng)]


def relative_fitness(losses: Sequence[float], scale: Scale = "linear") -> Array:
    """Fitness relative to the generation: 1 for the lowest loss, 0 for the highest and for those not finite.

    Args:
        losses: Losses of a generation, n numbers; inf or NaN is a failure.
        scale: ``linear`` is (max − loss)/(max − min); ``log`` the same of log(1 + (loss − min)/(median − min));
            ``rank`` the same of the ranks, of which equal losses share the mean.

    Returns:
        An array (n,) in [0, 1]; if all finite losses are equal, they have 1.
    """
    values = np.asarray(losses, dtype=float)
    fitness = np.zeros(len(values))
    finite = np.isfinite(values)
    if not finite.any():
        return fitness
    alive = values[finite] / 2  # halves, exactly, so that no difference is beyond the floats
    if scale == "rank":
        alive = np.array([(alive < value).sum() + ((alive == value).sum() - 1) / 2 for value in alive])
    elif scale == "log":
        unit = np.median(alive) - alive.min()
        with np.errstate(over="ignore"):  # one is larger than the median by more than the floats can tell
            larger = (alive - alive.min()) / (unit if unit > 0 else 0.5)
        alive = np.log1p(np.minimum(larger, np.finfo(float).max))
    span = alive.max() - alive.min()
    fitness[finite] = (alive.max() - alive) / span if span > 0 else 1.0
    return fitness


def survivors(fitness: Array, rng: Rng) -> NDArray[np.int64]:
    """Indices of those that live: each with the probability of its fitness, so the best always."""
    return np.flatnonzero(rng.random(len(fitness)) < fitness)


def crossed(
    one: Params, other: Params, loci: Sequence[str], rate: float, rng: Rng, *, run_length: bool = False
) -> tuple[dict[str, Value], dict[str, Value]]:
    """Two chromosomes after crossover, each the complement of the other.

    Args:
        one: First chromosome.
        other: Its homologue, with the same names.
        loci: Names in the order of the chromosome.
        rate: Probability of an event at a locus.
        rng: Draws the events.
        run_length: Whether an event exchanges this locus and all that follow, until the next event; otherwise it
            exchanges this locus alone.
    """
    first, second = dict(one), dict(other)
    swapped = rng.random(len(loci)) < rate
    if run_length:
        swapped = np.cumsum(swapped) % 2 == 1
    for locus, swap in zip(loci, swapped, strict=True):
        if swap:
            first[locus], second[locus] = second[locus], first[locus]
    return first, second


def mutated(
    space: Space, params: Params, rate: float, rng: Rng, *, integer_step: bool = True, zero_kick: bool = True
) -> dict[str, Value]:
    """A configuration after mutation.

    Args:
        space: What the configuration belongs to.
        params: The configuration.
        rate: Probability of a mutation at each locus.
        rng: Draws which loci mutate, and how.
        integer_step: As for :class:`GA`.
        zero_kick: As for :class:`GA`.
    """
    mutant = dict(params)
    d = space.dimensions
    events, kinds, sizes = rng.random(d), rng.integers(4, size=d), rng.random(d)
    for name, event, kind, u in zip(space.names, events, kinds, sizes, strict=True):
        if event < rate:
            domain = space.domains[name]
            assert isinstance(domain, Domain)  # what is searched is
            mutant[name] = mutation(
                domain, params[name], int(kind), float(u), integer_step=integer_step, zero_kick=zero_kick
            )
    return mutant


def mutation(
    domain: Domain, value: Any, kind: int, u: float, *, integer_step: bool = True, zero_kick: bool = True
) -> Value:
    """One mutation of one value.

    Args:
        domain: What the value belongs to, and stays within.
        value: The value.
        kind: 0 is −u %, 1 is +u %, 2 is +(10 + 10·u) %, 3 is −(10 + 10·u) % of the value.
        u: How much, in [0, 1); of an option, which other one.
        integer_step: Whether a large change that rounds to none moves a number by its step, an integer by 1.
        zero_kick: Whether 0 changes by the same shares of the range of the domain.
    """
    if isinstance(domain, Choice):
        return other_option(domain, value, int(u * (domain.size - 1)))
    assert isinstance(domain, Integer | Real)
    low, high, step = domain.low, domain.high, domain.step
    change = (-0.01 * u, 0.01 * u, 0.1 + 0.1 * u, -0.1 - 0.1 * u)[kind]
    if value == 0:
        changed = change * (high - low) if zero_kick else 0.0
        if not low <= changed <= high:
            changed = -changed  # at a bound there is only one way to go
    else:
        changed = value * (1 + change)
    in_steps = isinstance(domain, Integer) or step is not None
    if in_steps and integer_step and kind >= 2 and domain.nearest(changed) == value:
        changed = value + math.copysign(step or 1, change)
    return domain.nearest(changed)


def other_option(domain: Choice, value: Any, number: int) -> Value:
    """Option ``number`` of a choice, from 0, among those that are not the value."""
    place = domain.place(value)
    return domain.at(number + (place is not None and number >= place))
