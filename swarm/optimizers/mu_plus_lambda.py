"""The evolution of architectures: a (μ+λ) algorithm whose genomes are lists that grow and shrink.

Source: DLOPT: Deep Learning Optimization Library (Camero, Toutouh, Alba, 2018); the self-adjusting rates are those of
Evolutionary deep learning for car park occupancy prediction in smart cities (LION 12, 2018). The library's later
version of them has a sign error: where a target is maximised it raises the rates when the population has become worse.
Here, as in the paper, they rise when it has become better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np

from swarm.errors import InvalidOptimizer
from swarm.optimizers.recombination import other_option
from swarm.optimizers.targets import Losses, compared, standings
from swarm.optimizers.unrepeated import Unrepeated
from swarm.space.base import Domain
from swarm.space.domain import Choice, Integer, Real
from swarm.space.space import Space
from swarm.trial import Params, Trial, Value, mean

Mutation = Literal["normal", "step"]
Rng = np.random.Generator
Adult = tuple[Losses, Trial]

RISE, FALL = 1.5, 4.0  # factor and divisor of the rates when the population has improved, and when it has not
LOWEST_RATE = 1e-9
LARGEST_STEP = 2.0**53  # no integer is further away
ATTEMPTS = 10  # to make a child that differs from its parent


@dataclass(kw_only=True)
class MuPlusLambda(Unrepeated):
    """Keeps the μ best of parents and children; children are mutants of the winners of binary tournaments.

    A genome is a configuration. A *list* in it is an integer parameter that counts the parameters after it, the k-th of
    which is there only if there are k or more of them::

        Space({"layers": Integer(1, 2), "units_1": Integer(1, 9), "units_2": Integer(1, 9)},
              when={"units_1": {"layers": [1, 2]}, "units_2": {"layers": [2]}})

    Every gene mutates with ``gene_rate``: an integer by N(0, ``step``), or by at least 1 and at most ``step`` either
    way, in its own steps if it has some; a real number the same, and an integer on a log scale, in shares of a tenth of
    its range; a choice to another option. With ``length_rate`` a
    random item of the list is deleted or duplicated, in its place; the list stays within its bounds. A child that is
    just like its parent would be a wasted evaluation, and mutates again, a few times.

    A run begins with ``migrants`` random solutions. Each of its ``restarts`` + 1 populations consists of the best
    ``migrants`` of the one before and is filled up at random. It has an end once ``evaluations`` have been spent on
    it, migrants counted, though they are not trained again; its last generation is complete. Within it everything
    waits for the whole generation, so that any number of workers gives the same run.

    Trials may have several losses, one for each target. Then :func:`~swarm.optimizers.targets.compared` says who wins a
    tournament and whether the means have become lower, :func:`~swarm.optimizers.targets.standings` who lives on, and
    :attr:`best` has the first standing in the population; its loss is that of the first target.

    Source: Camero, Toutouh and Alba, DLOPT: Deep Learning Optimization Library, 2018.

    Attributes:
        population: μ, number of parents.
        children: λ, number of children of a generation.
        evaluations: Evaluations of one population.
        restarts: Number of populations after the first.
        migrants: Number of the best that begin the next population.
        gene_rate: Probability that a gene mutates.
        length_rate: Probability that the list grows or shrinks.
        mutation: ``normal``, or ``step``.
        step: Standard deviation of an integer's mutation, or its largest step.
        adapt: Whether the rates (and, with ``step``, the largest step) adjust themselves, from a population's second
            generation on: if its mean loss is lower they grow by a half, else they fall to a quarter. A new population
            begins with the options again.
        known: What becomes of a child that this run has trained before: ``again`` draws another, at random in the end;
            ``answer`` has the archive answer, as ``literal`` does.
        literal: Do as the library does where that looks like an accident. Numbers are cut off instead of rounded. A
            deletion or duplication may hit the only other gene (the look-back), which moves the list along. A child may
            be its parent again. A mean loss that stays as it is counts as lower: since the best are kept, the rates
            then never fall.

    Raises:
        InvalidOptimizer: An option is out of its range; at ``start``: ``literal`` on a space that is not one integer
            and a list.

    Example:
        A search among networks of one or two layers::

            >>> from swarm import Integer, MuPlusLambda, Space
            >>> space = Space(
            ...     {"layers": Integer(1, 2), "units_1": Integer(1, 9), "units_2": Integer(1, 9)},
            ...     when={"units_1": {"layers": [1, 2]}, "units_2": {"layers": [2]}},
            ... )
            >>> optimizer = MuPlusLambda(population=4, children=4, evaluations=40).start(space, seed=7)
            >>> while not optimizer.done:
            ...     trial = optimizer.ask()
            ...     optimizer.tell(trial, -sum(units for name, units in trial.params.items() if name != "layers"))
            >>> optimizer.best[0].params["layers"]
            2
    """

    population: int = 3
    children: int = 5
    evaluations: int = 10
    restarts: int = 2
    migrants: int = 2
    gene_rate: float = 0.1
    length_rate: float = 0.1
    mutation: Mutation = "normal"
    step: float = 3
    adapt: bool = False
    literal: bool = False

    limits: ClassVar[tuple[str, ...]] = ("evaluations", "restarts")

    def __post_init__(self) -> None:
        super().__post_init__()
        for option, low in (("population", 1), ("children", 1), ("evaluations", 1), ("restarts", 0), ("migrants", 0)):
            self._check_integer(option, low=low)
        if self.migrants > self.population:
            raise InvalidOptimizer(f"{self._named('migrants')} {self.migrants} are more than the population: lower it")
        self._check_real("gene_rate", 0, 1)
        self._check_real("length_rate", 0, 1)
        self._check_one_of("mutation", *get_args(Mutation))
        self._check_real("step", 1 if self.mutation == "step" else 0, above=self.mutation == "normal")

    def raises(self, option: str, before: Any) -> bool:
        """Whether there are more populations; or more evaluations of the only one."""
        return (option != "evaluations" or self.restarts == 0) and super().raises(option, before)

    @property
    def _draws_again(self) -> bool:
        return super()._draws_again and not self.literal

    @property
    def sizes(self) -> dict[str, int]:
        """Parents and children."""
        return {"population": self.population, "children": self.children}

    @property
    def planned(self) -> int | None:
        """Number of trials in all."""
        if not self._started:
            return None
        later = self.population - self.migrants + self._generations * self.children
        return later * (self.restarts + 1) + self.migrants

    @property
    def generational(self) -> bool:
        """True: a generation is asked after the one before is told."""
        return True

    @property
    def compares(self) -> bool:
        """True: a trial may have several losses."""
        return True

    @property
    def best(self) -> tuple[Trial, float] | None:
        """The best trial and its (first) loss; of several targets only as of the last complete generation."""
        if not self._started or self._leader is None:
            return super().best
        losses, trial = self._leader
        return trial, losses[0]

    @property
    def rates(self) -> tuple[float, float, float]:
        """Gene rate, length rate and step, as they are at this moment."""
        self._check_started()
        return self._rates

    def _begin(self) -> None:
        self._list = list_of(self._space)
        others = [self._space.domains[name] for name in self._space.names if name not in self._list.names]
        if self.literal and not (self._list.names and len(others) == 1 and isinstance(others[0], Integer)):
            raise InvalidOptimizer(f"{self._named('literal')} needs a space of one integer and a list: leave it out")
        self._generations = self._of_a_population()
        self._generation = self._bred = self._restarted = 0  # in all; of this population; populations before it
        self._adults: list[Adult] = []
        self._leader: Adult | None = None  # of all populations, if there are several targets
        self._begin_population()

    def _limited(self, before: Self) -> None:
        self._generations = self._of_a_population()
        if self._restarted <= before.restarts:
            return
        if self.restarts > before.restarts:
            self._begin_population()
        elif self.restarts == 0 and self._bred < self._generations:
            self._restarted, self._bred = 0, self._bred + 1
            self._begin_generation(self.children)

    def _of_a_population(self) -> int:
        """Number of generations of one population after its first."""
        return max(0, math.ceil((self.evaluations - self.population) / self.children))

    def _begin_population(self) -> None:
        self._adults = self._adults[: self.migrants]
        self._rates = self.gene_rate, self.length_rate, float(self.step)
        self._bred = 0
        self._means: Losses = (math.inf,)
        self._begin_generation(self.population - len(self._adults))

    def _begin_generation(self, size: int) -> None:
        self._size, self._next = size, 0
        self._newborn: dict[int, Adult] = {}
        if not size:  # a population of nothing but migrants
            self._end_generation()

    def _exhausted(self) -> bool:
        return self._restarted > self.restarts

    def _ask(self) -> Trial | None:
        if self._next == self._size:
            return None
        member, self._next = self._next, self._next + 1
        rng = self._rng(self._generation, member)
        breeds = self._bred and math.isfinite(self._adults[0][0][0])  # of failures alone comes nothing good
        params = self._next_given()
        if params is None:
            params = self._unknown(lambda: self._child(rng) if breeds else self._space.sample(rng), rng)
        return self._trial(params, generation=self._generation, member=member)

    def _whole(self, losses: Sequence[float]) -> float:
        """The first: before a generation is complete it decides alone."""
        return losses[0]

    def _tell_targets(self, trial: Trial, losses: Losses) -> None:
        self._newborn[trial.member] = losses, trial
        if len(self._newborn) == self._size:
            self._end_generation()

    def _end_generation(self) -> None:
        born = [self._newborn[member] for member in sorted(self._newborn)]
        self._adults = _from_the_best([*self._adults, *born])[: self.population]
        self._generation += self._size > 0
        if len(self._adults[0][0]) > 1:
            earlier = [self._leader] if self._leader and self._leader not in self._adults else []
            self._leader = _from_the_best([*earlier, *self._adults])[0]
        self._adapt()
        if self._bred < self._generations:
            self._bred += 1
            self._begin_generation(self.children)
            return
        self._restarted += 1
        if not self._generations and self.migrants == self.population:
            self._restarted = self.restarts + 1  # every further population is this one, and trains nothing
        if not self._exhausted():
            self._begin_population()

    def _adapt(self) -> None:
        """Note the means of the population, and adjust the rates by how they have changed."""
        columns = zip(*(losses for losses, _ in self._adults), strict=False)  # +inf alone, if one has failed
        means: Losses = tuple(map(_mean_loss, columns))
        if self.adapt and self._bred:
            gain = compared(means, self._means)
            improved = gain > 0 or (self.literal and gain == 0)
            self._rates = adjusted(*self._rates, improved=improved, steps=self.mutation == "step")
        self._means = means

    # --- variation

    def _child(self, rng: Rng) -> Params:
        """A mutant of a winner, as a rule not just like it."""
        parent = self._winner(rng)
        for _ in range(1 if self.literal else ATTEMPTS):
            child = self._mutant(parent, rng)
            if child != parent:
                break
        return child

    def _winner(self, rng: Rng) -> Params:
        """The better of two adults, drawn with replacement; the second, if neither is."""
        (one, first), (other, second) = (self._adults[int(i)] for i in rng.integers(len(self._adults), size=2))
        return first.params if compared(one, other) > 0 else second.params

    def _mutant(self, params: Params, rng: Rng) -> dict[str, Value]:
        rate, length_rate, step = self._rates
        domains, items = self._space.domains, self._list.items(params)
        genes = {
            name: self._moved(domain, params[name], rate, step, rng)
            for name, domain in domains.items()
            if isinstance(domain, Domain) and name not in self._list.names and name in params
        }
        if self._list.names:
            item = domains[self._list.names[1]]
            items = [self._moved(item, value, rate, step, rng) for value in items]
            if rng.random() < length_rate:
                self._resize(genes, items, rng)
        return self._valid({**params, **genes}, items)

    def _moved(self, domain: Domain | Value, value: Any, rate: float, step: float, rng: Rng) -> Any:
        """A gene after mutation, perhaps out of its bounds."""
        if rng.random() >= rate:
            return value
        if isinstance(domain, Choice):
            return other_option(domain, value, int(rng.integers(domain.size - 1)))
        if self.mutation == "normal":
            change = rng.normal(0, step)  # ~ N(0, step²)
        else:
            change = max(1, int(rng.integers(int(step) + 1))) * (1 if rng.random() < 0.5 else -1)
        if isinstance(domain, Real) or (isinstance(domain, Integer) and domain.log):
            return domain.decode(domain.encode(value) + change / 10)
        return value + change * (getattr(domain, "step", None) or 1)

    def _resize(self, genes: dict[str, Any], items: list[Any], rng: Rng) -> None:
        """Delete or duplicate a random item of the list, in place."""
        before = list(genes) if self.literal else []
        chain = [genes[name] for name in before] + items
        place = int(rng.integers(len(chain)))
        if rng.random() < 0.5:
            del chain[place]
        else:
            chain.insert(place, chain[place])
        genes.update(zip(before, chain, strict=False))
        items[:] = chain[len(before) :]

    def _valid(self, params: Params, items: Sequence[Any]) -> dict[str, Value]:
        """The configuration that the genes stand for, each within its bounds."""
        found: dict[str, Any] = {**params, **self._list.params(items)}
        for name, domain in self._space.domains.items():
            if isinstance(domain, Integer) and name in found:
                inside = min(max(found[name], domain.low), domain.high)
                found[name] = int(inside) if self.literal and domain.step is None else domain.nearest(inside)
        whole = self._space.completed(found)
        return self._space.active({name: whole[name] for name in self._space.domains})


def _mean_loss(losses: Sequence[float]) -> float:
    """The mean of losses, +inf if one has failed."""
    total = sum(losses)
    if math.isfinite(total) or math.inf in losses:
        return total / len(losses) if math.isfinite(total) else math.inf
    return mean(losses)  # finite numbers, whose sum is not


def _from_the_best(adults: Sequence[Adult]) -> list[Adult]:
    """Adults sorted by how they stand among each other; those that are alike stay in their order."""
    ranked = zip(standings([losses for losses, _ in adults]), adults, strict=True)
    return [adult for _, adult in sorted(ranked, key=lambda each: -each[0])]


@dataclass(frozen=True)
class ListGenes:
    """Parameters that together are a list of variable length.

    Attributes:
        names: Of its length, and of all the items that it may have; empty if there is no list.
        low: Its smallest length.
        filler: What it is padded with.
    """

    names: tuple[str, ...] = ()
    low: int = 0
    filler: Any = None

    def items(self, params: Params) -> list[Any]:
        """The items that a configuration has."""
        return [params[name] for name in self.names[1:] if name in params]

    def params(self, items: Sequence[Any]) -> dict[str, Any]:
        """Parameters of a list of these items, padded or cut to the lengths that are allowed."""
        if not self.names:
            return {}
        kept = [*items, *[self.filler] * (self.low - len(items))][: len(self.names) - 1]
        return {self.names[0]: len(kept), **dict(zip(self.names[1:], kept, strict=False))}


def list_of(space: Space) -> ListGenes:
    """The list in a space, as :class:`MuPlusLambda` describes it; the first, if there are several."""
    for length, counter in space.domains.items():
        if not isinstance(counter, Integer) or counter.low < 0:
            continue
        items = [name for name, others in space.conditions.items() if list(others) == [length]]
        if len(items) != counter.high:  # most integers count nothing, however large they may become
            continue
        wanted = (tuple(range(max(k, counter.low), counter.high + 1)) for k in range(1, counter.high + 1))
        domains = [space.domains[name] for name in items]
        if (
            all(space.conditions[name][length] == there for name, there in zip(items, wanted, strict=True))
            and isinstance(domains[0], Integer)
            and all(domain == domains[0] for domain in domains)
        ):
            return ListGenes((length, *items), counter.low, domains[0].low)
    return ListGenes()


def adjusted(
    gene_rate: float, length_rate: float, step: float, *, improved: bool, steps: bool
) -> tuple[float, float, float]:
    """The rates, and if ``steps`` the largest step, after a generation."""
    if improved:
        step = min(step * RISE, LARGEST_STEP) if steps else step
        return min(gene_rate * RISE, 1.0), min(length_rate * RISE, 1.0), step
    low = max(gene_rate / FALL, LOWEST_RATE), max(length_rate / FALL, LOWEST_RATE)
    return *low, max(step / FALL, 1.0) if steps else step
