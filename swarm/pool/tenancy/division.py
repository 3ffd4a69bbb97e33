"""The slots of a cluster, divided between the pools on them: each is woken when there are slots that it may take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from swarm.pool.fair_share import Claim, allot

if TYPE_CHECKING:
    from swarm.pool.tenancy.tenant import Tenant


class Division:
    """Who takes part, with whose claims, and what each may take now.

    Args:
        total: Number of slots of a class.
        used: Number of those that something runs on.
        charge: Charges what runs to the pools that pay for it, up to this moment.
    """

    def __init__(self, total: Callable[[str], int], used: Callable[[str], int], charge: Callable[[], None]) -> None:
        self._total = total
        self._used = used
        self._charge = charge
        self._pools: list[Tenant] = []
        self._users: dict[str, dict[str, Claim]] = {}  # claims to the slots of a class, by its name and theirs
        self._weights: dict[str, float] = {}  # of the users, where it is not 1
        self._allowed: dict[Tenant, int] | None = None
        self._dividing = False

    # --- who takes part

    def join(self, pool: Tenant) -> None:
        """A pool begins to take part."""
        self.level(pool)
        self._pools.append(pool)
        self.divide()

    def leave(self, pool: Tenant) -> None:
        """A pool takes part no more."""
        if pool in self._pools:
            self._pools.remove(pool)
        self.divide()

    def shared(self, pool: Tenant) -> bool:
        """Whether other pools have slots of its class or want some."""
        others = [each for each in self._pools if each is not pool and each.resource == pool.resource]
        return any(each.share.active for each in others)

    def level(self, pool: Tenant) -> None:
        """Give a pool no credit for the time before, beside those that use slots of its class; nor its user."""
        self._charge()
        share = pool.share
        others = [each.share for each in self._pools if each.resource == pool.resource and each is not pool]
        active = [other for other in others if other.active]
        mine = [other.turn for other in active if other.user is share.user]
        share.begin_at(min(mine, default=0.0))
        if share.user is not None and not mine:
            latest = max((claim.turn for claim in self._users.get(pool.resource, {}).values()), default=0.0)
            share.user.begin_at(min((other.user.turn for other in active if other.user), default=latest))

    def user(self, name: str, resource: str) -> Claim:
        """The claim of a user to the slots of a class, which the shares of all the user's jobs name."""
        claims = self._users.setdefault(resource, {})
        return claims.setdefault(name, Claim(self._weights.get(name, 1.0)))

    def weigh(self, user: str, weight: float) -> None:
        """Have a user's share in the slots be in proportion to this weight from now on."""
        self._charge()
        self._weights[user] = weight
        for claims in self._users.values():
            if user in claims:
                claims[user].weigh(weight)
        self.divide()

    # --- what each may take

    def allowed(self, pool: Tenant) -> int:
        """How many more slots the pool may take now."""
        if self._allowed is None:
            self._allowed = self._divided()
        return self._allowed.get(pool, 0)

    def outdate(self) -> None:
        """What each was allowed counts no more."""
        self._allowed = None

    def divide(self) -> None:
        """Divide the free slots again, since something has changed, and wake those who may take some."""
        self.outdate()
        if not self._dividing:
            self._dividing = True
            asyncio.get_running_loop().call_soon(self._wake_entitled)

    def wake_all(self) -> None:
        """Wake those as well who may take none: there are other slots than before."""
        for pool in self._pools:
            pool.wake()
        self.divide()

    def _divided(self) -> dict[Tenant, int]:
        allowed: dict[Tenant, int] = {}
        for wanted in {pool.resource for pool in self._pools}:
            pools = {pool.share: pool for pool in self._pools if pool.resource == wanted}
            total = self._total(wanted)
            given = allot(pools, total, max(0, total - self._used(wanted)))
            allowed.update({pools[share]: count for share, count in given.items()})
        return allowed

    def _wake_entitled(self) -> None:
        self._dividing = False
        for pool in self._pools:
            if self.allowed(pool) and pool.share.wants:
                pool.wake()
