"""An evaluation that is in flight on a Dask cluster, and how it is sent there."""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import dask
from distributed import Client, Future, fire_and_forget

from swarm.pool.task_names import CONTINUES, dask_key, task_name
from swarm.trial import Evaluation, Result, Status

if TYPE_CHECKING:
    from swarm.pool.tenancy.tenant import Tenant

_LARGE = 1_000_000  # bytes of code, far below what Dask has something to say about
_filtering = threading.Lock()


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


def sent(
    client: Client,
    task: Callable[..., Result],
    pool: Tenant,
    evaluation: Evaluation,
    outlive: bool,
    key: str,
    *args: Any,
    **options: Any,
) -> Future:
    """A task of an evaluation, as Dask has it now: its scheduler sends it to a worker that has a slot.

    Args:
        client: The client that sends it.
        task: What a worker runs: ``task(problem, evaluation, *args, **options) -> Result``.
        pool: Whose evaluation it is.
        evaluation: What is evaluated.
        outlive: It goes on when this process dies.
        key: Dask's name of the task.
        *args: What else the task is handed.
        **options: What else the task is handed by name.
    """
    earlier = [evaluation.parent, *evaluation.donors]
    continues = {CONTINUES: [task_name("fitness", one) for one in earlier if one is not None]}
    annotated = dask.annotate(**continues) if continues[CONTINUES] else contextlib.nullcontext()
    with annotated, _without_dasks_advice(len(pool.problem)):
        future = client.submit(  # Dask joins an equal key that runs, whoever submitted it
            task,
            pool.problem,
            evaluation,
            *args,
            key=key,
            resources={pool.resource: 1},
            retries=0,
            pure=False,
            **options,
        )
    if outlive:
        fire_and_forget(future)
    return future


@contextlib.contextmanager
def _without_dasks_advice(size: int) -> Iterator[None]:
    """Dask says at every training that a large graph is sent; we say once what the user can do about it."""
    if size < _LARGE:
        yield
        return
    with _filtering, warnings.catch_warnings():  # which is not safe among threads
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
        yield
