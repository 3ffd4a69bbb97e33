"""How the slots of a cluster are divided: between its users by weight, then between the jobs of each by weight.

Whole slots follow the weights at every moment; what is left of a slot goes round, so that the slot seconds of the
users, and of the jobs of each, follow their weights in the long run (stride scheduling: Waldspurger and Weihl, 1995).
A job that wants less than its share leaves the rest to the other jobs of its user, and a user to the other users.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

K = TypeVar("K")
_NIL = 1e-9  # slots, that rounding may make of none


@dataclass(eq=False)
class Claim:
    """A claim to slots: that of a user, or as a :class:`Share` that of a job.

    Attributes:
        weight: Its share is in proportion to this.
        seconds: Slot seconds that it has had.
    """

    weight: float = 1.0
    seconds: float = field(default=0.0, kw_only=True)

    def weigh(self, weight: float) -> None:
        """Have another weight from now on: its turn does not come sooner or later for the time before."""
        self.seconds *= weight / self.weight
        self.weight = weight

    def begin_at(self, turn: float) -> None:
        """Have no credit for the time before this turn."""
        self.seconds = max(self.seconds, turn * self.weight)

    @property
    def turn(self) -> float:
        """Slot seconds by weight: whose are fewest, has the next turn."""
        return self.seconds / self.weight


@dataclass(eq=False)
class Share(Claim):
    """One job's claim to slots.

    Attributes:
        weight: Its share is in proportion to this, beside the other jobs of its user.
        most: It never has more slots than this; None is no limit.
        grain: It takes so many slots at a time, all or none.
        closed: Its search has not begun to take slots, or takes no more.
        paused: It gets no slots now.
        hungry: It would take more slots than it has.
        used: Slots that it has.
        user: The claim of its user; all shares without one are the same user's.
        seconds: Slot seconds that it has had.
    """

    most: int | None = None
    grain: int = 1
    closed: bool = False
    paused: bool = False
    hungry: bool = True
    used: int = 0
    user: Claim | None = None

    def charge(self, seconds: float) -> None:
        """Charge slot seconds to the job and to its user."""
        self.seconds += seconds
        if self.user is not None:
            self.user.seconds += seconds

    def takes(self, given: int) -> bool:
        """Whether a slot more would be of use to it, once it has these beside those that it uses."""
        takes_part = self.hungry and not self.paused and not self.closed
        return takes_part and (self.most is None or self.used + given + self.grain <= self.most)

    @property
    def wants(self) -> bool:
        """Whether a free slot would be of use to it."""
        return self.takes(0)

    @property
    def active(self) -> bool:
        """Whether it has slots or wants some."""
        return self.wants or self.used > 0


def entitlements(shares: Collection[Share], slots: int) -> dict[Share, float]:
    """The slots, whole and in part, that each job should have: by weight, but no more than it wants.

    Args:
        shares: The jobs.
        slots: Number of slots to divide, busy ones included.
    """
    entitled = dict.fromkeys(shares, 0.0)
    users = _by_user(share for share in shares if share.active)
    weights = {user: _weight(user) for user in users}
    limits = {user: sum(map(_limit, jobs)) for user, jobs in users.items()}
    for user, part in _divide(weights, limits, slots).items():
        jobs = users[user]
        entitled |= _divide({job: job.weight for job in jobs}, {job: _limit(job) for job in jobs}, part)
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
    everybody = _by_user(shares)
    rivals = [_Rival(user, everybody[user], jobs, entitled) for user, jobs in _by_user(wanting).items()]
    earliest = min((rival.turn for rival in rivals), default=0.0)
    while free:
        next_jobs = [(rival, job) for rival in rivals if (job := rival.next(given)) is not None]
        if not next_jobs:
            break
        rival, first = min(next_jobs, key=lambda pair: pair[0].rank(pair[1].grain, earliest))
        if first.grain > free:
            break
        given[first] += first.grain
        rival.used += first.grain
        free -= first.grain
    return given


class _Rival:
    """A user among others, while free slots are divided.

    Args:
        user: Its claim.
        jobs: All its jobs.
        wanting: Those that want slots.
        entitled: What each job should have.
    """

    def __init__(
        self, user: Claim | None, jobs: list[Share], wanting: list[Share], entitled: Mapping[Share, float]
    ) -> None:
        self.used = sum(job.used for job in jobs)
        self.turn = 0.0 if user is None else user.turn
        self._weight = _weight(user)
        self._entitled = sum(entitled[job] for job in jobs)
        self._limits = {job: _limit(job) for job in jobs if job.active}
        self._wanting = wanting
        self._earliest = min(job.turn for job in wanting)

    def next(self, given: Mapping[Share, int]) -> Share | None:
        """Which of its jobs gets its next slots, if any takes some.

        They divide whole slots: those that the user has at all times, or has with the next one. So the part of a slot
        that goes round between users goes round between a user's jobs, too.
        """
        takers = [job for job in self._wanting if job.takes(given[job])]
        if len(takers) < 2:
            return takers[0] if takers else None
        slots = max(math.floor(self._entitled + _NIL), self.used + 1)
        parts = _divide({job: job.weight for job in self._limits}, self._limits, slots)
        return min(takers, key=lambda job: self._rank_of(job, given[job], parts[job]))

    def _rank_of(self, job: Share, given: int, part: float) -> tuple[int, float, float]:
        return _rank(job.used + given, part, job.grain, job.turn, job.weight, self._earliest)

    def rank(self, grain: int, earliest: float) -> tuple[int, float, float]:
        """Its rank among the users, if its next job takes so many slots at a time."""
        return _rank(self.used, self._entitled, grain, self.turn, self._weight, earliest)


def _rank(
    used: int, entitled: float, grain: int, turn: float, weight: float, earliest: float
) -> tuple[int, float, float]:
    """Who comes first: those that lack a whole slot, then those that lack a part of one, then the others.

    One whose grain is more than it should ever have at once is before all of them, when it has the earliest turn.
    """
    if used == 0 and entitled < grain > 1 and turn <= earliest:
        return -1, turn, 0.0
    if used + grain <= entitled + _NIL:
        return 0, used / weight, turn
    if used < entitled:
        return 1, turn, used / weight
    return 2, used / weight, turn


def _divide(weights: Mapping[K, float], limits: Mapping[K, float], slots: float) -> dict[K, float]:
    """Slots by weight, but to nobody more than its limit: what one leaves goes to the others."""
    parts = dict.fromkeys(limits, 0.0)
    open_ = dict(limits)
    left = slots
    while open_ and left > 0:
        total = sum(weights[each] for each in open_)
        content = [each for each, limit in open_.items() if limit <= left * weights[each] / total]
        if not content:
            parts |= {each: left * weights[each] / total for each in open_}
            break
        for each in content:
            parts[each] = open_.pop(each)
        left = slots - sum(parts.values())
    return parts


def _by_user(shares: Iterable[Share]) -> dict[Claim | None, list[Share]]:
    users: dict[Claim | None, list[Share]] = {}
    for share in shares:
        users.setdefault(share.user, []).append(share)
    return users


def _weight(user: Claim | None) -> float:
    return 1.0 if user is None else user.weight


def _limit(share: Share) -> float:
    if not share.wants:
        return share.used
    return math.inf if share.most is None else share.most
