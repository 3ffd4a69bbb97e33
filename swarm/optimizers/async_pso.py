"""Asynchronous particle swarm optimisation: no particle waits for another.

Source: Koh, George, Haftka and Fregly, Parallel asynchronous particle swarm optimization, Int. J. Numer. Meth.
Engng 67 (2006); Venter and Sobieszczanski-Sobieski, Parallel particle swarm optimization algorithm accelerated
by asynchronous evaluations, J. Aerosp. Comput. Inf. Commun. 3 (2006). The swarm is that of :mod:`.pso`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Self

from swarm.optimizers.pso import Swarm
from swarm.trial import Trial


@dataclass(kw_only=True)
class AsyncPSO(Swarm):
    """A swarm in which a particle moves as soon as its own result is told and a slot asks for its next position.

    It is drawn to its own best and to the swarm's best of that moment, strictly better losses only; no slot ever
    idles at a generation's barrier. The particles take their turns in the order in which their results were told,
    and ``ask`` gives None only while all of them are being evaluated.

    Who moves when depends on the order of the results, so other workers give another run; a journal, which holds
    that order, replays exactly, since the random numbers belong to a particle and its turn. With one slot it is
    the in-place swarm, ``PSO(update="in_place")``, trial for trial.

    The trials are as many as those of :class:`~swarm.optimizers.pso.PSO`, s·(G + 1), but a fast particle takes more
    turns than a slow one: ``Trial.member`` is the particle, ``Trial.generation`` counts the trials asked in units of
    s. A particle whose evaluation failed moves on; while no trial has succeeded it starts over at random.

    Source: Koh et al., Parallel asynchronous particle swarm optimization, 2006; Venter and Sobieszczanski-Sobieski,
    2006.

    Attributes:
        particles: Size s of the swarm; more slots than that stay idle.
        generations: Number G of moves per particle on average: s·(G + 1) trials.
        inertia: Share w of the velocity that is kept, 0 to 1, or up to 2 if it falls.
        inertia_decay: Factor of the inertia from one turn of a particle to its next, above 0 up to 1.
        inertia_end: What the inertia does not fall below.
        cognitive: Greatest pull φ_p towards the particle's own best.
        social: Greatest pull φ_g towards the swarm's best.
        velocity: Initial velocity: ``halfway``, ``uniform``, ``literal`` or ``zero``, as for PSO.
        bounds: Where a particle leaves the cube: ``clip``, ``reflect`` or ``unbounded``, as for PSO.
        max_velocity: Largest step per dimension, as a share of its range, or None.
        defaults: Whether particle 0 starts at the defaults of the space.
        known: What becomes of a configuration that this run has asked for before: ``again`` or ``answer``, as for PSO.

    Raises:
        InvalidOptimizer: An option is out of its range, or unbounded particles would fly away.

    Example:
        While five particles are being trained, the sixth moves on as soon as its own result is there::

            >>> from swarm import AsyncPSO, Real, Space
            >>> optimizer = AsyncPSO(particles=6, generations=30).start(Space({"x": Real(-5, 5)}), seed=7)
            >>> flying = [optimizer.ask() for _ in range(6)]
            >>> optimizer.ask() is None
            True
            >>> optimizer.tell(flying[3], 0.25)
            >>> optimizer.ask().member
            3
    """

    inertia_decay: float = 1.0
    inertia_end: float = 0.0

    @classmethod
    def koh(cls, *, particles: int = 6, generations: int = 100) -> Self:
        """After Koh et al.: φ = 2 and 2, steps of half a range at most, an inertia that falls from 1.

        They lower the inertia a little whenever the swarm's best has not improved for a while; here it falls by 1 %
        with every turn.
        """
        return cls(
            particles=particles,
            generations=generations,
            inertia=1.0,
            inertia_decay=0.99,
            cognitive=2.0,
            social=2.0,
            velocity="uniform",
            max_velocity=0.5,
        )

    @classmethod
    def venter(cls, *, particles: int = 6, generations: int = 100) -> Self:
        """After Venter and Sobieszczanski-Sobieski: φ = 1.5 and 2.5, an inertia that falls from 1.4 to 0.35."""
        return cls(
            particles=particles,
            generations=generations,
            inertia=1.4,
            inertia_decay=0.975,
            inertia_end=0.35,
            cognitive=1.5,
            social=2.5,
            velocity="uniform",
        )

    def _check_inertia(self) -> None:
        self._check_real("inertia_decay", 0, 1, above=True)
        self._check_real("inertia", 0, 1 if self.inertia_decay == 1 else 2)
        self._check_real("inertia_end", 0, self.inertia)

    def _inertia(self, turn: int) -> float:
        falls = max(0, turn - 1)  # the first move still has all of it
        return max(self.inertia_end, self.inertia * self.inertia_decay**falls)

    def _begin(self) -> None:
        super()._begin()
        self._ready = deque(range(self.particles))  # particles that nobody evaluates, the longest waiting first
        self._turns = [0] * self.particles

    def _exhausted(self) -> bool:
        return self._asked >= self.particles * (self.generations + 1)

    def _ask(self) -> Trial | None:
        if not self._ready:
            return None
        i = self._ready.popleft()
        params = self._place(i, turn=self._turns[i])
        self._turns[i] += 1
        return self._trial(params, generation=self._asked // self.particles, member=i)

    def _tell(self, trial: Trial, loss: float) -> None:
        self._loss[trial.member] = loss
        self._credit(trial.member)
        self._ready.append(trial.member)
