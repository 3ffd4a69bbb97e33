"""An evaluation that is in flight on a Dask cluster, and the names that its tasks have there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from distributed import Future

from swarm.pool.task_names import dask_key
from swarm.trial import Evaluation, Result, Status

if TYPE_CHECKING:
    from swarm.pool.tenant import Tenant


@dataclass(eq=False)
class InFlight:
    """An evaluation that Dask has: usually one pool waits for it; two, if two jobs came to the same position.

    Its replicas, if there are several, have a Dask task each. The first opens a line and invites the others, and its
    result is the training's. All slots are taken from the beginning, so the others find theirs free.

    Attributes:
        evaluation: What is evaluated.
        resource: Class of the slots that it has.
        send: Sends a task of it to Dask, by name.
        future: Of the evaluation, or its first replica.
        others: Of the replicas but the first.
        pools: Who waits for it; the first one pays.
        hopeless: Who would end it early, and by which metric.
        since: When its slots were last charged, by the monotonic clock.
        place: Address of its worker, as the reports say it.
    """

    evaluation: Evaluation
    resource: str
    send: Callable[..., Future]
    future: Future
    others: list[Future] = field(default_factory=list)
    pools: list[Tenant] = field(default_factory=list)
    hopeless: dict[Tenant, str] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)
    place: str | None = None

    @property
    def size(self) -> int:
        """Slots that it takes."""
        return self.evaluation.replicas

    def invite(self, invitation: Mapping[str, Any]) -> None:
        """Send the other replicas to the first; the name is of this attempt, for those of another may still run."""
        name = dask_key(self.evaluation)
        self.others = [
            self.send(f"{name}-{rank}-{invitation['attempt']}", invitation={**invitation, "rank": rank})
            for rank in range(1, self.size)
        ]

    def charge(self) -> None:
        """Charge the slot seconds since the last time to the pool that pays."""
        if self.pools:
            now = time.monotonic()
            self.pools[0].share.charge(self.size * (now - self.since))
            self.since = now

    def settle(self) -> None:
        """The pool that pays has these slots no more."""
        self.charge()
        if self.pools:
            self.pools[0].share.used -= self.size

    def deliver(self, result: Result) -> None:
        """Tell all who wait how it ended.

        One's pruning, or a failure for which the configuration is not to blame, says nothing to another: who has only
        joined it trains that itself.
        """
        for pool in self.pools:
            if self._concerns(pool, result):
                pool.deliver(result)
            else:
                error = "the job that had begun it has no answer for another"
                ended = replace(result, status=Status.CANCELLED, fitness=None, error=error, metrics={}, curve=())
                pool.deliver(ended)

    def _concerns(self, pool: Tenant, result: Result) -> bool:
        if result.status is Status.PRUNED:
            return pool in self.hopeless or not self.hopeless  # then another master has ended it
        return result.status is not Status.FAILED or result.answers_others or pool is self.pools[0]
