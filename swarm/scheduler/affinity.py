"""In the scheduler: a training that continues another goes to the machine that has the other's checkpoint."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

from distributed import Scheduler

from swarm.pool.task_names import CONTINUES

_REMEMBERED = 10_000


class Affinity:
    """Where trainings ended, and a preference for a free slot of that machine.

    The machine keeps a copy of what was saved on it (:class:`~swarm.workers.checkpoints.cache.Copies`), and the
    file in its page cache.
    It is a preference among free slots only: nothing waits for a machine. Dask's own way, a dependency on the earlier
    task, would have it run that task again when its worker is gone.

    Args:
        scheduler: The scheduler of the tasks.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._hosts: OrderedDict[str, str] = OrderedDict()  # machine, by the task that ended on it
        self._bound: set[str] = set()  # tasks that wait to be given to a worker of the machine that was chosen

    def prefer(self, annotations: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Bind new tasks, before Dask chooses their workers.

        Args:
            annotations: Of the new tasks: values by task, by annotation.
        """
        for task, earlier in annotations.get(CONTINUES, {}).items():
            if near := self._near(task, earlier):
                self._scheduler.tasks[task].worker_restrictions = near
                self._bound.add(task)

    def transition(self, task: str, start: str, finish: str, worker: str | None) -> None:
        """A task has changed its state."""
        if task in self._bound and finish != "waiting":
            self._bound.discard(task)  # it has a worker; should it need another one, any will do
            self._scheduler.tasks[task].worker_restrictions = set()
        ours = self._scheduler.tasks[task].resource_restrictions  # what has none is no training
        if ours and start == "processing" and finish == "memory" and worker in self._scheduler.workers:
            self._hosts[task] = self._scheduler.workers[worker].host
            if len(self._hosts) > _REMEMBERED:
                self._hosts.popitem(last=False)

    def _near(self, task: str, earlier: Iterable[str]) -> set[str]:
        """Addresses of the workers that can run it now, on the machine of the first of these tasks that has any."""
        needed = self._scheduler.tasks[task].resource_restrictions or {}
        for host in dict.fromkeys(self._hosts[one] for one in earlier if one in self._hosts):
            addresses = self._scheduler.host_info.get(host, {}).get("addresses", ())
            workers = [self._scheduler.workers[address] for address in addresses]
            free = {
                worker.address
                for worker in workers
                if worker in self._scheduler.running
                and len(worker.processing) < worker.nthreads
                and all(
                    worker.resources.get(name, 0) - worker.used_resources.get(name, 0) >= amount
                    for name, amount in needed.items()
                )
            }
            if free:
                return free
        return set()
