"""Who may read and steer which jobs: their owners, administrators, and those with whom a job is shared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from swarm.errors import NotAllowed
from swarm.service.hosted import Hosted, Means
from swarm.service.protocol import MASTER
from swarm.service.published.job_state import is_shared


class Access:
    """The rights of the users.

    Args:
        means: What all jobs of the master use.
        hosted: The jobs that the master runs, by name.
        admins: Who may steer everybody's jobs, beside the master itself.
        shared: Everybody may read everybody's jobs.

    Attributes:
        readers: Who alone may read everybody's jobs, in order; None if everybody may.
    """

    def __init__(self, means: Means, hosted: Mapping[str, Hosted], *, admins: Iterable[str], shared: bool) -> None:
        self._means = means
        self._store = means.store
        self._hosted = hosted
        self._admins = frozenset({*admins, MASTER})
        self._shared = shared
        self.readers = None if shared else sorted(self._admins)

    def is_admin(self, user: str) -> bool:
        """Whether a user may do what administrators alone may."""
        return user in self._admins

    async def owner_of(self, name: str) -> str | None:
        """Whose job it is; None if there is none of that name."""
        if (hosted := self._hosted.get(name)) is not None:
            return hosted.submission.owner
        submission = await self._means.in_store(lambda: self._store.submission(name))
        return None if submission is None else submission.owner

    def reader(self, user: str) -> str | None:
        """Whose jobs alone a user may read; None if everybody's."""
        return None if self._shared or user in self._admins else user

    def may_read(self, owner: str | None, user: str) -> bool:
        """Whether a user may read a job of that owner which is shared with nobody."""
        return self.reader(user) in (None, owner)

    async def check_reader(self, name: str, user: str) -> None:
        """Refuse to have somebody read a job who may not.

        Raises:
            NotAllowed: It is somebody else's, and not shared.
            JobNotFound: There is none of that name.
        """
        owner = await self.owner_of(name)
        if self.may_read(owner, user) and owner is not None:
            return
        hosted = self._hosted.get(name)
        stored = await self._means.in_store(lambda: self._store.job(name)) if hosted is None else hosted.stored
        if not self.may_read(owner, user) and not is_shared(stored):
            raise NotAllowed(
                f"job {name!r} is not yours to read, {user!r}: ask {owner or 'an administrator'}, or have it submitted "
                "with shared: true, or the master configured with swarm.shared"
            )

    def check_owner(self, owner: str, name: str, user: str) -> None:
        """Refuse to have somebody steer a job of another's.

        Raises:
            NotAllowed: The user is neither its owner nor an administrator.
        """
        if user != owner and user not in self._admins:
            raise NotAllowed(f"job {name!r} belongs to {owner!r}, and you are {user!r}: ask them, or an administrator")
