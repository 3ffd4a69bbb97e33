"""How the slots of a cluster are divided between the jobs that run on it: by weight, at once, and over time.

Whole slots follow the weights at every moment; what is left of a slot goes round, so that the slot seconds of the
jobs follow their weights in the long run (stride scheduling: Waldspurger and Weihl, 1995). A job that wants less than
its share leaves the rest to the others.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(eq=False)
class Share:
    """One job's claim to slots.

    Attributes:
        weight: Its share is in proportion to this.
        most: It never has more slots than this; None is no limit.
        grain: It takes so many slots at a time, all or none.
        closed: Its search has not begun to take slots, or takes no more.
        paused: It gets no slots now.
        hungry: It would take more slots than it has.
        used: Slots that it has.
        seconds: Slot seconds that it has had.
    """

    weight: float = 1.0
    most: int | None = None
    grain: int = 1
    closed: bool = False
    paused: bool = False
    hungry: bool = True
    used: int = 0
    seconds: float = 0.0

    def weigh(self, weight: float) -> None:
        """Have another weight from now on: its turn does not come sooner or later for the time before."""
        self.seconds *= weight / self.weight
        self.weight = weight

    @property
    def turn(self) -> float:
        """Slot seconds by weight: whose are fewest, has the next turn."""
        return self.seconds / self.weight

    @property
    def wants(self) -> bool:
        """Whether a free slot would be of use to it."""
        takes_part = self.hungry and not self.paused and not self.closed
        return takes_part and (self.most is None or self.used + self.grain <= self.most)


def entitlements(shares: Collection[Share], slots: int) -> dict[Share, float]:
    """The slots, whole and in part, that each job should have: by weight, but no more than it wants.

    Args:
        shares: The jobs.
        slots: Number of slots to divide, busy ones included.
    """
    entitled = dict.fromkeys(shares, 0.0)
    limits = {share: _limit(share) for share in shares if share.wants or share.used}
    left = float(slots)
    while limits and left > 0:
        total = sum(share.weight for share in limits)
        content = [share for share, limit in limits.items() if limit <= left * share.weight / total]
        if not content:
            entitled.update({share: left * share.weight / total for share in limits})
            break
        for share in content:
            entitled[share] = limits.pop(share)
        left = slots - sum(entitled.values())
    return entitled


def allot(shares: Collection[Share], slots: int, free: int) -> dict[Share, int]:
    """How many of the free slots each job may take now, in multiples of its grain.

    Whose turn it is may need more slots than are free. The free ones then wait for it, and it starts as others end:
    nobody else takes them in between, so that jobs of a finer grain do not keep it out for ever.

    Args:
        shares: The jobs.
        slots: Number of all slots.
        free: Number of free ones among them.
    """
    given = dict.fromkeys(shares, 0)
    wanting = [share for share in shares if share.wants and share.grain <= slots]  # others wait for more workers
    if len(wanting) == 1:  # the usual case, at every training's end
        only = wanting[0]
        most = min(free, free if only.most is None else only.most - only.used)
        given[only] = most - most % only.grain
        return given
    entitled = entitlements(shares, slots) if wanting else {}
    earliest = min((share.turn for share in wanting), default=0.0)
    while free:
        wanting = [each for each in wanting if each.most is None or each.used + given[each] + each.grain <= each.most]
        if not wanting:
            break
        first = min(wanting, key=lambda share: _rank(share, share.used + given[share], entitled[share], earliest))
        if first.grain > free:
            break
        given[first] += first.grain
        free -= first.grain
    return given


def _rank(share: Share, used: int, entitled: float, earliest: float) -> tuple[int, float, float]:
    """Who comes first: jobs that lack a whole slot, then those that lack a part of one, then the others.

    A job whose grain is more than it should ever have at once is before all of them, when it has the earliest turn.
    """
    if used == 0 and entitled < share.grain > 1 and share.turn <= earliest:
        return -1, share.turn, 0.0
    if used + share.grain <= entitled + 1e-9:
        return 0, used / share.weight, share.turn
    if used < entitled:
        return 1, share.turn, used / share.weight
    return 2, used / share.weight, share.turn


def _limit(share: Share) -> float:
    if not share.wants:
        return share.used
    return math.inf if share.most is None else share.most
