"""How much of the service one user may take, and all users together: jobs, their code, and requests that wait.

Who the user is, only a certificate proves: without TLS the limits per user hold for those who give their own name, and
the limits in all hold for everybody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from swarm.config import Settings
from swarm.errors import QuotaExceeded


@dataclass(frozen=True)
class Quotas:
    """The limits; the settings of the same names say more.

    Attributes:
        max_jobs: Jobs that have not ended.
        max_jobs_per_user: Those of one user.
        max_code: Bytes of the code of jobs that have not ended; what several of a user's jobs share counts once.
        max_code_per_user: Those of one user.
        max_requests: Requests that wait for the master's answer.
        max_requests_per_user: Those of one user.
        max_request_bytes: Bytes of the requests that wait.
        max_request_bytes_per_user: Those of one user.
    """

    max_jobs: int
    max_jobs_per_user: int
    max_code: int
    max_code_per_user: int
    max_requests: int
    max_requests_per_user: int
    max_request_bytes: int
    max_request_bytes_per_user: int

    @classmethod
    def of(cls, settings: Settings) -> Quotas:
        """Those that the settings name."""
        return cls(**{name: int(getattr(settings, name)) for name in cls.__dataclass_fields__})


class Holdings:
    """What the jobs that have not ended take, by user.

    Args:
        quotas: The limits.
    """

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        self._jobs: dict[str, tuple[str, int]] = {}  # user and code of each job
        self._counts: Counter[str] = Counter()  # jobs by user
        self._shared: Counter[tuple[str, int]] = Counter()  # jobs of a user that have this code
        self._sizes: dict[tuple[str, int], int] = {}
        self._bytes: Counter[str] = Counter()  # by user

    def check(self, user: str, code: bytes) -> None:
        """See whether a user may have one job more.

        Args:
            user: Who submits it.
            code: Its pickled problem.

        Raises:
            QuotaExceeded: Not now; nothing has changed.
        """
        quotas, jobs = self._quotas, "that have not ended"
        cure = "wait until one has ended, or cancel one: swarm cancel JOB"
        mine = self._counts[user], quotas.max_jobs_per_user
        _check(mine, 1, f"jobs of {user!r} {jobs}", "swarm.max-jobs-per-user", "master", cure)
        everybodys = len(self._jobs), quotas.max_jobs
        _check(everybodys, 1, f"jobs {jobs}", "swarm.max-jobs", "master", cure)
        more = 0 if (user, hash(code)) in self._sizes else len(code)
        cure = f"let trainings load their data on the workers, not carry them in the code, or {cure}"
        mine = self._bytes[user], quotas.max_code_per_user
        _check(mine, more, f"bytes of code in jobs of {user!r} {jobs}", "swarm.max-code-per-user", "master", cure)
        everybodys = self._bytes.total(), quotas.max_code
        _check(everybodys, more, f"bytes of code in jobs {jobs}", "swarm.max-code", "master", cure)

    def hold(self, job: str, user: str, code: bytes) -> None:
        """A job is there, whatever the limits are."""
        self.release(job)
        entry = user, hash(code)
        self._jobs[job] = entry
        self._counts[user] += 1
        self._shared[entry] += 1
        if entry not in self._sizes:
            self._sizes[entry] = len(code)
            self._bytes[user] += len(code)

    def release(self, job: str) -> None:
        """A job has ended; nothing if it has not been there."""
        entry = self._jobs.pop(job, None)
        if entry is None:
            return
        user = entry[0]
        self._counts[user] -= 1
        self._shared[entry] -= 1
        if not self._shared[entry]:
            self._bytes[user] -= self._sizes.pop(entry)
            del self._shared[entry]
        if not self._counts[user]:
            del self._counts[user], self._bytes[user]


class Backlog:
    """The requests that wait for the master's answer, by user.

    Args:
        quotas: The limits.
    """

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        self._counts: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._all = 0
        self._all_bytes = 0

    def __len__(self) -> int:
        return self._all

    @contextmanager
    def waiting(self, user: str, size: int) -> Iterator[None]:
        """While a request waits.

        Args:
            user: Who asks.
            size: Bytes of the request.

        Raises:
            QuotaExceeded: Too many wait.
        """
        self._check(user, size)
        self._add(user, 1, size)
        try:
            yield
        finally:
            self._add(user, -1, -size)

    def _add(self, user: str, count: int, size: int) -> None:
        self._counts[user] += count
        self._bytes[user] += size
        self._all += count
        self._all_bytes += size
        if not self._counts[user]:
            del self._counts[user], self._bytes[user]

    def _check(self, user: str, size: int) -> None:
        quotas, what, cure = self._quotas, "requests that wait for the master", "try again when it has answered some"
        mine, mine_bytes = self._counts[user], self._bytes[user]
        for now, more, limit, whose, setting in (
            (mine, 1, quotas.max_requests_per_user, f"{what}, of {user!r}", "max-requests-per-user"),
            (self._all, 1, quotas.max_requests, what, "max-requests"),
            (
                mine_bytes,
                size,
                quotas.max_request_bytes_per_user,
                f"bytes of {what}, of {user!r}",
                "max-request-bytes-per-user",
            ),
            (self._all_bytes, size, quotas.max_request_bytes, f"bytes of {what}", "max-request-bytes"),
        ):
            _check((now, limit), more, whose, f"swarm.{setting}", "scheduler", cure)


def _check(found: tuple[int, int], more: int, what: str, setting: str, where: str, cure: str) -> None:
    """Refuse what would exceed a limit: ``found`` is how many there are, and how many there may be."""
    now, limit = found
    if now + more > limit:
        asked = "this one" if more == 1 else f"{more} more"
        raise QuotaExceeded(
            f"there are {now} {what}, and with {asked} there would be more than the limit of {limit} ({setting}): "
            f"{cure}; or raise the setting in the {where}'s configuration"
        )
