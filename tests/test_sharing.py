"""Dividing slots between jobs: at every moment by weight, and in the long run by slot seconds."""

from __future__ import annotations

import heapq
import random

import pytest

from swarm.pool.dask_pool import DaskPool
from swarm.pool.fair_share import Share, allot, entitlements
from swarm.pool.slots import Slots


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
