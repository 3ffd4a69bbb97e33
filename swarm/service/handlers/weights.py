"""What weight each user has in the division of the slots; the store keeps it, and administrators change it."""

from __future__ import annotations

from typing import Any

from swarm.errors import NotAllowed
from swarm.service.handlers.access import Access
from swarm.service.hosted import Means
from swarm.service.requests import Weigh


class Weights:
    """The weights of the users.

    Args:
        means: What all jobs of the master use.
        access: Who is an administrator.

    Attributes:
        known: The weights that are not 1, by the user's name.
    """

    def __init__(self, means: Means, access: Access) -> None:
        self._means = means
        self._store = means.store
        self._access = access
        self.known: dict[str, float] = {}

    async def load(self) -> None:
        """Have the slots divided by the weights that the store has."""
        self.known = await self._means.in_store(self._store.weights)
        for user, weight in self.known.items():
            self._means.slots.weigh(user, weight)

    async def weigh(self, request: Weigh, user: str) -> dict[str, Any]:
        """Give a user another weight; the weights that are not 1 then."""
        if not self._access.is_admin(user):
            raise NotAllowed(
                f"only administrators weigh users, and you are {user!r}: ask one, or ask the one who runs the master "
                "to name you in its setting swarm.admins"
            )

        def weighed() -> dict[str, float]:
            self._store.set_weight(request.user, request.weight)
            return self._store.weights()

        self.known = await self._means.in_store(weighed)
        self._means.slots.weigh(request.user, request.weight)
        return {"weights": self.known}
