"""Parallel particle swarm optimisation, synchronous, with variants; and what every swarm shares.

Source: Hyper-Parameter Selection in Deep Neural Networks Using Parallel Particle Swarm Optimization: the
swarm's initial state and equations 1 and 2, Algorithm 1 (serial, ``update="in_place"``) and the parallel
algorithm (``update="sync"``). :meth:`PSO.report` is the variant of the LeNet-5 report. Stability: Poli, IEEE
Trans. Evol. Comput. 13 (2009). Initial velocities by default: Clerc, Standard Particle Swarm Optimisation, 2012.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from swarm.errors import InvalidOptimizer
from swarm.optimizers.population import Individual, replace_worst
from swarm.optimizers.unrepeated import DRAWS, KICKS, Unrepeated
from swarm.trial import Params, Trial

Array = NDArray[np.float64]
Velocity = Literal["halfway", "uniform", "literal", "zero"]
Bounds = Literal["clip", "reflect", "unbounded"]
Local = Literal["personal", "iteration"]
Update = Literal["sync", "in_place"]

KICK = 0.1
"""Standard deviation of a push, in the cube."""


@dataclass(kw_only=True)
class Swarm(Unrepeated):
    """Particles in the unit cube: how they start, how they move and what they remember.

    A turn of a particle is its first position (turn 0) or one move. Random numbers belong to a turn and a particle, and
    go on where what was drawn is known. Which particle moves when is for the subclasses to say: :class:`PSO` and
    :class:`~swarm.optimizers.async_pso.AsyncPSO`, which describe the options.
    """

    particles: int = 6
    generations: int = 100
    inertia: float = 0.7298
    cognitive: float = 1.49618
    social: float = 1.49618
    velocity: Velocity = "halfway"
    bounds: Bounds = "clip"
    max_velocity: float | None = None
    defaults: bool = False

    limits: ClassVar[tuple[str, ...]] = ("generations",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_inertia()
        self._check_integer("particles", low=1)
        self._check_integer("generations", low=0)
        self._check_real("cognitive", 0)
        self._check_real("social", 0)
        self._check_one_of("velocity", *get_args(Velocity))
        self._check_one_of("bounds", *get_args(Bounds))
        if self.max_velocity is not None:
            self._check_real("max_velocity", 0, above=True)
        if self.bounds == "unbounded":
            self._check_settles("unbounded particles fly away", "take bounds clip or reflect", limit=1 + 1e-9)

    def _check_inertia(self) -> None:
        self._check_real("inertia", 0, 1)

    def _check_settles(self, trouble: str, remedy: str, limit: float) -> None:
        """Refuse what relies on a swarm that settles if its second moments do not shrink in the end."""
        radius = spectral_radii(self._inertia(self.generations), self.cognitive, self.social)[1]
        if radius > limit:
            raise InvalidOptimizer(
                f"{type(self).__name__}: {trouble} (spectral radius {radius:.4f}): "
                f"lower inertia, cognitive or social, or {remedy}"
            )

    @property
    def sizes(self) -> dict[str, int]:
        """The particles."""
        return {"particles": self.particles}

    @property
    def planned(self) -> int | None:
        """s·(G + 1) trials, at most."""
        return self.particles * (self.generations + 1) if self._started else None

    def _begin(self) -> None:
        if self.defaults and self._space.defaults() is None:
            raise InvalidOptimizer(
                f"{type(self).__name__}: defaults needs a default of every parameter; give those that are missing"
            )
        shape = self.particles, self._space.dimensions
        self._x: Array = np.zeros(shape)  # positions, in the cube
        self._v: Array = np.zeros(shape)  # velocities, per turn
        self._loss: Array = np.full(self.particles, math.inf)  # of the positions
        self._personal: Array = np.zeros(shape)  # best position of each particle, if its loss is finite
        self._personal_loss: Array = np.full(self.particles, math.inf)
        self._swarm: Array = np.zeros(shape[1])  # best position of all, if its loss is finite
        self._swarm_loss = math.inf

    def _inertia(self, turn: int) -> float:
        """Inertia of a particle's turn."""
        return self.inertia

    def _place(self, i: int, turn: int) -> Params:
        """Give a particle the position of its turn, and say which configuration is there: none that is known.

        Where a constraint refuses it, the particle goes to the one near by that is tried instead.
        """
        rng, x, v = self._rng(turn, i), self._x[i].copy(), self._v[i].copy()
        if (given := self._next_given()) is not None:
            self._take_turn(i, turn, rng)  # with its velocity
            self._x[i] = self._space.encode(given)
            return given
        for attempt in range(DRAWS + KICKS):
            if attempt < DRAWS:
                self._x[i], self._v[i] = x, v
                self._take_turn(i, turn, rng)
            else:
                self._kick(i, rng)
            params = self._space.decode(self._x[i])
            if not self._is_known(params):
                if self._space.constraints and not self._space.allows(self._space.unconstrained(self._x[i])):
                    self._x[i] = self._space.encode(params)
                return params
        params = dict(self._any_left(rng))
        self._x[i] = self._space.encode(params)
        return params

    def _take_turn(self, i: int, turn: int, rng: np.random.Generator) -> None:
        """Put a particle anywhere at first, and while there is no best to be drawn to; else move it."""
        if turn == 0 or math.isinf(self._swarm_loss):
            self._scatter(i, turn, rng)
        else:
            self._move(i, turn, rng)

    def _scatter(self, i: int, turn: int, rng: np.random.Generator) -> None:
        ends = self._space.ends
        self._x[i] = rng.random(self._space.dimensions)  # ~ U(b_l, b_u)
        known = self._space.defaults() if self.defaults and turn == i == 0 else None
        if known is not None:
            self._x[i] = self._space.encode(known)
        width = ends[1] - ends[0]
        if self.velocity == "halfway":
            self._v[i] = (rng.random(width.size) - self._x[i]) / 2  # ~ U(b_l − x, b_u − x) / 2, in cubes
        elif self.velocity == "uniform":
            self._v[i] = rng.uniform(-width, width) / width  # ~ U(−(b_u − b_l), b_u − b_l), in cubes
        elif self.velocity == "literal":
            self._v[i] = rng.uniform(*ends) / width  # ~ U(b_l, b_u), in cubes

    def _move(self, i: int, turn: int, rng: np.random.Generator) -> None:
        x, v, p = self._x[i], self._v[i], self._attractor(i)
        rp, rg = rng.random(x.size), rng.random(x.size)  # ~ U(0, 1), per dimension
        weights = self._inertia(turn), self.cognitive, self.social
        x, v = move(x, v, p, self._swarm, rp, rg, *weights, limit=self.max_velocity or math.inf)
        self._x[i], self._v[i] = confine(x, v, self.bounds)

    def _kick(self, i: int, rng: np.random.Generator) -> None:
        """Push a particle, whose moves all lead to where it was, along one to three dimensions."""
        d = self._space.dimensions
        pushed = rng.choice(d, size=min(d, int(rng.integers(1, 4))), replace=False)
        x = self._x[i].copy()
        x[pushed] += rng.normal(0.0, KICK, size=len(pushed))  # ~ N(0, 0.1²)
        self._x[i], self._v[i] = confine(x, self._v[i], self.bounds)

    def _attractor(self, i: int) -> Array:
        """What φ_p pulls particle i to: its own best, or where it is (no pull) while it has none."""
        attractors: Array = self._personal if self._personal_loss[i] < math.inf else self._x
        return np.asarray(attractors[i])

    def _credit(self, i: int) -> None:
        """Make the particle's position its own best and the swarm's if it is strictly better."""
        if self._loss[i] < self._personal_loss[i]:
            self._personal[i], self._personal_loss[i] = self._x[i], self._loss[i]
        if self._loss[i] < self._swarm_loss:
            self._swarm, self._swarm_loss = self._x[i].copy(), float(self._loss[i])


@dataclass(kw_only=True)
class PSO(Swarm):
    """A swarm of particles in the unit cube, each drawn to its own best position and to that of the swarm.

    A generation moves every particle once and evaluates it; its trials may all run at the same time, and
    ``ask`` gives None until the last of them is told. Only then, in the order of the particles, are the bests
    updated, and only by strictly better losses. Random numbers belong to a generation and a particle, so
    that any number of workers gives the same run.

    While no trial has succeeded there is nothing to be drawn to, and every particle starts over at random. A
    particle without a best of its own is drawn to the swarm's alone.

    Source: Hyper-Parameter Selection in Deep Neural Networks Using Parallel Particle Swarm Optimization, equations 1
    and 2.

    Attributes:
        particles: Size s of the swarm.
        generations: Number G of moves after the initial evaluation: s·(G + 1) trials.
        inertia: Share w of the velocity that is kept, 0 to 1. The default constants are Clerc and Kennedy's
            (2002), with which the swarm settles late enough to be worth its trainings; the paper's are 0.5 throughout.
        cognitive: Greatest pull φ_p towards the particle's own best.
        social: Greatest pull φ_g towards the swarm's best.
        velocity: Initial velocity, per dimension with bounds b_l and b_u: ``halfway`` to a random position, as in the
            Standard PSO of 2007, so that no first move ends at a wall; ``uniform`` in ±(b_u − b_l), as in the paper;
            ``literal`` between b_l and b_u themselves (of the logarithms if logarithmic; 0 and n for n options); or
            ``zero``.
        bounds: Where a particle leaves the cube: ``clip`` puts it on the wall and stops that component,
            ``reflect`` lets it bounce, ``unbounded`` lets it go and clips what is trained.
        max_velocity: Largest step per dimension, as a share of its range, or None.
        defaults: Whether particle 0 starts at the defaults of the space: a known network to be bettered.
        known: Where a particle comes to a configuration that this run has asked for before: ``again`` draws r_p and
            r_g again (after 8 times it is pushed on by chance), so that each trial is a training of its own; ``answer``
            has the archive answer, as in the paper.
        local: What φ_p pulls to: the ``personal`` best, or the best of the last ``iteration``.
        update: ``sync`` updates the bests after a generation; ``in_place`` after each particle, so that the
            next one already sees them: one trial at a time.
        stop_velocity: Stop once every particle moves less than this (Euclidean norm, in the cube), or None.

    Raises:
        InvalidOptimizer: An option is out of its range, or the swarm would not settle and the options need it
            to.

    Example:
        A job takes the method, ``optimizer=PSO(particles=6)``. Without a job it is a loop of ``ask`` and ``tell``::

            >>> from swarm import PSO, Real, Space
            >>> optimizer = PSO(particles=6, generations=30).start(Space({"x": Real(-5, 5)}), seed=7)
            >>> while not optimizer.done:
            ...     trial = optimizer.ask()
            ...     optimizer.tell(trial, (trial.params["x"] - 2) ** 2)
            >>> trial, loss = optimizer.best
            >>> round(trial.params["x"], 1)
            2.0
    """

    local: Local = "personal"
    update: Update = "sync"
    stop_velocity: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_one_of("local", *get_args(Local))
        self._check_one_of("update", *get_args(Update))
        if self.stop_velocity is not None:
            self._check_real("stop_velocity", 0, above=True)
            self._check_settles("the swarm may never slow to stop_velocity", "leave that out", limit=1 - 1e-9)

    @classmethod
    def paper(cls, **options: Any) -> PSO:
        """Exactly the paper's form: w = φ_p = φ_g = 0.5, v_0 ~ U(b_l − b_u, b_u − b_l), and the archive answers.

        The swarm settles within ten to twenty generations, and the archive, which answers where a particle was before,
        then answers most of its trials.

        Args:
            **options: Other options, or others than these.
        """
        paper = {"inertia": 0.5, "cognitive": 0.5, "social": 0.5, "velocity": "uniform", "known": "answer"}
        return cls(**{**paper, **options})

    @classmethod
    def report(cls) -> PSO:
        """The variant of the LeNet-5 report: 5 particles, φ = 2 and 2, at rest at first, 20 evaluations each.

        Its criterion norm(v) < ε is left out: with these constants the swarm is on the edge of stability.
        """
        return cls.paper(particles=5, generations=19, cognitive=2.0, social=2.0, velocity="zero")

    @property
    def generational(self) -> bool:
        """True: a generation is asked after the one before is told."""
        return True

    @property
    def completed(self) -> int:
        """Number of generations that have been told in full."""
        return self._generation if self._started else 0

    def members(self) -> list[Individual]:
        """The last complete generation: every particle where it was then."""
        self._check_started()
        return list(self._members)

    def immigrate(self, newcomer: Individual) -> None:
        """Take in a position: the particle that is worst now moves there, before the swarm moves on."""
        self._check_started()
        i = replace_worst(self._members, newcomer)
        self._x[i], self._loss[i] = self._space.encode(newcomer.trial.params), newcomer.loss
        self._credit(i)

    def _begin(self) -> None:
        super()._begin()
        self._flown: dict[int, Individual] = {}  # told of this generation, by particle
        self._members: list[Individual] = []
        self._iteration: Array | None = None  # best position of the last generation that has one
        self._generation = self._next = self._told = 0  # the next particle to move; told of this generation
        self._settled = False

    def _exhausted(self) -> bool:
        return self._settled or self._generation > self.generations

    def _ask(self) -> Trial | None:
        i = self._next
        if i == self.particles or (self.update == "in_place" and self._told < i):
            return None
        params = self._place(i, turn=self._generation)
        self._next += 1
        return self._trial(params, generation=self._generation, member=i)

    def _tell(self, trial: Trial, loss: float) -> None:
        self._loss[trial.member] = loss
        self._flown[trial.member] = Individual(trial, loss, (trial.params,))
        self._told += 1
        if self.update == "in_place":
            self._credit(trial.member)
        if self._told == self.particles:
            self._end_generation()

    def _attractor(self, i: int) -> Array:
        if self.local == "iteration" and self._iteration is not None:
            return self._iteration
        return super()._attractor(i)

    def _end_generation(self) -> None:
        if self.update == "sync":
            for i in range(self.particles):
                self._credit(i)
        first = int(self._loss.argmin())  # the lowest index among equals
        if self._loss[first] < math.inf:
            self._iteration = self._x[first].copy()
        if self.stop_velocity is not None and self._generation > 0 and self._swarm_loss < math.inf:
            self._settled = bool(np.linalg.norm(self._v, axis=1).max() < self.stop_velocity)
        self._members, self._flown = [self._flown[i] for i in range(self.particles)], {}
        self._generation += 1
        self._next = self._told = 0


def move(
    x: Array,
    v: Array,
    p: Array,
    s: Array,
    rp: Array,
    rg: Array,
    w: float,
    cp: float,
    cg: float,
    *,
    limit: float = math.inf,
) -> tuple[Array, Array]:
    """One step of a particle, or of a swarm: arrays (d,), or (s, d) and what goes with them.

    Args:
        x: Position.
        v: Velocity.
        p: Local attractor, the particle's own best.
        s: The swarm's best.
        rp: Random numbers ~ U(0, 1) of the local pull.
        rg: Random numbers ~ U(0, 1) of the social pull.
        w: Inertia.
        cp: Cognitive constant φ_p.
        cg: Social constant φ_g.
        limit: Largest absolute velocity per dimension.

    Returns:
        The new position and the new velocity.
    """
    v = np.clip(w * v + cp * rp * (p - x) + cg * rg * (s - x), -limit, limit)  # equation 1
    return x + v, v  # equation 2


def confine(x: Array, v: Array, bounds: Bounds) -> tuple[Array, Array]:
    """Position and velocity after the walls of the unit cube had their say (the option ``bounds``).

    Args:
        x: Position, any shape.
        v: Velocity, of the same shape.
        bounds: ``clip``, ``reflect`` or ``unbounded``; see :class:`PSO`.

    Returns:
        The new position and the new velocity.
    """
    if bounds == "clip":
        return np.clip(x, 0.0, 1.0), np.where((x < 0.0) | (x > 1.0), 0.0, v)
    if bounds == "reflect":
        way = np.mod(x, 2.0)  # 0 → 1 is there, 1 → 2 is back
        return np.minimum(way, 2.0 - way), np.where(way > 1.0, -v, v)
    return x, v


def spectral_radii(inertia: float, cognitive: float, social: float) -> tuple[float, float]:
    """By which factors a generation multiplies the mean and the mean square distance from a fixed attractor.

    With p = s = 0 the position follows x₊ = l·x − w·x₋, where l = 1 + w − φ_p·r_p − φ_g·r_g. The mean obeys
    z² − E[l]·z + w = 0, and the matrix below multiplies the second moments (E[x²], E[x₋²], E[x·x₋]). A swarm
    settles if both factors are below 1; for φ_p = φ_g that is φ_p + φ_g < 24·(1 − w²)/(7 − 5·w) (Poli).

    Args:
        inertia: Inertia w.
        cognitive: Cognitive constant φ_p.
        social: Social constant φ_g.

    Returns:
        Spectral radii of order 1 and of order 2.
    """
    w = inertia
    mean = 1.0 + w - (cognitive + social) / 2.0  # E[l]
    square = mean**2 + (cognitive**2 + social**2) / 12.0  # E[l²]: the variance of U(0, 1) is 1/12
    first = np.array([[mean, -w], [1.0, 0.0]])
    second = np.array([[square, w**2, -2.0 * w * mean], [1.0, 0.0, 0.0], [mean, 0.0, -w]])
    return _spectral_radius(first), _spectral_radius(second)


def _spectral_radius(matrix: Array) -> float:
    return float(np.abs(np.linalg.eigvals(matrix)).max())
