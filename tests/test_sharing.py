"""Dividing slots between users and their jobs: at every moment by weight, and in the long run by slot seconds."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable

import pytest

from swarm.pool.dask_pool import DaskPool
from swarm.pool.fair_share import Claim, Share, allot, entitlements
from swarm.pool.slots import Slots
from swarm.pool.tenancy.division import Division
from swarm.trial import Result, Status


def test_a_single_job_may_use_all_slots() -> None:
    share = Share()
    assert allot([share], slots=8, free=8) == {share: 8}


def test_slots_follow_the_weights() -> None:
    one, three = Share(weight=1), Share(weight=3)
    assert allot([one, three], slots=8, free=8) == {one: 2, three: 6}


def test_who_wants_less_leaves_the_rest_to_the_others() -> None:
    sated, one, two = Share(weight=5, hungry=False, used=1), Share(), Share(weight=2)
    assert entitlements([sated, one, two], slots=7) == pytest.approx({sated: 1, one: 2, two: 4})
    assert allot([sated, one, two], slots=7, free=6) == {sated: 0, one: 2, two: 4}


def test_nobody_exceeds_its_limit_or_gets_slots_while_paused() -> None:
    limited, paused, other = Share(weight=9, most=2), Share(paused=True), Share()
    assert allot([limited, paused, other], slots=8, free=8) == {limited: 2, paused: 0, other: 6}


def test_a_newcomer_gets_every_slot_that_comes_free_until_it_has_its_share() -> None:
    old, new = Share(used=8), Share()
    for freed in range(4):
        old.used -= 1
        assert allot([old, new], slots=8, free=1) == {old: 0, new: 1}, freed
        new.used += 1
    old.used -= 1
    assert allot([old, new], slots=8, free=1) == {old: 1, new: 0}


def test_slots_that_nobody_wants_stay_free() -> None:
    share = Share(hungry=False)
    assert allot([share], slots=4, free=4) == {share: 0}


@pytest.mark.parametrize("slots", [1, 2, 5, 8])
def test_slot_seconds_follow_the_weights_whatever_the_number_of_slots(slots: int) -> None:
    """Two jobs of weights 1 and 3, trainings of random lengths, the second's three times as long."""
    rng = random.Random(slots)
    shares = [Share(weight=1), Share(weight=3)]
    running: list[tuple[float, int, float]] = []
    now = 0.0
    while now < 4000:
        for number, count in enumerate(allot(shares, slots, slots - len(running)).values()):
            for _ in range(count):
                seconds = rng.uniform(1, 4) * (3 if number else 1)
                heapq.heappush(running, (now + seconds, number, seconds))
                shares[number].used += 1
        now, number, seconds = heapq.heappop(running)
        shares[number].used -= 1
        shares[number].seconds += seconds
    assert shares[1].seconds / shares[0].seconds == pytest.approx(3, rel=0.1)


def test_another_weight_brings_no_turn_forward_and_puts_none_back() -> None:
    share = Share(weight=1, seconds=36_000.0)
    turn = share.turn
    share.weigh(10)
    assert (share.weight, share.turn) == (10, turn)


async def test_a_pause_and_coming_late_give_no_credit_beside_others_of_the_same_class() -> None:
    slots = Slots(None, None, topic="results")  # type: ignore[arg-type]  # nothing is sent
    busy, paused, late = (DaskPool(slots, b"") for _ in range(3))
    elsewhere = DaskPool(slots, b"", resource="GPU-0.5")
    slots.join(elsewhere)
    slots.join(busy)
    slots.join(paused)
    paused.pause()
    busy.share.used, busy.share.seconds = 1, 18_000.0
    elsewhere.share.used, elsewhere.share.seconds = 1, 10.0
    paused.pause(False)
    slots.join(late)
    assert paused.share.seconds == late.share.seconds == 18_000


# --- jobs that take several slots at a time


def test_a_job_of_pairs_gets_pairs_and_leaves_the_odd_slot() -> None:
    pairs, other = Share(grain=2), Share(hungry=False)
    assert allot([pairs, other], slots=5, free=5) == {pairs: 4, other: 0}
    limited = Share(grain=2, most=5)
    assert allot([limited], slots=8, free=8) == {limited: 4}
    never = Share(grain=2, most=1)
    assert allot([never], slots=8, free=8) == {never: 0}


def test_slots_that_a_pair_waits_for_are_not_given_away_meanwhile() -> None:
    single, pairs = Share(used=3, seconds=100.0), Share(grain=2)
    assert allot([single, pairs], slots=4, free=1) == {single: 0, pairs: 0}
    single.used = 2
    assert allot([single, pairs], slots=4, free=2) == {single: 0, pairs: 2}


def test_a_job_that_needs_more_slots_than_there_are_keeps_nobody_waiting() -> None:
    single, many = Share(), Share(grain=9)
    assert allot([single, many], slots=4, free=4) == {single: 4, many: 0}


@pytest.mark.parametrize(("slots", "grain"), [(2, 2), (3, 2), (4, 2), (4, 3), (8, 4)])
def test_jobs_of_single_slots_and_of_several_share_the_slot_seconds_and_none_waits_for_ever(
    slots: int, grain: int
) -> None:
    rng = random.Random(slots)
    shares = [Share(), Share(grain=grain)]
    running: list[tuple[float, int, float]] = []
    now = 0.0
    while now < 4000:
        for share, count in allot(shares, slots, slots - sum(each.used for each in shares)).items():
            for _ in range(count // share.grain):
                seconds = rng.uniform(1, 4)
                heapq.heappush(running, (now + seconds, shares.index(share), seconds))
                share.used += share.grain
        now, number, seconds = heapq.heappop(running)
        shares[number].used -= shares[number].grain
        shares[number].seconds += shares[number].grain * seconds
    single, several = (share.seconds for share in shares)
    assert 0.75 < several / single < 1.35
    assert single + several > 0.6 * slots * now  # what is left waits for the several to come together


# --- between users first, then between the jobs of each


def test_a_user_has_the_same_share_with_one_job_and_with_twenty() -> None:
    ann, bob = Claim(), Claim()
    many, one = [Share(user=ann) for _ in range(20)], Share(user=bob)
    given = allot([*many, one], slots=8, free=8)
    assert given[one] == sum(given[job] for job in many) == 4
    assert entitlements([*many, one], slots=8)[one] == 4


def test_slots_follow_the_weights_of_the_users_and_those_of_each_ones_jobs_by_priority() -> None:
    ann, bob = Claim(3), Claim(1)
    low, high, other = Share(1, user=ann), Share(2, user=ann), Share(1000, user=bob)
    assert allot([low, high, other], slots=12, free=12) == {low: 3, high: 6, other: 3}


def test_what_a_job_does_not_want_its_user_s_other_jobs_get_and_what_those_do_not_want_the_other_users() -> None:
    ann, bob, eve = Claim(), Claim(), Claim()
    limited, open_ = Share(most=1, user=ann), Share(user=ann)
    others = [Share(user=bob), Share(user=eve)]
    assert entitlements([limited, open_, *others], slots=12) == {limited: 1, open_: 3, others[0]: 4, others[1]: 4}
    open_.paused = True
    assert entitlements([limited, open_, *others], slots=13) == {limited: 1, open_: 0, others[0]: 6, others[1]: 6}
    alone = Share(user=ann)
    assert allot([alone, Share(paused=True, user=bob)], slots=8, free=8)[alone] == 8


def test_a_new_user_gets_every_slot_that_comes_free_until_it_has_its_share() -> None:
    ann, bob = Claim(), Claim()
    old, new = [Share(used=2, user=ann) for _ in range(4)], Share(user=bob)
    for freed in range(4):
        old[freed].used -= 1
        assert allot([*old, new], slots=8, free=1)[new] == 1, freed
        new.used += 1
    old[0].used -= 1
    assert allot([*old, new], slots=8, free=1)[old[0]] == 1


@pytest.mark.parametrize("slots", [1, 2, 5, 8])
def test_the_slot_seconds_of_users_follow_their_weights_whatever_jobs_they_have(slots: int) -> None:
    """Ann, of weight 2, has two jobs of priorities 1 and 3; Bob, of weight 1, has six, of longer trainings."""
    rng = random.Random(slots)
    ann, bob = Claim(2), Claim(1)
    shares = [Share(1, user=ann), Share(3, user=ann), *(Share(5, user=bob) for _ in range(6))]
    now = simulated(shares, slots, until=12_000, draw=lambda share: rng.uniform(1, 4) * (1 + 2 * (share.user is bob)))
    assert ann.seconds / bob.seconds == pytest.approx(2, rel=0.1)
    assert shares[1].seconds / shares[0].seconds == pytest.approx(3, rel=0.15)
    assert ann.seconds + bob.seconds > 0.99 * slots * now


@pytest.mark.parametrize(("slots", "grain"), [(2, 2), (3, 2), (4, 3), (8, 4)])
def test_a_job_of_several_slots_is_not_kept_out_by_its_user_s_others_nor_by_those_of_others(
    slots: int, grain: int
) -> None:
    rng = random.Random(slots)
    ann, bob = Claim(), Claim()
    shares = [Share(user=ann), Share(user=ann), Share(user=bob), Share(grain=grain, user=bob)]
    now = simulated(shares, slots, until=8000, draw=lambda _: rng.uniform(1, 4))
    assert 0.7 < ann.seconds / bob.seconds < 1.8  # slots that wait for the several are lost to Bob alone
    assert shares[3].seconds > 0.15 * bob.seconds
    assert ann.seconds + bob.seconds > 0.6 * slots * now


def simulated(shares: list[Share], slots: int, *, until: float, draw: Callable[[Share], float]) -> float:
    """Trainings one after the other, of the lengths that are drawn; the time at the end."""
    running: list[tuple[float, int, float]] = []
    now = 0.0
    while now < until:
        for share, count in allot(shares, slots, slots - sum(each.used for each in shares)).items():
            for _ in range(count // share.grain):
                seconds = draw(share)
                heapq.heappush(running, (now + seconds, shares.index(share), seconds))
                share.used += share.grain
        now, number, seconds = heapq.heappop(running)
        shares[number].used -= shares[number].grain
        shares[number].charge(shares[number].grain * seconds)
    return now


def test_the_jobs_of_a_single_user_share_as_jobs_without_a_user_do() -> None:
    rng = random.Random(17)
    for _ in range(2000):
        slots = rng.randint(1, 9)
        drawn = [
            {
                "weight": rng.choice([0.5, 1, 3]),
                "most": rng.choice([None, 2, 5]),
                "grain": rng.choice([1, 1, 2, 3]),
                "paused": rng.random() < 0.1,
                "hungry": rng.random() < 0.8,
                "used": rng.randint(0, 2),
                "seconds": rng.uniform(0, 9),
            }
            for _ in range(rng.randint(1, 6))
        ]
        user, free = Claim(rng.uniform(0.1, 9), seconds=rng.uniform(0, 9)), rng.randint(0, slots)
        mine, nobodys = [Share(**each, user=user) for each in drawn], [Share(**each) for each in drawn]
        given = [list(allot(shares, slots, free).values()) for shares in (mine, nobodys)]
        assert given[0] == given[1], drawn


async def test_a_user_who_comes_late_or_back_has_no_credit_and_no_debt_for_the_time_alone() -> None:
    slots = Slots(None, None, topic="results")  # type: ignore[arg-type]  # nothing is sent

    def joined(user: str) -> DaskPool:
        pool = DaskPool(slots, b"", share=Share(user=slots.user(user)))
        slots.join(pool)
        return pool

    first = joined("ann")
    first.share.charge(18_000.0)
    late = joined("bob")
    assert late.share.user.turn == 18_000, "Bob waited for nothing while he was away"
    second = joined("ann")
    assert second.share.seconds == 18_000
    assert second.share.user is first.share.user
    for pool in (first, second):
        slots.leave(pool)
    late.share.charge(5000.0)
    slots.leave(late)
    after = joined("eve")  # when nobody is there
    assert joined("ann").share.user.turn == after.share.user.turn == 23_000


async def test_a_user_s_weight_holds_for_the_jobs_that_are_there_and_that_come_and_brings_no_turn_forward() -> None:
    slots = Slots(None, None, topic="results")  # type: ignore[arg-type]  # nothing is sent
    here, half = slots.user("ann"), slots.user("ann", "GPU-0.5")
    here.seconds = 600.0
    slots.weigh("ann", 4.0)
    assert (here.weight, here.turn, half.weight) == (4.0, 600.0, 4.0)
    assert slots.user("ann") is here
    assert slots.user("ann", "GPU-2").weight == 4.0
    assert slots.user("bob").weight == 1.0


async def test_a_slot_that_comes_free_while_a_search_writes_is_offered_to_it() -> None:
    """It has seen none and goes to wait; nobody wakes it for what was there before it waits."""
    busy = 1
    slots = Slots(None, None, topic="results")  # type: ignore[arg-type]  # nothing is sent
    slots._division = Division(lambda _: 1, lambda _: busy, lambda: None)
    pool = DaskPool(slots, b"")
    slots.join(pool)
    await turns()
    assert pool.free() == 0
    busy = 0
    slots._division.outdate()
    async with asyncio.timeout(5):
        assert await pool.next() == []
    assert pool.free() == 1


async def test_a_slot_that_a_search_leaves_goes_to_another_and_comes_back_with_the_next_result() -> None:
    slots = Slots(None, None, topic="results")  # type: ignore[arg-type]  # nothing is sent
    slots._division = Division(lambda _: 1, lambda _: 0, lambda: None)
    content, other = DaskPool(slots, b""), DaskPool(slots, b"")
    slots.join(content)
    await turns()
    for _ in range(2):  # the first one told it that it has joined
        assert content.free() == 1
        waiting = asyncio.ensure_future(content.next())
        await turns()
    assert not waiting.done()
    slots.join(other)
    await turns()
    assert (content.free(), other.free()) == (0, 1)
    result = Result(key="k", status=Status.OK, fitness=1.0)
    other.share.seconds = 9.0
    content.deliver(result)
    assert await waiting == [result]
    slots.divide()
    assert (content.free(), other.free()) == (1, 0)


async def turns() -> None:
    """Let the loop do what it has to do."""
    for _ in range(5):
        await asyncio.sleep(0)
