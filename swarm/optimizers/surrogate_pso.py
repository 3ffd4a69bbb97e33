"""A particle swarm that is guided by a model of all that is known.

Source: our own method, of known parts: the swarm of Kennedy and Eberhart (1995), asynchronous as in
:mod:`.async_pso`; a Gaussian process that chooses among many moves, as in surrogate-assisted swarms (Sun et al., IEEE
Trans. Evol. Comput. 21, 2017). The parts name their sources: :mod:`swarm.optimizers.guided`.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from swarm.errors import InvalidSpace, JournalMismatch
from swarm.manners.one_thread import one_thread
from swarm.optimizers.base import Optimizer
from swarm.optimizers.front import scalarised
from swarm.optimizers.guided.acquisition import drawn
from swarm.optimizers.guided.candidates import Particle, moves, near
from swarm.optimizers.guided.chooser import Chooser
from swarm.optimizers.guided.knowledge import Knowledge
from swarm.optimizers.guided.process import Kernel
from swarm.optimizers.guided.start import sobol
from swarm.space.configurations import Configurations, count
from swarm.space.snapping import Snapping
from swarm.trial import Params, Trial

Array = NDArray[np.float64]

_ASKS, _VELOCITIES, _START = 0, 1, 2  # what random numbers are for
_SUCCEEDED = 3  # trials, before the model speaks
_VELOCITY = 0.25  # largest at first, per dimension
_CENTRES, _LEADERS = 3, 6  # positions and particles' own bests that candidates are near
_DECIMALS = 10  # to which positions are one
_TRIES = 4  # batches of random positions, before those that are left are looked for one by one


@dataclass(frozen=True)
class _Plan:
    """The next trial, before it is asked for."""

    params: Params
    member: int
    note: Mapping[str, Any] | None = None
    kernel: Kernel | None = None


@dataclass(kw_only=True)
class SurrogatePSO(Optimizer):
    """A swarm whose particles draw many moves each, of which a model of all results chooses the one to train.

    A particle moves as soon as a slot is free; no slot waits for another. It draws moves of the swarm, changes of what
    is good, and positions anywhere. A Gaussian process of all that was told, which knows what is under way, then takes
    the candidate with the largest expected improvement, or the best optimistic bound. What is known or under way is
    never asked for again; where nothing else is left the search is done.

    It begins with the defaults of the space, if every parameter has one, or else the middle, and goes on with points
    that fill the space evenly, until as many were asked as there are particles, and three have succeeded.

    Why not the swarm alone? It forgets all but a few positions. The model makes of fifty trainings what other methods
    need a hundred for, and takes milliseconds of the master's time for each.

    It begins with what the archive knows of the same problem, if a job does not say ``archive: false``: the best of
    that is its first trial, and nothing else of it is asked for again.

    Trials may have several losses, one for each target. Each trial then draws weights of them at random, and the model
    looks for what is best by these, so that the trials of a search lie along the front.

    Who moves when depends on the order of the results, so other workers give another run; a journal, which holds that
    order, is taken up without computing anything, on any machine.

    Source: our own method. Kennedy and Eberhart, Particle Swarm Optimization, 1995; Song et al., The Vizier Gaussian
    Process Bandit Algorithm, 2024; Ament et al., Unexpected Improvements to Expected Improvement, 2023.

    Attributes:
        trials: Number of trials; fewer, if the space has no more configurations.
        particles: Size of the swarm.
        moves: Moves of the swarm that are drawn for a trial, 1 or more.
        near: Changes of good positions that are drawn for a trial.
        anywhere: Positions anywhere that are drawn for a trial.
        refine: How many times the best candidates are changed a little, for better ones.
        limit: Results that the model knows; of more, the best half of so many and the latest, at least 20.

    Raises:
        InvalidOptimizer: An option is out of its range.

    Example:
        ::

            >>> from swarm import Real, Space, SurrogatePSO
            >>> optimizer = SurrogatePSO(trials=30).start(Space({"x": Real(-5, 5), "y": Real(-5, 5)}), seed=7)
            >>> while not optimizer.done:
            ...     trial = optimizer.ask()
            ...     optimizer.tell(trial, (trial.params["x"] - 2) ** 2 + trial.params["y"] ** 2)
            >>> trial, loss = optimizer.best
            >>> loss < 0.01
            True
    """

    trials: int = 100
    particles: int = 10
    moves: int = 24
    near: int = 96
    anywhere: int = 64
    refine: int = 2
    limit: int = 400

    limits: ClassVar[tuple[str, ...]] = ("trials",)

    def __post_init__(self) -> None:
        super().__post_init__()
        lowest = {"trials": 1, "particles": 1, "moves": 1, "near": 0, "anywhere": 0, "refine": 0, "limit": 20}
        for option, low in lowest.items():
            self._check_integer(option, low=low)

    @property
    def sizes(self) -> dict[str, int]:
        """The particles, the candidates and the results that the model knows."""
        candidates = {"moves": self.moves, "near": self.near, "anywhere": self.anywhere}
        return {"particles": self.particles, **candidates, "limit": self.limit}

    @property
    def planned(self) -> int | None:
        """Number of trials in all, at most."""
        if not self._started:
            return None
        return self.trials if self._space.size is None else min(self.trials, self._space.size)

    @property
    def learns(self) -> bool:
        """True: results of earlier searches are as good as its own."""
        return True

    @property
    def compares(self) -> bool:
        """True: a trial may have several losses; the model weighs them at random, differently for each trial."""
        return True

    @property
    def ponders(self) -> bool:
        """True: the model takes some milliseconds for a trial."""
        return True

    # --- what is known

    def _begin(self) -> None:
        self._snapping = Snapping(self._space)
        self._knowledge = Knowledge(self._snapping.choices, self.limit)
        self._known: set[bytes] = set()  # positions that were told or are under way
        self._configurations, self._is_counted = 1, False  # that the space has at least; whether it has no more
        self._under_way: dict[int, Array] = {}  # positions by trial
        self._swarm: dict[int, tuple[Array, Array]] = {}  # positions and velocities of particles, by number
        self._personal: dict[int, tuple[float, Array]] = {}  # their own bests
        self._swarm_best: tuple[float, Array] | None = None
        self._learned: list[tuple[float, int, Array, Params]] = []  # the best of earlier searches, in order
        self._free = dict.fromkeys(range(self.particles))  # those that nobody evaluates, the longest waiting first
        self._flying: Counter[int] = Counter()  # trials under way by particle
        self._ahead: _Plan | None = None  # the next trial, if it is prepared

    def _accept(self, given: Sequence[Params]) -> None:
        super()._accept(given)
        self._ahead = None

    def _exhausted(self) -> bool:
        return self._asked > 0 and (self._asked >= self.trials or not self._is_more_left())

    def _is_more_left(self) -> bool:
        """Whether the space has a configuration that is neither told nor under way."""
        known = len(self._known)
        if known >= self._configurations and not self._is_counted:
            most = 2 * known + 1000
            self._configurations = count(self._space, most)
            self._is_counted = self._configurations < most
        return known < self._configurations

    def _ask(self) -> Trial:
        plan = self._ahead or self._plan()
        self._ahead = None
        trial = self._trial(plan.params, generation=self._asked // self.particles, member=plan.member, note=plan.note)
        self._place(trial, plan.kernel)
        return trial

    def _take(self, trial: Trial) -> None:
        expected = self._trial(trial.params, generation=self._asked // self.particles, member=trial.member)
        try:
            self._space.check(trial.params)
        except InvalidSpace as error:
            raise JournalMismatch(f"trial {trial.id}, which the space cannot have: {error}") from None
        if trial != expected or trial.member >= self.particles:
            raise self._other(trial, expected)
        theta = (trial.note or {}).get("kernel")
        self._ahead = None
        self._place(trial, None if theta is None else Kernel(np.array(theta), self._snapping.choices))

    def _place(self, trial: Trial, kernel: Kernel | None) -> None:
        """Let a particle be where a trial is."""
        if self._given:  # the plan was of the first of them
            self._next_given()
        i, position = trial.member, self._space.encode(trial.params)
        before = self._swarm.get(i)
        if before is None or not self._guided:
            velocity = self._rng(_VELOCITIES, self._asked).uniform(-_VELOCITY, _VELOCITY, len(position))
        else:
            velocity = position - before[0]
        if kernel is not None:
            self._knowledge.take(kernel)
        self._swarm[i] = position, velocity
        self._known.update(_keys(position[None, :]))
        self._under_way[trial.id] = position
        self._free.pop(i, None)
        self._flying[i] += 1

    def _tell_targets(self, trial: Trial, losses: tuple[float, ...]) -> None:
        i, position = trial.member, self._under_way.pop(trial.id)
        self._ahead = None
        loss = losses[0] if len(losses) == 1 else scalarised(losses)
        self._knowledge.tell(position, loss, losses)
        if loss < (self._personal[i][0] if i in self._personal else math.inf):
            self._personal[i] = loss, position
        if loss < (math.inf if self._swarm_best is None else self._swarm_best[0]):
            self._swarm_best = loss, position
        self._flying[i] -= 1
        if not self._flying[i]:
            del self._flying[i]
            self._free[i] = None

    def _learn(self, params: Params, loss: float, fold: int | None) -> None:
        position = self._space.encode(params)
        self._knowledge.tell(position, loss)
        self._known.update(_keys(position[None, :]))
        insort(self._learned, (loss, self._knowledge.told, position, params), key=lambda known: known[:2])
        del self._learned[self.particles :]
        self._personal = {i: (least, best) for i, (least, _, best, _) in enumerate(self._learned)}
        self._swarm_best = self._personal[0]

    # --- the next trial

    def prepare(self) -> None:
        """Choose the next trial, unless that has been done."""
        self._check_started()
        if self._ahead is None and not self._exhausted():
            self._ahead = self._plan()

    @property
    def _guided(self) -> bool:
        """Whether the model speaks."""
        enough = self._asked + len(self._learned) >= self.particles
        return self._asked > 0 and enough and self._knowledge.succeeded >= _SUCCEEDED

    def _plan(self) -> _Plan:
        """The next trial; nothing changes."""
        rng = self._rng(_ASKS, self._asked)
        member = next(iter(self._free), None)
        if member is None:
            member = int(rng.integers(self.particles))
        if (given := self._first_given()) is not None:
            return _Plan(given, member)
        if not self._guided:
            return _Plan(self._start(rng), member)
        self._knowledge.weigh(rng)
        with one_thread():
            kernel = self._knowledge.fitted() if self._knowledge.is_due else None
            row, note = self._choose(member, kernel or self._knowledge.kernel, rng)
        if kernel is not None:
            note["kernel"] = kernel.theta.tolist()
        return _Plan(self._space.decode(row), member, note, kernel)

    def _choose(self, member: int, kernel: Kernel, rng: np.random.Generator) -> tuple[Array, dict[str, Any]]:
        """Where a particle goes, and what the model says of it: the kind of move, the expected loss and its spread."""
        posterior, losses = self._knowledge.posterior(kernel)
        worth = drawn(rng, float(posterior.means.min()))
        chooser = Chooser(posterior.with_under_way(self._waiting()), worth, self._snapping, rng)
        assert self._swarm_best is not None
        best = self._knowledge.best if self._knowledge.several else self._swarm_best[1]
        bests = np.array([position for _, position in sorted(self._personal.values(), key=lambda known: known[0])])
        own = self._personal[member][1] if member in self._personal else None
        particle = Particle(*self._swarm.get(member, (best if own is None else own, np.zeros(len(best)))), own)
        chooser.add("particle", moves(particle, best, bests, self.moves, rng))
        lowest = np.argsort(posterior.means, kind="stable")[:_CENTRES]
        centres = np.unique(np.vstack([self._knowledge.rows(lowest), bests[:_LEADERS]]), axis=0)
        chooser.add("near", near(centres, self.near, self._knowledge.told, self._snapping, rng))
        chooser.add("anywhere", self._snapping.anywhere(rng, self.anywhere))
        chooser.refine(self.refine)
        found = chooser.best(self._unknown)
        while found is None:
            chooser.add("anywhere", self._left(rng))
            found = chooser.best(self._unknown)
        row, kind, mean, deviation = found
        if self._knowledge.several:  # what it expects is of no one target
            return row, {"move": kind}
        return row, {"move": kind, "expected": losses.loss(mean), "spread": losses.difference(deviation)}

    def _waiting(self) -> Array:
        """Positions under way, the latest, as many as the model may know."""
        rows = list(self._under_way.values())[-self.limit :]
        return np.array(rows).reshape(-1, self._space.dimensions)

    def _start(self, rng: np.random.Generator) -> Params:
        """What was the best before, the defaults or the middle, then points that fill the space; none that is known."""
        begins = self._asked == self._taken_of_given  # with the first of its own
        if begins and self._learned:
            return self._learned[0][3]  # the archive answers it; and so the best is a trial of this search
        if begins:
            return self._space.defaults() or self._space.decode([0.5] * self._space.dimensions)
        rows = self._snapping(sobol(self._space.dimensions, self._asked - 1, self._rng(_START, 0)))
        return self._space.decode((rows if self._unknown(rows).any() else self._left(rng))[0])

    def _unknown(self, rows: Array) -> NDArray[np.bool_]:
        """Which of the rows are neither told nor under way, and allowed."""
        unknown = np.array([key not in self._known for key in _keys(rows)], dtype=bool)
        if not self._space.constraints:
            return unknown
        allows, decoded = self._space.allows, self._space.unconstrained
        return np.array([new and allows(decoded(row)) for new, row in zip(unknown, rows, strict=True)], dtype=bool)

    def _left(self, rng: np.random.Generator) -> Array:
        """Positions, an array (m, d), that are neither told nor under way."""
        for _ in range(_TRIES):
            rows = self._snapping.anywhere(rng, max(self.anywhere, 64))
            if (unknown := self._unknown(rows)).any():
                return np.asarray(rows[unknown])
        if self._space.constraints:  # perhaps they leave little
            rows = np.stack([self._space.encode(self._space.sample(rng)) for _ in range(_TRIES)])
            if (unknown := self._unknown(rows)).any():
                return np.asarray(rows[unknown])
        every = (self._space.encode(params)[None, :] for params in Configurations(self._space))
        return np.vstack(list(islice((row for row in every if self._unknown(row)[0]), 64)))


def _keys(rows: Array) -> list[bytes]:
    """What is equal for rows that are: a real number decoded and encoded again may differ in its last bit."""
    return [row.tobytes() for row in np.round(rows, _DECIMALS) + 0.0]
